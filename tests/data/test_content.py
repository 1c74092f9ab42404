"""The fingerprint of data from Python: what it notices, what it can't, and that it costs a bounded number of bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stepwell.data import content
from stepwell.data.content import content_of, facts_of
from stepwell.data.examples import MapExamples, Subset, TensorExamples
from stepwell.data.from_python import examples_of
from stepwell.data.windows import TokenExamples


def examples(num: int = 40, **changed: Any) -> TensorExamples:
    inputs = torch.arange(num * 3.0).view(num, 3)
    given = {"inputs": {"a": inputs, "b": inputs[:, 0].long()}, "targets": torch.arange(num) % 2, "weights": torch.ones(num)}
    return TensorExamples(**(given | changed))


def other(tensor: Tensor, place: int) -> Tensor:
    changed = tensor.clone()
    changed[place] += 1
    return changed


PLAIN = examples()
CHANGED = {
    "an input": examples(inputs={"a": other(PLAIN.inputs["a"], 17), "b": PLAIN.inputs["b"]}),
    "a target": examples(targets=other(PLAIN.targets, 39)),
    "a weight": examples(weights=other(torch.ones(40), 0)),
    "no weights": examples(weights=None),
    "names": examples(inputs={"a": PLAIN.inputs["a"], "c": PLAIN.inputs["b"]}),
    "a type": examples(targets=PLAIN.targets.int()),
    "the shape": examples(inputs={"a": PLAIN.inputs["a"][:, None], "b": PLAIN.inputs["b"]}),
    "the order": PLAIN.select(torch.arange(39, -1, -1)),
    "a row less": PLAIN.select(torch.arange(39)),
    "minus zero": examples(
        inputs={"a": PLAIN.inputs["a"] * torch.where(PLAIN.inputs["a"] == 0, -1.0, 1.0), "b": PLAIN.inputs["b"]}
    ),
}


@pytest.mark.parametrize("what", CHANGED)
def test_small_data_that_differs_in_one_thing_has_another_fingerprint(what: str) -> None:
    assert content_of(CHANGED[what]).sha256 != content_of(PLAIN).sha256


def test_equal_data_has_one_fingerprint_in_whatever_it_was_held() -> None:
    x = torch.linspace(0, 1, 60).view(20, 3)
    y = (x[:, 0] > 0.5).long()
    wide = torch.zeros(20, 6)
    wide[:, ::2] = x
    held = [(x, y), (x.numpy(), y.numpy()), (x.tolist(), y.tolist()), (wide[:, ::2], y), (x.double().numpy(), y.numpy())]
    found = {content_of(examples_of(each)) for each in held}
    found.add(content_of(Subset(TensorExamples(torch.cat([x, x]), torch.cat([y, y])), torch.arange(20))))
    assert len(found) == 1


def test_of_large_data_a_bounded_number_of_bytes_is_read_with_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MOST_BYTES", 4096)
    monkeypatch.setattr(content, "STRETCHES", 16)
    seen: list[int] = []

    class Watched(TensorExamples):
        def batch(self, index: Tensor) -> Any:
            seen.extend(index.tolist())
            return super().batch(index)

    rows = torch.randn(5000, 4, generator=torch.Generator().manual_seed(0))
    found = content_of(Watched(rows))
    assert found.how == "256 rows in 16 stretches"
    read = seen[1:]  # the first look is at the shapes of a row
    assert len(read) == len(set(read)) == 4096 // 16
    assert (min(read), max(read)) == (0, 4999)
    gaps = np.diff(sorted(read))
    assert gaps.max() <= 5000 // 15 + 1
    for place in (0, 4999, sorted(read)[100]):
        assert content_of(TensorExamples(other(rows, place))).sha256 != found.sha256
    unseen = next(place for place in range(5000) if place not in set(read))
    assert content_of(TensorExamples(other(rows, unseen))).sha256 == found.sha256
    for changed in (rows[:-1], rows.flip(0), rows * 2, torch.cat([rows[1:], rows[:1]])):
        assert content_of(TensorExamples(changed)).sha256 != found.sha256


def test_overlapping_windows_are_hashed_as_they_are_read() -> None:
    tokens = torch.arange(50) % 7
    assert content_of(TokenExamples(tokens, length=5)).sha256 == content_of(TokenExamples(tokens.clone(), length=5)).sha256
    assert content_of(TokenExamples(tokens, length=5)).sha256 != content_of(TokenExamples(tokens, length=6)).sha256
    assert content_of(TokenExamples(tokens, length=5)).sha256 != content_of(TokenExamples(other(tokens, 30), length=5)).sha256


def test_samples_that_a_dataset_makes_are_counted_and_not_read() -> None:
    class Made(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, index: int) -> Any:
            raise AssertionError("read")

    found = content_of(MapExamples(Made()))
    assert (found.num_rows, found.sha256) == (12, None)


def test_facts_have_a_fingerprint_over_all_parts_and_none_where_nothing_is_known() -> None:
    facts = facts_of(PLAIN, CHANGED["a target"])
    assert facts["rows"] == {"train": 40, "validation": 40}
    assert facts["hashed"] == {"train": "all rows", "validation": "all rows"}
    assert len({facts["fingerprint"], *(facts_of(PLAIN, part)["fingerprint"] for part in (None, PLAIN, list))}) == 4
    assert facts_of(iter([]), None)["fingerprint"] is None
