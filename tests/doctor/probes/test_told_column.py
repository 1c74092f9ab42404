"""Columns that are filled in once the outcome is known."""

from __future__ import annotations

import torch
from small_setups import bench_of, ids, mlp, noise, said, signs
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


def test_a_column_that_is_filled_in_for_known_outcomes_and_empty_in_validation_is_a_leak() -> None:
    inputs, labels = signs(200)
    fees = torch.where(labels == 1, noise(200, seed=5).abs() + 1.0, torch.zeros(200))
    val_inputs, val_labels = signs(100, seed=1)
    train = torch.cat([inputs, fees.unsqueeze(1)], 1), labels
    val = torch.cat([val_inputs, torch.zeros(100, 1)], 1), val_labels
    (found,) = said("told_column", bench_of(mlp(5, 8, 2), train, val))
    assert (found.id, found.evidence["column"]) == ("data_leakage", 4)
    # A column that tells nothing and is empty in validation is no leak.
    other = torch.cat([inputs, fees.roll(1).unsqueeze(1)], 1), labels
    assert ids("told_column", bench_of(mlp(5, 8, 2), other, val)) == []
