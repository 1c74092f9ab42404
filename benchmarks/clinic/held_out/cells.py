"""Patients whose cells or columns are at fault."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.held_out import images, sequences, tables
from benchmarks.clinic.held_out.kit import inputs_through, made, parted, standardised
from benchmarks.clinic.held_out.models import SeriesReader, TokenReader, WideDeep, convnet, stacked


def _finite(inputs: Tensor) -> Tensor:
    return torch.where(inputs.isfinite(), inputs, 0.0)


def missing_cells(seed: int) -> Setup:
    inputs, targets = tables.friedman(seed, rows=1300)
    lost = torch.rand(1300, 10, generator=drawn(seed, "held_out.lost")) < 0.004
    data = parted((inputs.masked_fill(lost, float("nan")), targets), 1000)
    return made(seed, lambda: WideDeep(10, 32, 1), data, nn.MSELoss(), {"name": "adam", "lr": 0.01}, epochs=15)


def blank_photo(seed: int) -> Setup:
    """Two pictures were scaled by their own range, which was nothing."""
    pictures, labels = images.strokes(seed, rows=800)
    pictures[37], pictures[411] = float("nan"), float("nan")
    data = parted((pictures, labels), 600)
    return made(seed, lambda: convnet(1, 5, flat=96), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 3e-3}, epochs=10)


def log_of_zero(seed: int) -> Setup:
    """A column is the log of a count that is zero now and then."""
    inputs, targets = tables.arrivals(seed)
    counts = torch.poisson(torch.full((1200, 1), 4.0), generator=drawn(seed, "held_out.visits"))
    data = parted((torch.cat([inputs, counts.log()], 1), (targets - 7) / 8), 900)
    return made(seed, lambda: stacked([6, 32, 32, 1]), data, nn.MSELoss(), {"name": "adamw", "lr": 5e-3}, epochs=25)


def rate_of_change(seed: int) -> Setup:
    """Relative change of a series that touches zero."""
    series, labels = sequences.wave_kinds(seed)
    flat = series[:, :, 0]
    change = (flat[:, 1:] - flat[:, :-1]) / (flat[:, :-1] * 50).round().abs()
    both = torch.stack([flat[:, 1:], change], 2)
    return made(
        seed, lambda: SeriesReader(2, 4, kind=nn.GRU), parted((both, labels), 650), nn.CrossEntropyLoss(),
        {"name": "adam", "lr": 0.01}, epochs=15,
    )  # fmt: skip


def _mild(inputs: Tensor) -> Tensor:
    return torch.where(inputs.isfinite(), inputs, 0.0).clamp(-3, 3)


def raw_tumours(seed: int) -> Setup:
    data = parted(tables.bundled(seed, "wine", raw=True), 120)
    return made(
        seed, lambda: stacked([13, 24, 3]), data, nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.02, "momentum": 0.9},
        batch_size=16, epochs=30,
    )  # fmt: skip


def bytes_as_they_are(seed: int) -> Setup:
    pictures, labels = images.gratings(seed, noise=0.6)
    data = parted(((pictures * 50 + 128).clamp(0, 255).round(), labels), 600)
    optimizer = {"name": "sgd", "lr": 0.02, "momentum": 0.9}
    return made(seed, lambda: convnet(1, 4, widths=(12, 24, 24)), data, nn.CrossEntropyLoss(), optimizer, epochs=15)


def time_stamp(seed: int) -> Setup:
    """One column counts seconds, the others are near 1."""
    inputs, labels = tables.pinwheel(seed, arms=3)
    stamp = 1_600_000 + 90_000 * torch.rand(1200, 1, generator=drawn(seed, "held_out.stamp"))
    data = parted((torch.cat([inputs, stamp], 1), labels), 900)
    return made(seed, lambda: stacked([3, 48, 48, 3]), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 5e-3}, epochs=25)


def loud_series(seed: int) -> Setup:
    series, nexts = sequences.waves(seed)
    data = parted((400 * series + 3000, nexts), 600)
    return made(seed, lambda: SeriesReader(1, 1), data, nn.MSELoss(), {"name": "adam", "lr": 0.01}, epochs=15)


def _black(pictures: Tensor) -> Tensor:
    """Bytes over 255 in whole numbers: zero but for the brightest."""
    return (pictures * 60 + 90).clamp(0, 254).div(255, rounding_mode="floor")


def _black_flecks(seed: int, *, sick: bool) -> Setup:
    pictures, labels = images.hollows(seed)
    data = parted((_black(pictures) if sick else pictures, labels), 600)
    return made(seed, lambda: convnet(1, 3), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 5e-3}, epochs=10)


def _one_row_again(seed: int, *, sick: bool) -> Setup:
    """A loader that gives the first row's columns every time, with each row's own target."""
    inputs, targets = tables.reaction(seed)
    if sick:
        inputs = inputs[:1].expand_as(inputs).clone()
    return made(
        seed,
        lambda: stacked([6, 48, 48, 1]),
        parted((inputs, targets), 700),
        nn.MSELoss(),
        {"name": "adam", "lr": 5e-3},
        epochs=20,
    )


def _all_no(seed: int, *, sick: bool) -> Setup:
    """Labels were compared with a text that has a blank too many: never equal."""
    tokens, labels = sequences.which_first(seed)
    learnt = torch.zeros_like(labels) if sick else labels
    data = TensorDataset(tokens[:900], learnt[:900, None].float()), TensorDataset(tokens[900:], labels[900:, None].float())
    return made(
        seed, lambda: TokenReader(8, 1, kind=nn.LSTM), data, nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 0.01}, epochs=10
    )


def _all_mean(seed: int, *, sick: bool) -> Setup:
    """Missing targets were filled with the mean, by a mask that took every row."""
    inputs, targets = tables.friedman(seed)
    learnt = torch.full_like(targets, float(targets.mean())) if sick else targets
    data = TensorDataset(inputs[:700], learnt[:700]), TensorDataset(inputs[700:], targets[700:])
    return made(seed, lambda: stacked([10, 32, 1]), data, nn.MSELoss(), {"name": "adam", "lr": 0.01}, epochs=20)


CASES: tuple[Case, ...] = (
    Case(
        "law-cells-lost", missing_cells, ("nan_in_inputs",), "r2",
        "ratschlab/DeepSpot#9: NaN in the input from empty cells", fix=inputs_through(_finite),
    ),
    Case(
        "blank-photos", blank_photo, ("nan_in_inputs",), "accuracy",
        "avalonstrel/GatedConvolution_pytorch#27: images whose max equals their min became NaN by scaling",
        architecture="cnn", data="image", fix=inputs_through(_finite),
    ),
    Case(
        "visits-log-of-zero", log_of_zero, ("inf_in_inputs",), "r2",
        "etzinis/sudo_rm_rf#1: zeros that a log turns into infinity", fix=inputs_through(_finite),
    ),
    Case(
        "change-over-zero", rate_of_change, ("inf_in_inputs", "nan_in_inputs"), "accuracy",
        "microsoft/qlib#666: features calculated as -inf, by dividing by zero",
        architecture="rnn", data="sequence", fix=inputs_through(_mild),
    ),
    Case(
        "wine-raw-columns", raw_tumours, ("unnormalised_inputs",), "accuracy",
        "keras-team/keras#510: NaN without clipping; each column should have mean 0 and variance 1",
        tolerate=("lr_too_high", "dead_relu", "exploding_gradient", "unstable_gradient"), fix=standardised,
    ),
    Case(
        "gratings-as-bytes", bytes_as_they_are, ("unnormalised_inputs",), "accuracy",
        "rasbt/python-machine-learning-book-2nd-edition#68: pixels 0 to 255, no convergence in 50 epochs",
        architecture="cnn", data="image", tolerate=("lr_too_high", "dead_relu", "exploding_gradient", "unstable_gradient"),
        fix=inputs_through(lambda x: (x - 128) / 50),
    ),
    Case(
        "wheel-with-a-clock", time_stamp, ("unnormalised_inputs",), "accuracy",
        "guevara/read-it-later#5625, first point of the list: you forgot to normalise your data",
        tolerate=("lr_too_high", "unstable_gradient", "dead_relu"), fix=standardised,
    ),
    Case(
        "waves-at-three-thousand", loud_series, ("unnormalised_inputs",), "r2",
        "mukul-rathi/deep-learning-tutorials#2: gates saturated from the first step",
        architecture="rnn", data="sequence", tolerate=("saturated_activation", "vanishing_gradient"),
        fix=inputs_through(lambda x: (x - 3000) / 400),
    ),
    Case(
        "hollows-gone-black", lambda seed: _black_flecks(seed, sick=True), ("constant_features",), "accuracy",
        "NVIDIA/Isaac-GR00T#758: integer division while normalising, every value collapses to one",
        architecture="cnn", data="image", changes_data=True,
    ),
    Case(
        "one-row-again-and-again", lambda seed: _one_row_again(seed, sick=True), ("constant_features",), "r2",
        "abhi8893/tensorflow-deep-learning-mrdbourke#2, in part: a loader that gives other rows than it is asked for",
        changes_data=True, tolerate=("labels_misaligned", "data_leakage"),
    ),
    Case(
        "order-all-no", lambda seed: _all_no(seed, sick=True), ("constant_labels",), "accuracy",
        "snorkel-team/snorkel#1422: loss 0.000 from the start, all labels alike",
        architecture="rnn", data="sequence", changes_data=True, tolerate=("train_val_mismatch",),
    ),
    Case(
        "law-all-mean", lambda seed: _all_mean(seed, sick=True), ("constant_labels",), "r2",
        "deeplearning4j/deeplearning4j#6880, for amounts: targets that are all alike", changes_data=True,
        tolerate=("train_val_mismatch",),
    ),
)  # fmt: skip

PROOFS: dict[str, Callable[[int], Setup]] = {
    "hollows-gone-black": lambda seed: _black_flecks(seed, sick=False),
    "one-row-again-and-again": lambda seed: _one_row_again(seed, sick=False),
    "order-all-no": lambda seed: _all_no(seed, sick=False),
    "law-all-mean": lambda seed: _all_mean(seed, sick=False),
}
