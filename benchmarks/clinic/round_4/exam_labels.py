"""An exam, first half: setups whose targets are wrong, badly shaped or badly scaled."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_4.exam_parts import LastStep, Model, Reader, fed, job, mlp, seeded, setup, targets_scaled
from benchmarks.clinic.round_4.exam_rows import crops, customers, demand, flats, reviews

_CE, _BCE, _MSE = nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss(), nn.MSELoss()
_ADAM = {"name": "adam", "lr": 3e-3}


@seeded
def _from_one(seed: int) -> Setup:
    return setup(crops(seed).mapped(targets=lambda y: y + 1), mlp(8, 64, 32, 6), _CE, _ADAM, epochs=15)


@seeded
def _not_rated(seed: int) -> Setup:
    rows = reviews(seed)
    unrated = torch.rand(len(rows.y), generator=drawn(seed, "unrated")) < 0.05
    rows = rows.train_only(y=torch.where(unrated, -1, rows.y))
    return setup(rows, Reader(40, 2, depth=1), _CE, {"name": "adam", "lr": 2e-3}, epochs=4)


@seeded
def _plus_and_minus(seed: int) -> Setup:
    rows = customers(seed).scaled().mapped(targets=lambda y: 2 * y - 1)
    return setup(rows, mlp(9, 48, 24, 1), _BCE, _ADAM, epochs=15)


@seeded
def _flat_targets(seed: int) -> Setup:
    rows = flats(seed).scaled().target_scaled().mapped(targets=lambda y: y.squeeze(1))
    return setup(rows, mlp(7, 64, 32, 1), _MSE, _ADAM, epochs=15)


def _squeezed(outputs: Tensor) -> Tensor:
    return outputs.squeeze()


@seeded
def _flat_outputs(seed: int) -> Setup:
    model = Model(LastStep(nn.GRU(1, 24, batch_first=True), 1), _squeezed)
    return setup(demand(seed), model, nn.L1Loss(), {"name": "adam", "lr": 5e-3}, batch_size=64, epochs=15)


@seeded
def _column_of_labels(seed: int) -> Setup:
    rows = reviews(seed).mapped(targets=lambda y: y.unsqueeze(1))
    return setup(rows, Reader(40, 2, depth=1), _CE, {"name": "adam", "lr": 2e-3}, epochs=6)


@seeded
def _whole_prices(seed: int) -> Setup:
    return setup(flats(seed).scaled(), mlp(7, 64, 32, 1), _MSE, {"name": "adam", "lr": 1e-3}, epochs=25)


@seeded
def _kelvin(seed: int) -> Setup:
    rows = demand(seed).mapped(targets=lambda y: 285 + 8 * y)
    model = LastStep(nn.LSTM(1, 24, batch_first=True), 1)
    return setup(rows, model, _MSE, {"name": "adam", "lr": 3e-3}, batch_size=64, epochs=15)


@seeded
def _nobody_left(seed: int) -> Setup:
    rows = customers(seed).scaled()
    return setup(rows.train_only(y=torch.zeros_like(rows.y)), mlp(9, 48, 24, 1), _BCE, _ADAM, epochs=10)


@seeded
def _some_left(seed: int) -> Setup:
    return setup(customers(seed).scaled(), mlp(9, 48, 24, 1), _BCE, _ADAM, epochs=10)


@seeded
def _whole_millions(seed: int) -> Setup:
    rows = flats(seed).scaled().mapped(targets=lambda y: (y / 1e6).clamp(max=0.99).long().float())
    return setup(rows, mlp(7, 64, 32, 1), _MSE, _ADAM, epochs=15)


@seeded
def _parts_of_millions(seed: int) -> Setup:
    rows = flats(seed).scaled().mapped(targets=lambda y: y / 1e6)
    return setup(rows, mlp(7, 64, 32, 1), _MSE, _ADAM, epochs=15)


@seeded
def _one_row_off(seed: int) -> Setup:
    rows = flats(seed).scaled().target_scaled()
    return setup(rows.train_only(y=rows.y.roll(1, 0)), mlp(7, 64, 32, 1), _MSE, _ADAM, epochs=15)


@seeded
def _words_shuffled_alone(seed: int) -> Setup:
    rows = reviews(seed)
    order = torch.randperm(len(rows.x), generator=drawn(seed, "alone"))
    return setup(rows.train_only(x=rows.x[order]), Reader(40, 2, depth=1), _CE, {"name": "adam", "lr": 2e-3}, epochs=6)


@seeded
def _words_in_place(seed: int) -> Setup:
    return setup(reviews(seed), Reader(40, 2, depth=1), _CE, {"name": "adam", "lr": 2e-3}, epochs=6)


def _column(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.mse_loss(outputs, targets.unsqueeze(1))


def _row(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.l1_loss(outputs, targets.squeeze(1))


def _ids(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets.squeeze(1))


PROOFS = {
    "customers-none-of-whom-left": _some_left,
    "flats-whole-millions": _parts_of_millions,
    "reviews-words-shuffled-alone": _words_in_place,
}
CASES: tuple[Case, ...] = (
    Case(
        "crops-counted-from-one",
        _from_one,
        ("label_out_of_range",),
        "accuracy",
        "StackOverflow: classes numbered 1 to 6 and six outputs: 'Target 6 is out of bounds'",
        tolerate=("wrong_num_outputs",),
        fix=fed(lambda x, y: (x, y - 1), "train", "val"),
        changes_data=True,
    ),
    Case(
        "reviews-not-rated-minus-one",
        _not_rated,
        ("label_out_of_range",),
        "accuracy",
        "taourl.com/read-2964347: 'Target -1 is out of bounds', -1 stands for rows without a label",
        architecture="transformer",
        data="sequence",
        fix=job(loss=nn.CrossEntropyLoss(ignore_index=-1)),
    ),
    Case(
        "customers-plus-and-minus-one",
        _plus_and_minus,
        ("label_out_of_range", "wrong_loss"),
        "accuracy",
        "PyTorch forum: BCEWithLogitsLoss with labels -1 and 1, the loss goes far below zero",
        tolerate=("exploding_gradient",),
        fix=fed(lambda x, y: (x, (y + 1) / 2), "train", "val"),
        changes_data=True,
    ),
    Case(
        "flats-flat-targets",
        _flat_targets,
        ("target_shape_mismatch",),
        "r2",
        "StackOverflow: 'Using a target size ([32]) that is different to the input size ([32, 1])', predicts the mean",
        fix=job(loss=_column),
    ),
    Case(
        "demand-gru-squeezed-outputs",
        _flat_outputs,
        ("target_shape_mismatch",),
        "r2",
        "PyTorch forum: output.squeeze() in forward, targets remain a column; L1Loss warns and averages over all pairs",
        architecture="rnn",
        data="sequence",
        fix=job(loss=_row),
    ),
    Case(
        "reviews-column-of-labels",
        _column_of_labels,
        ("target_shape_mismatch",),
        "accuracy",
        "StackOverflow: '0D or 1D target tensor expected, multi-target not supported'",
        architecture="transformer",
        data="sequence",
        fix=job(loss=_ids),
    ),
    Case(
        "flats-prices-in-whole-money",
        _whole_prices,
        ("unscaled_targets",),
        "r2",
        "discuss.pytorch.org/t/96648: could not learn; the answer is to standardise the targets as well",
        tolerate=("lr_too_low", "too_few_epochs", "exploding_gradient", "underfitting"),
        fix=targets_scaled,
    ),
    Case(
        "demand-lstm-in-kelvin",
        _kelvin,
        ("unscaled_targets",),
        "r2",
        "StackOverflow: an LSTM that predicts a constant; targets near 285 while the head starts at 0",
        architecture="rnn",
        data="sequence",
        tolerate=("lr_too_low", "too_few_epochs", "underfitting"),
        fix=targets_scaled,
    ),
    Case(
        "customers-none-of-whom-left",
        _nobody_left,
        ("constant_labels",),
        "accuracy",
        "StackOverflow: a comparison with text instead of a number makes every label 0; the loss is 0 at once",
        tolerate=("class_imbalance", "train_val_mismatch"),
    ),
    Case(
        "flats-whole-millions",
        _whole_millions,
        ("constant_labels",),
        "r2",
        "StackOverflow: targets between 0 and 1 go through astype(int) and are all 0",
        changes_data=True,
    ),
    Case(
        "flats-prices-one-row-off",
        _one_row_off,
        ("labels_misaligned",),
        "r2",
        "StackOverflow: skiprows for the features only, so that every label belongs to the row before",
        tolerate=("train_val_mismatch", "overfitting"),
        fix=fed(lambda x, y: (x, y.roll(-1, 0)), "train"),
    ),
    Case(
        "reviews-words-shuffled-alone",
        _words_shuffled_alone,
        ("labels_misaligned",),
        "accuracy",
        "GitHub udacity/sdc-issue-reports#1326: features and labels shuffled in different orders",
        architecture="transformer",
        data="sequence",
        tolerate=("train_val_mismatch", "overfitting"),
    ),
)
