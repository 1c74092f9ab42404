"""Sick by how long, how fast or in which portions they train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_1.tabular import (
    Mixed,
    Residual,
    Tagger,
    claims,
    listener,
    mlp,
    motions,
    per_place,
    rentals,
    seeded,
    setup_of,
    spans,
    strokes,
    viewer,
)


def _with(**changes: Any) -> Callable[[Setup], Setup]:
    """A fix that changes words of the setup; those of the optimizer under `optimizer`."""
    settings: Mapping[str, Any] = changes.pop("optimizer", {})
    return lambda setup: {**setup, **changes, "optimizer": {**setup["optimizer"], **settings}}


def _strokes(seed: int, optimizer: Mapping[str, Any], epochs: int) -> Setup:
    with seeded(seed):
        return setup_of(strokes(seed), viewer(5), nn.CrossEntropyLoss(), optimizer, epochs=epochs)


def _claims_at_one(seed: int) -> Setup:
    with seeded(seed):
        return setup_of(claims(seed), Mixed(), nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 1.0}, batch_size=64)


def _tuned_rate(seed: int) -> Setup:
    with seeded(seed):
        optimizer = {"name": "adamw", "lr": 2e-5, "weight_decay": 0.01}
        return setup_of(rentals(seed), Residual(8, 1, dropout=0.05), nn.MSELoss(), optimizer)


def _timid_tagger(seed: int) -> Setup:
    with seeded(seed):
        return setup_of(spans(seed), Tagger(12, 3), per_place, {"name": "sgd", "lr": 0.01}, epochs=15)


def _rentals(seed: int, optimizer: Mapping[str, Any], **rest: int) -> Setup:
    with seeded(seed):
        return setup_of(rentals(seed), mlp(8, 1), nn.MSELoss(), optimizer, **rest)


def _one_by_one(seed: int) -> Setup:
    with seeded(seed):
        optimizer = {"name": "sgd", "lr": 0.02, "momentum": 0.9}
        return setup_of(rentals(seed, 500, 0.3), mlp(8, 1, 32), nn.MSELoss(), optimizer, batch_size=1, epochs=12)


def _one_pass(seed: int) -> Setup:
    with seeded(seed):
        return setup_of(motions(seed), listener(4), nn.CrossEntropyLoss(), {"name": "adam", "lr": 2e-3}, epochs=1)


CASES: tuple[Case, ...] = (
    Case(
        name="strokes-standard-sgd-without-norm",
        build=lambda seed: _strokes(seed, {"name": "sgd", "lr": 0.15, "momentum": 0.9}, 12),
        accept=("lr_too_high",),
        tolerate=("momentum_too_high",),
        fix=_with(optimizer={"lr": 0.02}),
        skill="accuracy",
        source="jiwoon-ahn/psa#8, learning rate: a loss that grows at 0.1 and falls at 0.01, with a net of convolutions alone",
        architecture="cnn",
        data="image",
    ),
    Case(
        name="claims-adam-at-the-rate-of-sgd",
        build=_claims_at_one,
        accept=("lr_too_high",),
        fix=_with(optimizer={"lr": 3e-3}),
        skill="accuracy",
        source="OpenNMT/OpenNMT-py#805, Adam seems to be broken: the rate of 1 that was meant for SGD was left in place",
    ),
    Case(
        name="rentals-rate-of-a-fine-tuning-guide",
        build=_tuned_rate,
        accept=("lr_too_low",),
        tolerate=("too_few_epochs", "underfitting"),
        fix=_with(optimizer={"lr": 2e-3}),
        skill="r2",
        source="keras-team/keras#2711, Loss not changing when training: the rate was far too small, a bigger one helped",
    ),
    Case(
        name="tagger-sgd-hundredth",
        build=_timid_tagger,
        accept=("lr_too_low",),
        tolerate=("too_few_epochs", "underfitting"),
        fix=_with(optimizer={"lr": 0.5}),
        skill="balanced_accuracy",
        source="testdotai/classifier-builder#6: with plain SGD at 0.01 hardly anything moves, where 0.3 does as well as Adam",
        architecture="rnn",
        data="sequence",
    ),
    Case(
        name="rentals-momentum-of-a-typo",
        build=lambda seed: _rentals(seed, {"name": "sgd", "lr": 0.02, "momentum": 0.99}, epochs=12),
        accept=("momentum_too_high",),
        tolerate=("lr_too_high",),
        fix=_with(optimizer={"momentum": 0.9}),
        skill="r2",
        source="threads on a momentum of 0.99: the sum of steps is a hundred times the rate, where ten was meant",
    ),
    Case(
        name="rentals-betas-swapped",
        build=lambda seed: _rentals(seed, {"name": "adam", "lr": 3e-3, "betas": (0.999, 0.9)}, epochs=12),
        accept=("momentum_too_high",),
        tolerate=("lr_too_low", "too_few_epochs", "lr_too_high", "underfitting"),
        fix=_with(optimizer={"betas": (0.9, 0.999)}),
        skill="r2",
        source="forum threads on Adam's betas given in the wrong order: the averages of gradients outlast the whole training",
    ),
    Case(
        name="motions-one-epoch-of-a-demo",
        build=_one_pass,
        accept=("too_few_epochs",),
        tolerate=("lr_too_low", "underfitting"),
        fix=_with(epochs=12),
        skill="accuracy",
        source="threads on nets judged by the first epoch, as the demonstration did that they were copied from",
        architecture="cnn",
        data="sequence",
    ),
    Case(
        name="strokes-two-epochs",
        build=lambda seed: _strokes(seed, {"name": "adam", "lr": 5e-3}, 2),
        accept=("too_few_epochs",),
        tolerate=("lr_too_low", "underfitting"),
        fix=_with(epochs=14),
        skill="accuracy",
        source="threads that look for a fault in a net which was given two epochs",
        architecture="cnn",
        data="image",
    ),
    Case(
        name="rentals-half-of-the-rows-per-batch",
        build=lambda seed: _rentals(seed, {"name": "adam", "lr": 3e-3}, batch_size=450, epochs=12),
        accept=("too_few_epochs", "lr_too_low"),
        tolerate=("underfitting",),
        fix=_with(epochs=150),
        skill="r2",
        source="threads on batches as large as memory holds, so that an epoch is two steps",
    ),
    Case(
        name="rentals-row-by-row",
        build=_one_by_one,
        accept=("batch_too_small", "lr_too_high"),
        tolerate=("momentum_too_high",),
        fix=_with(batch_size=32),
        skill="r2",
        source="ultralytics/yolov3#507: smaller batches at the same rate train faster but settle on a worse plateau",
    ),
)
