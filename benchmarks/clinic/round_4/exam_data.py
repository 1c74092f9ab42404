"""An exam, first half: setups whose inputs are broken, or come in a bad order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_4.exam_parts import LastStep, convnet, fed, inputs_scaled, job, mlp, seeded, setup
from benchmarks.clinic.round_4.exam_rows import Rows, customers, demand, digits, flats, signs, tones

_CE, _BCE, _MSE = nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss(), nn.MSELoss()
_ADAM = {"name": "adam", "lr": 5e-3}


@seeded
def _unasked_ages(seed: int) -> Setup:
    rows = customers(seed).scaled()
    dice = drawn(seed, "unasked")
    for part in (rows.x, rows.val_x):
        part[torch.rand(len(part), generator=dice) < 0.03, 0] = torch.nan
    return setup(rows, mlp(9, 48, 24, 1), _BCE, {"name": "adam", "lr": 3e-3}, epochs=15)


@seeded
def _meter_silent(seed: int) -> Setup:
    rows = demand(seed)
    x = rows.x.clone()
    x[411, 7] = torch.nan
    model = LastStep(nn.GRU(1, 24, batch_first=True), 1)
    return setup(rows.train_only(x=x), model, _MSE, {"name": "adam", "lr": 5e-3}, batch_size=64, epochs=15)


@seeded
def _log_of_nothing(seed: int) -> Setup:
    rows = customers(seed)

    def logged(x: Tensor) -> Tensor:
        counts = torch.where(x[:, 4] < 0.15, 0.0, x[:, 4])
        return torch.cat([x[:, :4], counts.log().unsqueeze(1), x[:, 5:]], 1)

    low, high = rows.x.amin(0), rows.x.amax(0)
    rows = rows.mapped(logged)
    low[4], high[4] = -2.0, 2.5
    return setup(
        rows.mapped(lambda x: (x - low) / (high - low)), mlp(9, 48, 24, 1), _BCE, {"name": "adam", "lr": 5e-3}, epochs=15
    )


@seeded
def _price_per_room(seed: int) -> Setup:
    rows = flats(seed).scaled().target_scaled()
    x = rows.x.clone()
    x[[37, 520, 801], 1] = torch.inf
    return setup(rows.train_only(x=x), mlp(7, 64, 32, 1), _MSE, {"name": "adam", "lr": 3e-3}, epochs=15)


@seeded
def _raw_columns(seed: int) -> Setup:
    return setup(customers(seed), mlp(9, 48, 24, 1), _BCE, {"name": "adam", "lr": 1e-3}, epochs=15)


@seeded
def _megawatts(seed: int) -> Setup:
    rows = demand(seed).mapped(lambda x: 35_000 + 6_000 * x)
    return setup(rows, LastStep(nn.GRU(1, 24, batch_first=True), 1), _MSE, _ADAM, batch_size=64, epochs=15)


@seeded
def _bytes(seed: int) -> Setup:
    rows = signs(seed).mapped(lambda x: (255 * x.clamp(0, 1)).round())
    return setup(rows, convnet(12, 4), _CE, {"name": "sgd", "lr": 0.02, "momentum": 0.9}, epochs=15)


def _pale(seed: int) -> Rows:
    return digits(seed).mapped(lambda x: x / 16)


@seeded
def _floored(seed: int) -> Setup:
    rows = digits(seed).mapped(lambda x: (x.long() // 255).float())
    return setup(rows, convnet(8, 10), _CE, {"name": "adam", "lr": 3e-3}, batch_size=64, epochs=8)


@seeded
def _divided(seed: int) -> Setup:
    return setup(_pale(seed), convnet(8, 10), _CE, {"name": "adam", "lr": 3e-3}, batch_size=64, epochs=8)


@seeded
def _less_themselves(seed: int) -> Setup:
    rows = flats(seed).scaled().target_scaled().mapped(lambda x: x - x.unsqueeze(1).mean(1))
    return setup(rows, mlp(7, 64, 32, 1), _MSE, {"name": "adam", "lr": 3e-3}, epochs=15)


@seeded
def _less_their_mean(seed: int) -> Setup:
    return setup(flats(seed).scaled().target_scaled(), mlp(7, 64, 32, 1), _MSE, {"name": "adam", "lr": 3e-3}, epochs=15)


@seeded
def _class_by_class(seed: int) -> Setup:
    given = setup(_pale(seed).sorted(), convnet(8, 10), _CE, {"name": "adam", "lr": 3e-3}, batch_size=64, epochs=10)
    return {**given, "shuffle": False}


@seeded
def _tone_by_tone(seed: int) -> Setup:
    model = LastStep(nn.GRU(1, 32, batch_first=True), 4)
    given = setup(tones(seed).sorted(), model, _CE, {"name": "adam", "lr": 5e-3}, epochs=10)
    return {**given, "shuffle": False}


def _finite_rows(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    kept = torch.isfinite(x).flatten(1).all(1)
    return x[kept], y[kept]


PROOFS = {"digits-floored-to-zero": _divided, "flats-less-themselves": _less_their_mean}

CASES: tuple[Case, ...] = (
    Case(
        "customers-ages-not-asked",
        _unasked_ages,
        ("nan_in_inputs",),
        "accuracy",
        "StackOverflow: read_csv leaves NaN where a cell is empty; the loss is nan from the first epoch on",
        fix=fed(_finite_rows, "train", "val"),
        changes_data=True,
    ),
    Case(
        "demand-gru-one-silent-hour",
        _meter_silent,
        ("nan_in_inputs",),
        "r2",
        "GitHub Nixtla/neuralforecast#186: one missing hour of a series, the loss becomes nan and nobody sees why",
        architecture="rnn",
        data="sequence",
        fix=fed(_finite_rows, "train"),
    ),
    Case(
        "customers-log-of-no-calls",
        _log_of_nothing,
        ("inf_in_inputs",),
        "accuracy",
        "StackOverflow: np.log of a count column with zeros puts -inf into the features",
        fix=fed(lambda x, y: (x.clamp(min=-1), y), "train", "val"),
        changes_data=True,
    ),
    Case(
        "flats-area-by-no-rooms",
        _price_per_room,
        ("inf_in_inputs",),
        "r2",
        "StackOverflow: a ratio of two columns, three denominators are 0; 'Input contains infinity' in other libraries",
        fix=fed(_finite_rows, "train"),
    ),
    Case(
        "customers-raw-columns",
        _raw_columns,
        ("unnormalised_inputs",),
        "accuracy",
        "StackOverflow: incomes of 40,000 beside flags of 0 and 1, accuracy stays at the majority's share",
        tolerate=("dead_relu", "exploding_gradient", "saturated_activation"),
        fix=inputs_scaled(0),
    ),
    Case(
        "demand-gru-in-megawatts",
        _megawatts,
        ("unnormalised_inputs",),
        "r2",
        "StackOverflow: an LSTM fed with loads of 35,000 predicts the same value for every day",
        architecture="rnn",
        data="sequence",
        tolerate=("saturated_activation", "vanishing_gradient"),
        fix=inputs_scaled(0, 1, 2),
    ),
    Case(
        "signs-cnn-bytes",
        _bytes,
        ("unnormalised_inputs",),
        "accuracy",
        "StackOverflow: images of 0 to 255 without ToTensor; the CNN gives the same class for all",
        architecture="cnn",
        data="image",
        tolerate=("lr_too_high", "dead_relu", "exploding_gradient", "unstable_gradient"),
        fix=inputs_scaled(0, 1, 2, 3),
    ),
    Case(
        "digits-floored-to-zero",
        _floored,
        ("constant_features",),
        "accuracy",
        "StackOverflow: images // 255 in integers: every pixel is 0",
        architecture="cnn",
        data="image",
    ),
    Case(
        "flats-less-themselves",
        _less_themselves,
        ("constant_features",),
        "r2",
        "PyTorch forum: standardised row by row in the data set's own code, so that nothing but zeros is left",
    ),
    Case(
        "digits-cnn-class-by-class",
        _class_by_class,
        ("unshuffled_data",),
        "accuracy",
        "GitHub happynear/NormFace#4: rows sorted by label and no shuffling; the last classes win",
        architecture="cnn",
        data="image",
        fix=job(shuffle=True),
    ),
    Case(
        "tones-gru-tone-by-tone",
        _tone_by_tone,
        ("unshuffled_data",),
        "accuracy",
        "GitHub NVIDIA/DIGITS#29: recordings read folder by folder; the network knows the last folder",
        architecture="rnn",
        data="sequence",
        fix=job(shuffle=True),
    ),
)
