"""Sick by fitting too much or too little."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_6 import ill_parts as parts


def _few_homes(seed: int) -> Setup:
    draw = drawn(seed, "homes")
    traits = torch.randn(560, 12, generator=draw)
    bill = traits[:, 0] + 0.8 * traits[:, 1] - 0.6 * traits[:, 2] + 1.3 * torch.randn(560, generator=draw)
    with parts.weights_from(seed):
        model = parts.mlp(12, 96, 96, 1)
    return parts.setup(parts.halves(traits, bill[:, None], 90), model, nn.MSELoss(), lr=2e-3, epochs=150)


def _tiles_decay(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.eye(5)
    return parts.setup(parts.tiles(seed), model, nn.CrossEntropyLoss(), lr=2e-3, weight_decay=0.1, epochs=15)


def _gaits_decay(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.Reader(3, 4)
    return parts.setup(parts.gaits(seed), model, nn.CrossEntropyLoss(), name="adamw", lr=0.01, weight_decay=8.0, epochs=15)


def _soils_keep(seed: int, *, share: float = 0.9) -> Setup:
    with parts.weights_from(seed):
        stack = [nn.Linear(8, 40), nn.ReLU(), nn.Dropout(share), nn.Linear(40, 40), nn.ReLU(), nn.Dropout(share)]
        model = nn.Sequential(*stack, nn.Linear(40, 5))
    return parts.setup(parts.soils(seed), model, nn.CrossEntropyLoss())


def _notes_dropout(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.Attender(20, 12, 4, mean=0, dropout=0.8)
    flat = nn.CrossEntropyLoss()
    return parts.setup(
        parts.notes(seed), model, lambda outputs, tags: flat(outputs.flatten(0, 1), tags.flatten()), lr=2e-3, epochs=10
    )


def _rarely(sick: Setup) -> Setup:
    for part in sick["model"].modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.1
    return sick


def _guests_straight(seed: int, *, mended: bool = False) -> Setup:
    with parts.weights_from(seed):
        model = parts.mlp(10, 32, 32, 1) if mended else parts.mlp(10, 1)
    return parts.setup(parts.guests(seed), model, nn.BCEWithLogitsLoss(), lr=3e-3)


def _gaits_two_units(seed: int, *, width: int = 2) -> Setup:
    with parts.weights_from(seed):
        model = parts.Reader(3, 4, width=width)
    return parts.setup(parts.gaits(seed), model, nn.CrossEntropyLoss(), lr=0.01, epochs=12)


def _tiles_one_filter(seed: int, *, width: int = 1) -> Setup:
    with parts.weights_from(seed):
        model = parts.eye(5, width=width, pooled=1)
    return parts.setup(parts.tiles(seed, noise=0.2), model, nn.CrossEntropyLoss(), lr=5e-3, epochs=15)


CASES: tuple[Case, ...] = (
    Case(
        "homes-ninety-rows",
        _few_homes,
        ("overfitting",),
        "r2",
        "frequent question: training error falls to nothing, validation error turns after a few epochs; 90 rows",
        fix=parts.job(epochs=14),
    ),
    Case(
        "tiles-decay-of-a-tenth",
        _tiles_decay,
        ("over_regularised",),
        "accuracy",
        "frequent question: Adam with weight_decay=0.1 stays at the loss of guessing",
        architecture="cnn",
        data="image",
        tolerate=("underfitting",),
        fix=parts.job(weight_decay=1e-4),
    ),
    Case(
        "gaits-decay-of-eight",
        _gaits_decay,
        ("over_regularised",),
        "accuracy",
        "frequent question: AdamW's decoupled decay taken for a share of the loss",
        architecture="rnn",
        data="sequence",
        tolerate=("underfitting",),
        fix=parts.job(weight_decay=0.01),
    ),
    Case(
        "soils-share-to-keep",
        _soils_keep,
        ("dropout_too_high",),
        "accuracy",
        "frequent question: 0.9 was the share to keep in another library, here it is the share dropped",
        tolerate=(
            "underfitting",
            "capacity_too_small",
            "too_few_epochs",
        ),
        fix=_rarely,
    ),
    Case(
        "notes-four-of-five-dropped",
        _notes_dropout,
        ("dropout_too_high",),
        "accuracy",
        "frequent question: dropout turned up to 0.8 against a gap that came from elsewhere",
        architecture="transformer",
        data="sequence",
        tolerate=(
            "underfitting",
            "too_few_epochs",
        ),
        fix=_rarely,
    ),
    Case(
        "guests-on-a-straight-line",
        _guests_straight,
        (
            "underfitting",
            "capacity_too_small",
            "missing_nonlinearity",
        ),
        "accuracy",
        "frequent question: logistic regression on habits that matter in pairs",
    ),
    Case(
        "gaits-two-units",
        _gaits_two_units,
        (
            "capacity_too_small",
            "underfitting",
        ),
        "accuracy",
        "frequent question: a hidden size of 2, taken for the number of layers",
        architecture="rnn",
        data="sequence",
        tolerate=("too_few_epochs",),
    ),
    Case(
        "tiles-one-filter",
        _tiles_one_filter,
        (
            "capacity_too_small",
            "underfitting",
        ),
        "accuracy",
        "frequent question: one filter a layer, since the pictures have one channel",
        architecture="cnn",
        data="image",
        tolerate=("too_few_epochs",),
    ),
)

PROOFS: dict[str, Callable[[int], Setup]] = {
    "guests-on-a-straight-line": partial(_guests_straight, mended=True),
    "gaits-two-units": partial(_gaits_two_units, width=24),
    "tiles-one-filter": partial(_tiles_one_filter, width=12),
}
