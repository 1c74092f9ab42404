"""Sick by how rows were put together: inputs with labels, training with validation, one row after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_1.tabular import (
    Mixed,
    Residual,
    Rows,
    claims,
    listener,
    mlp,
    motions,
    rentals,
    seeded,
    setup_of,
    soils,
    strokes,
    viewer,
)

ADAMW = {"name": "adamw", "lr": 3e-3}


def _by_name(seed: int, *, sorted_names: bool) -> Setup:
    """Pictures listed by name (10.png before 2.png), labels listed by number."""
    table = strokes(seed)
    numbers = torch.arange(table.num_train)
    listed = torch.tensor(sorted(range(table.num_train), key=str)) if sorted_names else numbers
    pictures = torch.cat([table.inputs[: table.num_train][listed], table.inputs[table.num_train :]])
    with seeded(seed):
        return setup_of(replace(table, inputs=pictures), viewer(5), nn.CrossEntropyLoss(), ADAMW, epochs=12)


def _row_dropped(seed: int, first: int) -> Setup:
    """From row `first` on, a row with the demand of its successor: an empty line was dropped from one file only."""
    table = rentals(seed)
    later = torch.arange(len(table.targets))
    later[first : table.num_train - 1] += 1
    with seeded(seed):
        return setup_of(table.with_targets(lambda demand: demand[later]), mlp(8, 1), nn.MSELoss(), ADAMW)


def _kind_by_kind(seed: int) -> Setup:
    """A loader without mixing over a folder per motion."""
    table = motions(seed)
    rows = torch.cat([table.targets[: table.num_train].argsort(stable=True), torch.arange(table.num_train, len(table.targets))])
    with seeded(seed):
        setup = setup_of(table.ordered(rows), listener(4), nn.CrossEntropyLoss(), ADAMW, epochs=10)
    return {**setup, "shuffle": False}


def _paid_out(seed: int, *, logged: bool) -> Setup:
    """The sixth number is what was paid out, which is nought for false claims; it is known only afterwards."""

    def pays(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        numbers = inputs["numbers"].clone()
        numbers[:, 5] = (numbers[:, 5].abs() + 0.3) * (1 - table.targets)
        return {**inputs, "numbers": numbers}

    table = claims(seed, 800, sharpness=1.0)
    with seeded(seed):
        return setup_of(table.with_inputs(pays) if logged else table, Mixed(), nn.BCEWithLogitsLoss(), ADAMW, epochs=12)


def _multiplied(seed: int, *, before: bool) -> Setup:
    """Rows were repeated to have more of them, and the repeated rows then cut into training and validation."""
    table = soils(seed, 300, spread=2.0)
    if before:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.arange(400).repeat(4)[torch.randperm(1600, generator=generator)]
        table = replace(table.ordered(rows), num_train=1200)
    with seeded(seed):
        return setup_of(table, Residual(10, 5, 64), nn.CrossEntropyLoss(), ADAMW, epochs=25 if before else 30)


def _own_units(seed: int, *, shared: bool) -> Setup:
    """Training rows were scaled by a scaler; validation rows were forgotten."""
    scale, shift = torch.linspace(0.2, 5, 10), torch.linspace(-3, 3, 10)
    table = soils(seed, spread=0.8)
    with seeded(seed):
        setup = setup_of(table, Residual(10, 5, dropout=0.1), nn.CrossEntropyLoss(), ADAMW)
    val = setup["val"]
    return setup if shared else {**setup, "val": Rows(val.inputs * scale + shift, val.targets)}


def _columns_by_name(seed: int, *, alike: bool) -> Setup:
    """The columns of the second file come in another order."""
    with seeded(seed):
        setup = setup_of(rentals(seed), Residual(8, 1), nn.SmoothL1Loss(), ADAMW)
    val = setup["val"]
    return setup if alike else {**setup, "val": Rows(val.inputs[:, [4, 0, 1, 5, 6, 2, 3, 7]], val.targets)}


PROOFS: dict[str, Callable[[int], Setup]] = {
    "strokes-tenth-before-second": lambda seed: _by_name(seed, sorted_names=False),
    "rentals-one-line-dropped": lambda seed: _row_dropped(seed, 900),
    "claims-paid-out-or-not": lambda seed: _paid_out(seed, logged=False),
    "soils-repeated-before-the-cut": lambda seed: _multiplied(seed, before=False),
    "soils-validation-not-scaled": lambda seed: _own_units(seed, shared=True),
    "rentals-columns-in-another-order": lambda seed: _columns_by_name(seed, alike=True),
}

CASES: tuple[Case, ...] = (
    Case(
        name="strokes-tenth-before-second",
        build=lambda seed: _by_name(seed, sorted_names=True),
        accept=("labels_misaligned",),
        tolerate=("overfitting", "train_val_mismatch"),
        skill="accuracy",
        source="chuanyangjin/fast-DiT#4: features and labels listed apart, whose orders differ",
        architecture="cnn",
        data="image",
    ),
    Case(
        name="rentals-one-line-dropped",
        build=lambda seed: _row_dropped(seed, 60),
        accept=("labels_misaligned",),
        tolerate=("overfitting", "train_val_mismatch"),
        skill="r2",
        source="keras-team/keras#14416: labels that belong to other rows; here from one line on, by one",
    ),
    Case(
        name="motions-folder-after-folder",
        build=_kind_by_kind,
        accept=("unshuffled_data",),
        fix=lambda setup: {**setup, "shuffle": True},
        skill="accuracy",
        source="choderalab/modelforge#129: the assumption that a loader mixes rows by itself",
        architecture="cnn",
        data="sequence",
    ),
    Case(
        name="claims-paid-out-or-not",
        build=lambda seed: _paid_out(seed, logged=True),
        accept=("data_leakage",),
        skill="accuracy",
        source="dotnet/machinelearning#737, label leaking: a column that is filled in only once the outcome is known",
        changes_data=True,
    ),
    Case(
        name="soils-repeated-before-the-cut",
        build=lambda seed: _multiplied(seed, before=True),
        accept=("data_leakage",),
        tolerate=("overfitting",),
        skill="accuracy",
        source="threads on oversampling before the split: validation rows are copies of training rows",
        changes_data=True,
    ),
    Case(
        name="soils-validation-not-scaled",
        build=lambda seed: _own_units(seed, shared=False),
        accept=("train_val_mismatch",),
        tolerate=("overfitting", "unnormalised_inputs"),
        skill="accuracy",
        source="nttcslab/byol-a#5, Missing scaling of validation samples",
    ),
    Case(
        name="rentals-columns-in-another-order",
        build=lambda seed: _columns_by_name(seed, alike=False),
        accept=("train_val_mismatch",),
        tolerate=("overfitting",),
        skill="r2",
        source="threads on get_dummies and sets of columns made for each file by itself, so that their order differs",
    ),
)
