"""Patients whose targets don't fit the outputs in scale or shape."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.held_out import images, sequences, tables
from benchmarks.clinic.held_out.kit import made, parted, swapped, targets_scaled
from benchmarks.clinic.held_out.losses import gritless
from benchmarks.clinic.held_out.models import SeriesReader, TokenReader, convnet, stacked


def rent_in_cents(seed: int) -> Setup:
    inputs, targets = tables.friedman(seed, rows=1300)
    data = parted((inputs, 90_000 + 30_000 * targets), 1000)
    return made(seed, lambda: stacked([10, 64, 1]), data, nn.MSELoss(), {"name": "adam", "lr": 3e-3}, epochs=20)


def kelvins(seed: int) -> Setup:
    series, nexts = sequences.waves(seed)
    data = parted((series, 290 + 12 * nexts), 600)
    return made(seed, lambda: SeriesReader(1, 1, kind=nn.GRU), data, nn.SmoothL1Loss(), {"name": "adam", "lr": 0.01}, epochs=15)


def tons_by_sgd(seed: int) -> Setup:
    pictures, places = images.lamps(seed)
    data = parted((pictures, 400.0 * places), 600)
    optimizer = {"name": "sgd", "lr": 0.02, "momentum": 0.9}
    return made(seed, lambda: convnet(1, 2, widths=(8, 16), flat=144), data, nn.MSELoss(), optimizer, epochs=15)


def flat_targets(seed: int) -> Setup:
    inputs, targets = tables.friedman(seed, rows=1300)
    return made(
        seed, lambda: stacked([10, 64, 1]), parted((inputs, targets[:, 0]), 1000), nn.MSELoss(), {"name": "adam", "lr": 0.01},
        epochs=25,
    )  # fmt: skip


def absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error as one writes it down."""
    return (outputs - targets).abs().mean()


def standing_targets(seed: int) -> Setup:
    data = parted(sequences.adding(seed, length=8), 1000)
    net = lambda: nn.Sequential(SeriesReader(2, 1, kind=nn.GRU), nn.Flatten(0))  # noqa: E731
    return made(seed, net, data, absolute, {"name": "adam", "lr": 0.01}, epochs=25)


def yes_or_no_flat(seed: int) -> Setup:
    tokens, labels = sequences.motif(seed, rows=2000)
    data = parted((tokens, labels.float()), 1600)
    return made(seed, lambda: TokenReader(6, 1), data, nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 0.01}, epochs=12)


def as_rows(loss: Any) -> Any:
    """The loss after targets were brought to the outputs' shape."""
    return lambda outputs, targets: loss(outputs, targets.view_as(outputs))


CASES: tuple[Case, ...] = (
    Case(
        "rent-in-cents", rent_in_cents, ("unscaled_targets",), "r2",
        "DeepRank/deeprank#16: without normalised targets every prediction is the same value",
        tolerate=("lr_too_low", "too_few_epochs", "underfitting"), fix=targets_scaled,
    ),
    Case(
        "waves-in-kelvin", kelvins, ("unscaled_targets",), "r2",
        "dnouri/nolearn#72: the regression net doesn't learn; inputs scaled, targets not",
        architecture="rnn", data="sequence", tolerate=("lr_too_low", "too_few_epochs", "underfitting", "saturated_activation"),
        fix=targets_scaled,
    ),
    Case(
        "lamps-in-micrometres", tons_by_sgd, ("unscaled_targets",), "r2",
        "yuanwei1989/landmark-detection#2: a regression loss in the hundreds for want of scaling",
        architecture="cnn", data="image", tolerate=gritless(("dead_relu",)), fix=targets_scaled,
    ),
    Case(
        "law-flat-targets", flat_targets, ("target_shape_mismatch",), "r2",
        "deepset-ai/FARM#229: target [32, 1] against input [32], silently spread out",
        fix=swapped(loss=as_rows(nn.MSELoss())),
    ),
    Case(
        "adding-flat-outputs", standing_targets, ("target_shape_mismatch",), "r2",
        "andrewgcodes/xlstm#4: shapes [10, 1] and [1, 1] under a loss; here a loss by hand that doesn't even warn",
        architecture="rnn", data="sequence", fix=swapped(loss=as_rows(absolute)),
    ),
    Case(
        "motif-flat-truth", yes_or_no_flat, ("target_shape_mismatch",), "accuracy",
        "jiwei0921/CoNet#3: targets lack a dimension; the binary loss refuses where others only warn",
        architecture="rnn", data="sequence", fix=swapped(loss=as_rows(nn.BCEWithLogitsLoss())),
    ),
)  # fmt: skip
