"""Sick by what stands in the columns: gaps, infinities, scales, nothing at all, too few of a kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_1.tabular import (
    Mixed,
    Residual,
    Rows,
    Table,
    claims,
    mlp,
    rentals,
    seeded,
    setup_of,
    soils,
    strokes,
    topics,
    viewer,
)

ADAM = {"name": "adam", "lr": 3e-3}


def _cleaned(change: Callable[[Any], Any]) -> Callable[[Setup], Setup]:
    """A fix that changes the inputs of both parts."""
    return lambda setup: {**setup, **{part: Rows(change(setup[part].inputs), setup[part].targets) for part in ("train", "val")}}


def _standardised(setup: Setup) -> Setup:
    inputs = setup["train"].inputs
    mean, std = inputs.mean(0), inputs.std(0)
    return _cleaned(lambda part: (part - mean) / std)(setup)


def _with_gaps(seed: int) -> Setup:
    """One number in a hundred was not asked for when the claim came in."""

    def gaps(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        lost = torch.rand(inputs["numbers"].shape, generator=drawn(seed, "gaps")) < 0.01
        return {**inputs, "numbers": inputs["numbers"].masked_fill(lost, float("nan"))}

    with seeded(seed):
        return setup_of(claims(seed).with_inputs(gaps), Mixed(), nn.BCEWithLogitsLoss(), ADAM, batch_size=64)


def _filled(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**inputs, "numbers": inputs["numbers"].nan_to_num(0.0)}


def _log_of_none(seed: int) -> Setup:
    """The logarithm of an amount that is nought in some hours."""

    def logs(inputs: Tensor) -> Tensor:
        amount = (inputs[:, 5] + 2.2).clamp(min=0)
        return torch.cat([inputs, torch.log(amount)[:, None]], 1)

    with seeded(seed):
        return setup_of(rentals(seed).with_inputs(logs), Residual(9, 1), nn.SmoothL1Loss(), {"name": "adamw", "lr": 2e-3})


def _serial_numbers(seed: int) -> Setup:
    """The number of the receipt was left among the columns."""

    def numbered(inputs: Tensor) -> Tensor:
        return torch.cat([inputs, 30_000.0 + torch.randperm(len(inputs), generator=drawn(seed, "serials"))[:, None]], 1)

    with seeded(seed):
        return setup_of(rentals(seed).with_inputs(numbered), mlp(9, 1, 64), nn.MSELoss(), {"name": "adam", "lr": 1e-3}, epochs=20)


def _bytes(seed: int) -> Setup:
    """Pictures as they come from files, 0 to 255."""
    table = strokes(seed).with_inputs(lambda pictures: (110 + 100 * pictures).clamp(0, 255).round())
    with seeded(seed):
        return setup_of(table, viewer(5, nn.Tanh), nn.CrossEntropyLoss(), {"name": "adam", "lr": 2e-3}, epochs=12)


def _mixed_units(seed: int) -> Setup:
    """Measurements in units that lie far apart: parts per million beside shares."""
    units = torch.tensor([1e3, 1.0, 0.01, 300.0, 1.0, 1e-3, 50.0, 0.1, 1.0, 2e3])
    table = soils(seed).with_inputs(lambda inputs: inputs * units)
    with seeded(seed):
        optimizer = {"name": "sgd", "lr": 0.02, "momentum": 0.9}
        return setup_of(table, mlp(10, 5), nn.CrossEntropyLoss(), optimizer)


def _notes(seed: int, *, known: bool) -> Setup:
    """Notes whose words, in capitals, are not in the vocabulary, so that each is the token of unknown words."""
    table = topics(seed)
    table = table if known else table.with_inputs(torch.zeros_like)
    with seeded(seed):
        model = nn.Sequential(nn.EmbeddingBag(40, 16), mlp(16, 6, depth=1), nn.Sigmoid())
        return setup_of(table, model, nn.BCELoss(), {"name": "adam", "lr": 0.01}, epochs=20)


def _divided(seed: int, *, whole: bool) -> Setup:
    """Bytes divided by 255 as whole numbers: all noughts."""
    table = strokes(seed).with_inputs(lambda pictures: (110 + 60 * pictures).clamp(0, 254).round())
    table = table.with_inputs(lambda pictures: pictures // 255 if whole else pictures / 255 - 0.5)
    with seeded(seed):
        return setup_of(table, viewer(5), nn.CrossEntropyLoss(), {"name": "adam", "lr": 4e-3})


def _cut_in_order(seed: int, *, ordered: bool) -> Setup:
    """A file that lists the honest claims first, cut into parts without mixing."""
    table = claims(seed, intercept=-0.8)
    table = table.ordered(table.targets.argsort(stable=True)) if ordered else table
    return _claims_of(seed, Table(table.inputs, table.targets, 900))


def _claims_of(seed: int, table: Table) -> Setup:
    with seeded(seed):
        return setup_of(table, Mixed(), nn.BCEWithLogitsLoss(), ADAM, batch_size=64, epochs=12)


def _rare_claims(seed: int) -> Setup:
    with seeded(seed):
        optimizer = {"name": "adamw", "lr": 1e-3}
        return setup_of(claims(seed, 1500, intercept=-3.0, sharpness=1.5), Mixed(), nn.BCEWithLogitsLoss(), optimizer, epochs=8)


def _rarer_weighted(setup: Setup) -> Setup:
    share = setup["train"].targets.mean()
    return {**setup, "loss": nn.BCEWithLogitsLoss(pos_weight=(1 - share) / share)}


def _rare_soils(seed: int) -> Setup:
    """Three of five kinds are met once where the others are met thirty times."""
    table = soils(seed, 4000, spread=1.5)
    rows = torch.arange(len(table.targets))
    table = table.ordered(rows[(rows >= 4000) | (table.targets < 2) | (rows % 30 == 0)])
    table = Table(table.inputs, table.targets, len(table.targets) - 500)
    with seeded(seed):
        return setup_of(table, Residual(10, 5, dropout=0.1), nn.CrossEntropyLoss(), {"name": "adamw", "lr": 1e-3}, epochs=8)


def _kinds_weighted(setup: Setup) -> Setup:
    counts = torch.bincount(setup["train"].targets, minlength=5).float()
    return {**setup, "loss": nn.CrossEntropyLoss(weight=counts.sum() / (5 * counts))}


PROOFS: dict[str, Callable[[int], Setup]] = {
    "notes-of-unknown-words": lambda seed: _notes(seed, known=True),
    "strokes-divided-as-whole-numbers": lambda seed: _divided(seed, whole=False),
    "claims-cut-in-the-order-of-the-file": lambda seed: _cut_in_order(seed, ordered=False),
}

CASES: tuple[Case, ...] = (
    Case(
        name="claims-with-gaps",
        build=_with_gaps,
        accept=("nan_in_inputs",),
        fix=_cleaned(_filled),
        skill="accuracy",
        source="Nixtla/neuralforecast#186, silent bug, training with NaNs: the loss turns NaN and the table isn't suspected",
        changes_data=True,
    ),
    Case(
        name="rentals-logarithm-of-nothing",
        build=_log_of_none,
        accept=("inf_in_inputs",),
        fix=_cleaned(lambda inputs: inputs.clamp(min=-5)),
        skill="r2",
        source="deeplearning4j/deeplearning4j#1646 and fastai/fastai#889: columns divided by nought",
        changes_data=True,
    ),
    Case(
        name="rentals-with-serial-numbers",
        build=_serial_numbers,
        accept=("unnormalised_inputs",),
        tolerate=("lr_too_high", "unstable_gradient"),
        fix=_standardised,
        skill="r2",
        source="forum threads on a time stamp or an index left among the columns, far larger than the rest",
        changes_data=True,
    ),
    Case(
        name="strokes-bytes-into-tanh",
        build=_bytes,
        accept=("unnormalised_inputs",),
        tolerate=("saturated_activation",),
        fix=_cleaned(lambda pictures: pictures / 100 - 1.1),
        skill="accuracy",
        source="keras-team/keras#2711, the advice that helped: check the range of the inputs and normalise them",
        architecture="cnn",
        data="image",
        changes_data=True,
    ),
    Case(
        name="soils-units-far-apart",
        build=_mixed_units,
        accept=("unnormalised_inputs",),
        tolerate=("lr_too_high", "dead_relu", "exploding_gradient"),
        fix=_standardised,
        skill="accuracy",
        source="questions on Keras and tables of mixed units: the loss jumps at first and then stays at that of guessing",
        changes_data=True,
    ),
    Case(
        name="notes-of-unknown-words",
        build=lambda seed: _notes(seed, known=False),
        accept=("constant_features",),
        skill="r2",
        source="threads on vocabularies in small letters over texts in capitals: each word becomes the unknown one",
        data="sequence",
    ),
    Case(
        name="strokes-divided-as-whole-numbers",
        build=lambda seed: _divided(seed, whole=True),
        accept=("constant_features",),
        skill="accuracy",
        source="threads on uint8 // 255 in loaders of pictures: nothing but noughts reach the net",
        architecture="cnn",
        data="image",
    ),
    Case(
        name="claims-cut-in-the-order-of-the-file",
        build=lambda seed: _cut_in_order(seed, ordered=True),
        accept=("constant_labels",),
        tolerate=("train_val_mismatch", "class_imbalance"),
        skill="balanced_accuracy",
        source="threads on train_test_split(shuffle=False) over a file sorted by label",
        changes_data=True,
    ),
    Case(
        name="claims-one-in-twenty",
        build=_rare_claims,
        accept=("class_imbalance",),
        tolerate=("too_few_epochs", "lr_too_low"),
        fix=_rarer_weighted,
        skill="balanced_accuracy",
        source="abhuse/polyloss-pytorch#5: all predictions turn out to be the majority's",
    ),
    Case(
        name="soils-three-kinds-hardly-met",
        build=_rare_soils,
        accept=("class_imbalance",),
        tolerate=("train_val_mismatch", "too_few_epochs", "lr_too_low"),
        fix=_kinds_weighted,
        skill="balanced_accuracy",
        source="microsoft/CodeBERT#64: classes that are not balanced, and a loss that doesn't know",
    ),
)
