"""Data as stacked rows, and what is said of data that have none."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from stepwell.core.errors import DataError
from stepwell.doctor.rows import MOST_ROWS, Rows, rows_of, tensors, tree

Pair = namedtuple("Pair", ["left", "right"])


class _Made(Dataset[Any]):
    def __init__(self, item: Callable[[int], Any], num_rows: int = 6) -> None:
        self.item, self.num_rows = item, num_rows

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


class _Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield torch.zeros(2), 0


def _row(index: int) -> tuple[Tensor, int]:
    return torch.tensor([float(index), 0.5]), index % 2


def test_a_pair_of_arrays_and_a_dataset_of_the_same_rows_are_the_same_rows() -> None:
    inputs, targets = np.array([[0, 0.5], [1, 0.5], [2, 0.5]], dtype=np.float32), np.array([0, 1, 0])
    for given in ((inputs, targets), [torch.tensor(inputs), targets], _Made(_row, 3), DataLoader(_Made(_row, 3))):
        rows = rows_of(given, "train")
        assert rows.inputs.tolist() == inputs.tolist()
        assert rows.targets.tolist() == [0, 1, 0]
        assert (len(rows), rows.num_there) == (3, 3)


def test_of_more_rows_than_are_looked_at_some_are_taken_in_their_order_and_always_the_same() -> None:
    num_there = MOST_ROWS + 100
    numbers = torch.arange(num_there)
    rows = rows_of((numbers.float(), numbers), "train", seed=3)
    assert (len(rows), rows.num_there) == (MOST_ROWS, num_there)
    assert bool((rows.targets.diff() > 0).all())
    assert rows.targets.equal(rows.inputs.long())
    assert rows.targets.equal(rows_of(TensorDataset(numbers.float(), numbers), "train", seed=3).targets)


def test_rows_that_were_not_mended_give_back_what_the_user_gave() -> None:
    given = _Made(_row)
    rows = rows_of(given, "train")
    assert rows.given() is given
    assert rows.with_targets(rows.targets + 1).given()[1][1] == torch.tensor(2)
    part = rows.take(torch.tensor([4, 1]))
    assert [row[0].tolist() for row in part.given()] == [[4.0, 0.5], [1.0, 0.5]]


def test_nested_rows_come_back_as_a_dataset_of_pairs_of_the_same_form() -> None:
    def nested(index: int) -> tuple[dict[str, Any], int]:
        return {"a": torch.tensor(float(index)), "b": Pair(torch.zeros(2), torch.ones(1) * index)}, index

    rows = rows_of(_Made(nested), "train")
    assert rows.inputs["b"].right.tolist() == [[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]]
    inputs, target = rows.with_targets(rows.targets * 10).given()[2]
    assert isinstance(inputs["b"], Pair)
    assert (float(inputs["a"]), inputs["b"].right.tolist(), int(target)) == (2.0, [2.0], 20)


def test_a_model_that_writes_into_a_slice_of_rows_does_not_change_them() -> None:
    rows = rows_of((torch.ones(4, 2), torch.zeros(4)), "train")
    rows.take(slice(0, 2)).inputs.mul_(5)
    assert rows.inputs.eq(1).all()


def test_what_is_no_tensor_stays_in_a_tree() -> None:
    assert tree({"a": [torch.ones(1), "word", None]}, lambda part: part + 1) == {"a": [torch.tensor([2.0]), "word", None]}
    assert [part.item() for part in tensors((torch.tensor(1), {"b": [torch.tensor(2), 3]}))] == [1, 2]


NO_LENGTH = "length can't be told"
REFUSED: dict[str, tuple[Any, str]] = {
    "a stream": (_Stream(), NO_LENGTH),
    "a generator": ((row for row in ()), NO_LENGTH),
    "a length below 0": (_Made(_row, -1), NO_LENGTH),
    "no rows": (_Made(_row, 0), "no rows"),
    "empty tensors": ((torch.zeros(0, 2), torch.zeros(0)), "0 inputs and 0 targets"),
    "unequal numbers": ((torch.zeros(3, 2), torch.zeros(2)), "3 inputs and 2 targets"),
    "single numbers": ((torch.tensor(1.0), torch.tensor(2.0)), "no rows"),
    "sparse tensors": ((torch.eye(3).to_sparse(), torch.zeros(3)), "sparse"),
    "arrays of objects": ((np.array([None, None]), np.zeros(2)), "object"),
    "one tensor": (torch.zeros(3, 2), "row 0 of train is a Tensor"),
    "lists of numbers": (([[1.0], [2.0], [3.0]], [0, 1, 0]), "row 0 of train is 3 values"),
    "a path": ("data.csv", "row 0 of train is a str"),
    "no targets": (_Made(lambda index: torch.zeros(2)), "row 0 of train is a Tensor"),
    "three values": (_Made(lambda index: (1, 2, 3)), "row 0 of train is 3 values"),
    "dicts": (_Made(lambda index: {"inputs": 1, "targets": 2}), "row 0 of train is a dict"),
    "a row that raises": (_Made(lambda index: (index, 1 // (4 - index))), "row 4 of train can't be taken: ZeroDivisionError"),
    "rows of many shapes": (_Made(lambda index: (torch.zeros(index + 1), 0)), "can't be stacked"),
    "rows of other keys": (_Made(lambda index: ({str(index): torch.zeros(1)}, 0)), "can't be stacked"),
    "targets None": (_Made(lambda index: (torch.zeros(1), None)), "can't be stacked"),
    "words": (_Made(lambda index: ("word", 0)), "inputs of train hold no tensor: row 0 has a str"),
    "targets in words": (_Made(lambda index: (torch.zeros(1), "cat")), "targets of train hold no tensor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_data_without_rows_are_refused_with_what_to_give_instead(name: str) -> None:
    given, words = REFUSED[name]
    with pytest.raises(DataError, match=words) as caught:
        rows_of(given, "train")
    assert caught.value.expected
    assert caught.value.fix


def test_rows_are_taken_as_they_are() -> None:
    rows = Rows(torch.zeros(2, 1), torch.zeros(2), 2)
    assert rows_of(rows, "train") is rows
