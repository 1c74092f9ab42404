"""Sick by targets that don't fit the net or the loss: their count, range, shape or scale."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_1.tabular import (
    Residual,
    Rows,
    Tagger,
    listener,
    mlp,
    motions,
    per_place,
    rentals,
    seeded,
    setup_of,
    soils,
    spans,
)

ADAM = {"name": "adam", "lr": 3e-3}


def _three_stations(seed: int, num_out: int) -> Setup:
    table = rentals(seed)
    first = table.targets[:, 0]
    three = torch.stack([first, table.inputs[:, 4] * table.inputs[:, 5], -first + table.inputs[:, 2]], 1)
    with seeded(seed):
        return setup_of(table.with_targets(lambda _: three), mlp(8, num_out), nn.SmoothL1Loss(), ADAM, epochs=20)


def _widened(model: nn.Sequential, num_out: int) -> nn.Sequential:
    """The same net with a new last layer."""
    with seeded(0):
        return nn.Sequential(*list(model.children())[:-1], nn.Linear(48, num_out))


def _rare_sixth(seed: int, num_out: int) -> Setup:
    """Most soils are of five kinds; a sixth is met once in fifty rows and was forgotten."""
    table = soils(seed)
    rare = torch.arange(len(table.targets)) % 50 == 17
    table = table.with_targets(lambda kinds: torch.where(rare, 5, kinds))
    with seeded(seed):
        return setup_of(table, Residual(10, num_out, dropout=0.1), nn.CrossEntropyLoss(label_smoothing=0.05), ADAM)


def _ones_and_twos(seed: int) -> Setup:
    table = motions(seed).with_targets(lambda kinds: (kinds >= 2).float()[:, None] + 1)
    with seeded(seed):
        return setup_of(table, listener(1), nn.BCEWithLogitsLoss(), ADAM, epochs=10)


def _from_nought(setup: Setup) -> Setup:
    return {**setup, **{part: Rows(setup[part].inputs, setup[part].targets - 1) for part in ("train", "val")}}


def _padded(seed: int) -> Setup:
    """Sentences of several lengths; the places after their end hold token 0 and tag -1."""
    table = spans(seed)
    ends = torch.randint(10, 17, (len(table.targets), 1), generator=torch.Generator().manual_seed(seed))
    past = torch.arange(16) >= ends
    table = table.with_inputs(lambda tokens: tokens.masked_fill(past, 0)).with_targets(lambda tags: tags.masked_fill(past, -1))
    with seeded(seed):
        return setup_of(table, Tagger(12, 3), per_place, ADAM, epochs=10)


def _ignoring(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=-1)


def _squeezed(seed: int) -> Setup:
    """A model that drops its last dimension, targets that keep theirs, and an absolute error written by hand."""
    with seeded(seed):
        model = nn.Sequential(Residual(8, 1), nn.Flatten(0))
        return setup_of(rentals(seed), model, lambda outputs, targets: (outputs - targets).abs().mean(), ADAM)


def _scaled(seed: int, factor: float, offset: float, lr: float) -> Setup:
    table = rentals(seed).with_targets(lambda demand: factor * demand + offset)
    with seeded(seed):
        return setup_of(table, Residual(8, 1), nn.MSELoss(), {"name": "adam", "lr": lr}, epochs=20)


def _standardised(setup: Setup) -> Setup:
    mean, std = setup["train"].targets.mean(0), setup["train"].targets.std(0)
    parts = {part: Rows(setup[part].inputs, (setup[part].targets - mean) / std) for part in ("train", "val")}
    return {**setup, **parts}


CASES: tuple[Case, ...] = (
    Case(
        name="stations-one-number-for-three",
        build=lambda seed: _three_stations(seed, 1),
        accept=("wrong_num_outputs", "target_shape_mismatch"),
        fix=lambda setup: {**setup, "model": _widened(setup["model"], 3)},
        skill="r2",
        source="sunwuzhou03/reinforcement-learning-lab#1, MSE warning: outputs [64, 1] spread over targets [64, 4]",
    ),
    Case(
        name="soils-forgotten-sixth-kind",
        build=lambda seed: _rare_sixth(seed, 5),
        accept=("wrong_num_outputs", "label_out_of_range"),
        fix=lambda setup: {**setup, "model": _rare_sixth(0, 6)["model"]},
        skill="accuracy",
        source="threads on Target 5 is out of bounds: a class so rare that it wasn't counted when the head was sized",
    ),
    Case(
        name="motions-labels-one-and-two",
        build=_ones_and_twos,
        accept=("label_out_of_range",),
        tolerate=("wrong_loss",),
        fix=_from_nought,
        skill="accuracy",
        source="threads on a negative binary cross-entropy: labels of 1 and 2 as they came from the file",
        architecture="cnn",
        data="sequence",
        changes_data=True,
    ),
    Case(
        name="tags-padding-of-minus-one",
        build=_padded,
        accept=("label_out_of_range",),
        fix=lambda setup: {**setup, "loss": _ignoring},
        skill="accuracy",
        source="threads on CrossEntropyLoss, Target -1 is out of bounds: padding that the loss wasn't told to leave out",
        architecture="rnn",
        data="sequence",
    ),
    Case(
        name="rentals-squeezed-guesses",
        build=_squeezed,
        accept=("target_shape_mismatch",),
        fix=lambda setup: {**setup, "model": setup["model"][0]},
        skill="r2",
        source="deepset-ai/FARM#229: logits were squeezed, targets [32, 1] against outputs [32]",
    ),
    Case(
        name="rentals-in-hundreds-of-thousands",
        build=lambda seed: _scaled(seed, 60_000.0, 250_000.0, 1e-3),
        accept=("unscaled_targets",),
        tolerate=("lr_too_low", "too_few_epochs"),
        fix=_standardised,
        skill="r2",
        source="DeepRank/deeprank#16, normalize_targets=False results in predictions of the same value",
        changes_data=True,
    ),
    Case(
        name="rentals-counted-in-tens",
        build=lambda seed: _scaled(seed, 8.0, 30.0, 1e-3),
        accept=("unscaled_targets",),
        tolerate=("lr_too_low", "too_few_epochs"),
        fix=_standardised,
        skill="r2",
        source="gitbooo/CrossViVit#5: inputs were normalised, targets were not; here a spread of 8 around 30",
        changes_data=True,
    ),
)
