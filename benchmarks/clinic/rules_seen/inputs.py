"""Sick by their inputs: values, scales, order, splits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.rules_seen import cures, drawings, networks, patients, tables
from benchmarks.clinic.rules_seen.networks import weights_from


def _holes(value: float, every: int) -> cures.Fix:
    def spoil(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        spoiled = inputs.clone()
        flat = spoiled.reshape(len(spoiled), -1)
        flat[every // 2 :: every, 1] = value
        return spoiled, targets

    return cures.train_rows(spoil)


def _finite_rows(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    kept = inputs.reshape(len(inputs), -1).isfinite().all(1)
    return inputs[kept], targets[kept]


def _missing_cells(seed: int) -> Setup:
    return _holes(float("nan"), 50)(patients.clouds(seed))


def _missing_moment(seed: int) -> Setup:
    return _holes(float("nan"), 200)(patients.sums(seed))


def _log_of_counts(seed: int) -> Setup:
    return _holes(float("-inf"), 60)(patients.waves(seed))


def _overflowed_pixels(seed: int) -> Setup:
    return _holes(float("inf"), 125)(patients.stripes(seed))


def _raw_units(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(5, 48, 1)
    factors = torch.tensor([[1.0, 400.0, 0.02, 3000.0, 25.0]])
    split = tables.with_inputs(tables.waves(seed), factors, torch.tensor([[0.0, 900.0, 0.1, 10_000.0, 60.0]]))
    return patients.of(split, model, nn.MSELoss(), {"name": "adam", "lr": 0.005}, epochs=20)


def _bytes_of_images(seed: int) -> Setup:
    setup = patients.stripes(seed)
    split = tables.with_inputs(drawings.stripes(seed), 50.0, 128.0)
    return {**setup, "train": split.train, "val": split.val}


def _years_and_shares(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(10, 32, 5, activation=nn.Tanh)
    factors = torch.tensor([[1e3, 1.0, 1e-2, 50.0, 1.0, 1e3, 1.0, 1e-2, 300.0, 1.0]])
    split = tables.with_inputs(tables.clouds(seed), factors, 2.0 * factors)
    return patients.of(split, model, nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.1}, epochs=15)


def _blank(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return torch.div(inputs.sigmoid(), 255.0, rounding_mode="floor"), targets


def _blank_images(seed: int) -> Setup:
    return cures.everywhere(_blank)(patients.stripes(seed))


def _first_row_only(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return inputs[:1].expand_as(inputs).clone(), targets


def _one_row_repeated(seed: int) -> Setup:
    return cures.everywhere(_first_row_only)(patients.clouds(seed))


CASES: tuple[Case, ...] = (
    Case(
        "clouds-missing-cells",
        _missing_cells,
        ("nan_in_inputs",),
        "accuracy",
        "GitHub ratschlab/DeepSpot#9 'Train loss: nan': empty cells of a table were left as NaN",
        fix=cures.train_rows(_finite_rows),
    ),
    Case(
        "sums-missing-moment",
        _missing_moment,
        ("nan_in_inputs",),
        "r2",
        "GitHub Nixtla/neuralforecast#186 'silent bug, training with NaNs values': a series with a few gaps",
        architecture="rnn",
        data="sequence",
        fix=cures.train_rows(_finite_rows),
    ),
    Case(
        "waves-log-of-counts",
        _log_of_counts,
        ("inf_in_inputs",),
        "r2",
        "a feature is the logarithm of a count that may be 0 (GitHub evandowning/deepreflect#11 divides by a zero maximum)",
        fix=cures.train_rows(_finite_rows),
    ),
    Case(
        "stripes-overflowed-pixels",
        _overflowed_pixels,
        ("inf_in_inputs",),
        "accuracy",
        "pixels that overflowed when they were stored in half precision",
        architecture="cnn",
        data="image",
        fix=cures.train_rows(_finite_rows),
    ),
    Case(
        "waves-raw-units",
        _raw_units,
        ("unnormalised_inputs",),
        "r2",
        "DeepFD's ground truths: 9 of 58 programs lacked preprocessing; columns in their own units",
        tolerate=("too_few_epochs", "dead_relu", "lr_too_low", "lr_too_high", "exploding_gradient"),
        fix=cures.standard_inputs,
    ),
    Case(
        "stripes-bytes",
        _bytes_of_images,
        ("unnormalised_inputs",),
        "accuracy",
        "DeepFD's and DeepLocalize's programs: images in 0..255 under SGD",
        architecture="cnn",
        data="image",
        tolerate=("lr_too_high", "dead_relu", "exploding_gradient"),
        fix=cures.standard_inputs,
    ),
    Case(
        "clouds-years-and-shares",
        _years_and_shares,
        ("unnormalised_inputs", "saturated_activation"),
        "accuracy",
        "a table with years, amounts and shares in front of tanh",
        tolerate=("vanishing_gradient",),
        fix=cures.standard_inputs,
    ),
    Case(
        "stripes-blank",
        _blank_images,
        ("constant_features",),
        "accuracy",
        "GitHub keras-team/keras#255: pixels were scaled to [0, 1] as integers, so every pixel became 0",
        architecture="cnn",
        data="image",
    ),
    Case(
        "clouds-one-row-repeated",
        _one_row_repeated,
        ("constant_features",),
        "accuracy",
        "a Dataset whose __getitem__ ignores its index for the inputs",
        tolerate=("labels_misaligned",),
    ),
)

PROOFS = {"stripes-blank": patients.stripes, "clouds-one-row-repeated": patients.clouds}
