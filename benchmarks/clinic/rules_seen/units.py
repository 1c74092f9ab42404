"""Sick by their targets' shape, units or constancy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.rules_seen import cures, drawings, networks, patients, series, tables
from benchmarks.clinic.rules_seen.networks import weights_from


def _flat_targets(setup: Setup) -> Setup:
    return cures.everywhere(lambda inputs, targets: (inputs, targets.squeeze(1)))(setup)


def _flat_waves(seed: int) -> Setup:
    return _flat_targets(patients.waves(seed))


def _flat_sums(seed: int) -> Setup:
    return _flat_targets(patients.sums(seed, loss=nn.L1Loss()))


def _column_of_ids(seed: int) -> Setup:
    return cures.everywhere(lambda inputs, targets: (inputs, targets.unsqueeze(1)))(patients.stripes(seed))


def _as_outputs(loss: Any) -> cures.Fix:
    return cures.job(loss=lambda outputs, targets: loss(outputs, targets.view_as(outputs)))


def _prices(seed: int) -> Setup:
    split = tables.scaled(tables.waves(seed), factor=90_000.0, shift=240_000.0)
    return {**patients.waves(seed), "train": split.train, "val": split.val}


def _large_sums(seed: int) -> Setup:
    split = tables.scaled(series.sums(seed), factor=400.0, shift=50.0)
    setup = patients.sums(seed, optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.9})
    return {**setup, "train": split.train, "val": split.val}


def _years(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.cnn(1)
    split = tables.scaled(drawings.spots(seed), factor=15.0, shift=1985.0)
    return patients.of(split, model, nn.MSELoss(), {"name": "adam", "lr": 0.003}, epochs=12)


def _truncated(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return inputs, (targets * 0.999).long().float()


def _all_zero(seed: int) -> Setup:
    return cures.everywhere(_truncated)(patients.rings(seed))


def _wrong_column(seed: int) -> Setup:
    return cures.everywhere(lambda inputs, targets: (inputs, torch.full_like(targets, 2.0)))(patients.sums(seed))


CASES: tuple[Case, ...] = (
    Case(
        "waves-flat-targets",
        _flat_waves,
        ("target_shape_mismatch",),
        "r2",
        "GitHub deepset-ai/FARM#229 and pytorch/pytorch#4938: [N] against [N, 1] broadcasts; the model learns the mean",
        fix=_as_outputs(nn.MSELoss()),
    ),
    Case(
        "sums-flat-targets",
        _flat_sums,
        ("target_shape_mismatch",),
        "r2",
        "GitHub andrewgcodes/xlstm#4: the same in a recurrent net, absolute error",
        architecture="rnn",
        data="sequence",
        fix=_as_outputs(nn.L1Loss()),
    ),
    Case(
        "stripes-column-of-ids",
        _column_of_ids,
        ("target_shape_mismatch",),
        "accuracy",
        "frequent crash '0D or 1D target tensor expected, multi-target not supported': ids as a column",
        architecture="cnn",
        data="image",
        fix=cures.job(loss=patients.entropy_of_column),
    ),
    Case(
        "waves-prices",
        _prices,
        ("unscaled_targets",),
        "r2",
        "house prices in currency units: DeepFD's and DeepLocalize's regression programs",
        tolerate=("too_few_epochs", "lr_too_low", "underfitting", "exploding_gradient"),
        fix=cures.standard_targets,
    ),
    Case(
        "sums-in-hundreds",
        _large_sums,
        ("unscaled_targets",),
        "r2",
        "a series in raw units under SGD: NaN or saturated gates within an epoch",
        architecture="rnn",
        data="sequence",
        tolerate=("lr_too_high", "exploding_gradient", "saturated_activation", "unstable_gradient"),
        fix=cures.standard_targets,
    ),
    Case(
        "spots-years",
        _years,
        ("unscaled_targets",),
        "r2",
        "the year as a target: spread 15 around 1985, so the net spends its epochs on the mean",
        architecture="cnn",
        data="image",
        tolerate=("too_few_epochs", "lr_too_low", "exploding_gradient", "unstable_gradient"),
        fix=cures.standard_targets,
    ),
    Case(
        "rings-all-zero",
        _all_zero,
        ("constant_labels",),
        "accuracy",
        "labels were probabilities and went through int(): all are 0, accuracy is perfect",
        changes_data=True,
    ),
    Case(
        "sums-wrong-column",
        _wrong_column,
        ("constant_labels",),
        "r2",
        "the target was read from a column that is always 2",
        architecture="rnn",
        data="sequence",
    ),
)

PROOFS = {"rings-all-zero": patients.rings, "sums-wrong-column": patients.sums}
