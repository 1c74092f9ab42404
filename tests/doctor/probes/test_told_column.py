"""Columns that are filled in once the outcome is known."""

from __future__ import annotations

from small_setups import bench_of, ids, mlp, noise, said
from torch import Tensor


def _claims(seed: int, *, paid: bool) -> tuple[Tensor, Tensor]:
    """Noisy classes; what was paid is 0 for one of them."""
    inputs = noise(300, 4, seed=seed)
    labels = (inputs[:, 0] + noise(300, seed=seed + 10) > 0).long()
    if paid:
        inputs[:, 3] = (inputs[:, 3].abs() + 0.1) * (1 - labels)
    return inputs, labels


def test_a_column_that_is_0_for_exactly_one_class_was_filled_in_afterwards() -> None:
    (found,) = said("told_column", bench_of(mlp(4, 8, 2), _claims(0, paid=True), _claims(1, paid=True)))
    assert (found.id, found.proof, found.evidence["column"], found.evidence["label"]) == ("data_leakage", "certain", 3, 1)


def test_a_column_that_decides_by_its_size_or_holds_in_one_split_only_is_healthy() -> None:
    train, val = _claims(0, paid=False), _claims(1, paid=False)
    sign = (train[0], (train[0][:, 0] > 0).long()), (val[0], (val[0][:, 0] > 0).long())
    assert ids("told_column", bench_of(mlp(4, 8, 2), train, val)) == []
    assert ids("told_column", bench_of(mlp(4, 8, 2), *sign)) == []
    assert ids("told_column", bench_of(mlp(4, 8, 2), _claims(0, paid=True), val)) == []


def test_a_flag_that_decides_a_class_is_healthy() -> None:
    inputs = noise(300, 4)
    inputs[:, 2] = (inputs[:, 2] > 0).float()
    labels = inputs[:, 2].long()
    assert ids("told_column", bench_of(mlp(4, 8, 2), (inputs, labels), (inputs.clone(), labels))) == []
