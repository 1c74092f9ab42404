"""Data that Python gives has a fingerprint on record: other data is refused at a resume, and named by verify and replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset, TensorDataset

import stepwell
from stepwell.core.errors import DataError
from stepwell.engine.records.event_log import read_events

X = torch.linspace(-1, 1, 96).view(48, 2)
Y = (X[:, 0] > 0).long()


def model() -> nn.Module:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.1, 0.2], [0.3, -0.1]]))
        layer.bias.zero_()
    return layer


def fit(out: Path, data: Any = (X, Y), budget: str = "12 steps", **settings: Any) -> Any:
    recipe = stepwell.Recipe(objective="cross_entropy", optimizer={"name": "sgd", "lr": 0.1}, batch_size=8)
    return stepwell.fit(
        model(), data, recipe=recipe, budget=budget, out=out, existing="resume", checkpoint_every="4 steps", **settings
    )


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["data"]
    return found


def one_changed(tensor: Tensor) -> Tensor:
    changed = tensor.clone()
    changed[7] = 1 - changed[7]
    return changed


OTHER: dict[str, dict[str, Any]] = {
    "an input": {"data": (one_changed(X), Y), "val": (X, Y)},
    "a target": {"data": (X, one_changed(Y)), "val": (X, Y)},
    "the order": {"data": (X.flip(0), Y.flip(0)), "val": (X, Y)},
    "the validation data": {"data": (X, Y), "val": (X[:40], Y[:40])},
    "weights": {"data": (X, Y, torch.ones(48)), "val": (X, Y)},
}


@pytest.mark.parametrize("what", OTHER)
def test_a_run_is_not_continued_with_other_data(tmp_path: Path, what: str) -> None:
    fit(tmp_path / "run", val=(X, Y))
    lines = (tmp_path / "run" / "events.jsonl").read_bytes()
    with pytest.raises(DataError, match="the data has changed"):
        fit(tmp_path / "run", **OTHER[what])
    assert (tmp_path / "run" / "events.jsonl").read_bytes() == lines
    assert fit(tmp_path / "run", val=(X.numpy(), Y.tolist())).steps == 12  # the same, held otherwise


def test_verify_and_replay_name_other_data_and_compute_nothing(tmp_path: Path) -> None:
    fit(tmp_path / "run")
    found = stepwell.verify(tmp_path / "run", model=model(), data=(one_changed(X), Y))
    assert (found.verdict, [cause.path for cause in found.causes]) == ("changed", ["data.fingerprint"])
    assert found.compared.num_rows == 0
    with pytest.raises(DataError, match="the data has changed"):
        stepwell.replay(tmp_path / "run", model=model(), data=(X, one_changed(Y)))
    assert stepwell.verify(tmp_path / "run", model=model(), data=TensorDataset(X, Y)).verdict == "identical"


def test_what_was_hashed_is_on_record(tmp_path: Path) -> None:
    fit(tmp_path / "run", val=(X, Y))
    found = record(tmp_path / "run")
    assert found["rows"] == {"train": 48, "validation": 48}
    assert found["hashed"] == {"train": "all rows", "validation": "all rows"}
    assert len(found["fingerprint"]) == 64


def test_data_of_unknown_length_has_no_fingerprint_and_is_taken_as_it_is(tmp_path: Path) -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return zip(X, Y)

    fit(tmp_path / "run", Stream(), budget="6 steps")
    assert record(tmp_path / "run")["fingerprint"] is None
    assert fit(tmp_path / "run", Stream(), budget="6 steps").steps == 6


def test_a_run_without_a_fingerprint_on_record_goes_on(tmp_path: Path) -> None:
    fit(tmp_path / "run")
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["data"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    assert fit(tmp_path / "run").steps == 12
    assert any(event.kind == "resumed" for event in read_events(tmp_path / "run" / "events.jsonl"))
