"""Sick by their rows: scales, shares, order, copies and differences between the halves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_6 import ill_parts as parts


def _standard(sick: Setup) -> Setup:
    inputs = sick["train"].tensors[0].flatten(0, -2)
    mean, spread = inputs.mean(0), inputs.std(0)
    mended = {half: TensorDataset((sick[half].tensors[0] - mean) / spread, sick[half].tensors[1]) for half in ("train", "val")}
    return {**sick, **mended}


def _flats_raw(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.mlp(6, 32, 32, 1, act=nn.Tanh)
    return parts.setup(parts.flats(seed, raw=True), model, nn.MSELoss(), name="sgd", lr=0.02, momentum=0.9)


def _gaits_counts(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.Reader(3, 4)
    train, val = (TensorDataset(part.tensors[0] * 500 + 2048, part.tensors[1]) for part in parts.gaits(seed))
    return parts.setup((train, val), model, nn.CrossEntropyLoss(), lr=0.01, epochs=12)


def _guests_rare(seed: int) -> Setup:
    draw = drawn(seed, "complaints")
    habits = torch.randn(2100, 10, generator=draw)
    anger = habits[:, 0] + 0.7 * habits[:, 1] - 0.6 * habits[:, 2] * habits[:, 3] + 0.6 * torch.randn(2100, generator=draw)
    with parts.weights_from(seed):
        model = parts.mlp(10, 24, 1)
    data = parts.halves(habits, (anger > 2.4).float()[:, None], 1200)
    return parts.setup(data, model, nn.BCEWithLogitsLoss(), epochs=10)


def _weighted(sick: Setup) -> Setup:
    kinds = sick["train"].tensors[1]
    return {**sick, "loss": nn.BCEWithLogitsLoss(pos_weight=(kinds == 0).sum(0) / (kinds == 1).sum(0))}


def _gaits_shuffled_apart(seed: int, *, mended: bool = False) -> Setup:
    train, val = parts.gaits(seed)
    order = torch.randperm(len(train), generator=drawn(seed, "apart"))
    with parts.weights_from(seed):
        model = parts.Reader(3, 4)
    series, kinds = train.tensors
    data = TensorDataset(series[order], kinds[order] if mended else kinds), val
    return parts.setup(data, model, nn.CrossEntropyLoss(), lr=0.01, epochs=12)


def _soils_header(seed: int, *, mended: bool = False) -> Setup:
    train, val = parts.soils(seed)
    measures, kinds = train.tensors
    with parts.weights_from(seed):
        model = parts.mlp(8, 40, 40, 5)
    data = TensorDataset(measures, kinds) if mended else TensorDataset(measures[1:], kinds[:-1])
    return parts.setup((data, val), model, nn.CrossEntropyLoss())


def _reviews_two_exports(seed: int) -> Setup:
    train, val = parts.reviews(seed, rows=800)
    (words, praise), (other, verdict) = train.tensors, val.tensors
    data = train, TensorDataset(torch.cat([other[:350], words[100:250]]), torch.cat([verdict[:350], praise[100:250]]))
    with parts.weights_from(seed):
        model = parts.Reader(16, 2, words=30)
    return parts.setup(data, model, nn.CrossEntropyLoss(), lr=3e-3, epochs=10)


def _new_only(sick: Setup) -> Setup:
    words, praise = sick["val"].tensors
    return {**sick, "val": TensorDataset(words[:350], praise[:350])}


def _tiles_grown_first(seed: int) -> Setup:
    pictures, kinds = parts.tiles(seed, rows=300, noise=0.6)[0].tensors
    grown = torch.cat([pictures, pictures + 0.01 * torch.randn(pictures.shape, generator=drawn(seed, "grown")), pictures])
    order = torch.randperm(900, generator=drawn(seed, "order"))
    data: parts.Halves = parts.halves(grown[order], kinds.repeat(3)[order], 600)
    with parts.weights_from(seed):
        model = parts.eye(5)
    return parts.setup(data, model, nn.CrossEntropyLoss(), epochs=15)


def _split_first(sick: Setup) -> Setup:
    seen = sick["train"].tensors[0]
    pictures, kinds = sick["val"].tensors
    new = torch.cdist(pictures.flatten(1), seen.flatten(1)).amin(1) > 1
    return {**sick, "val": TensorDataset(pictures[new], kinds[new])}


def _tiles_bytes(seed: int) -> Setup:
    train, val = parts.tiles(seed)
    with parts.weights_from(seed):
        model = parts.eye(5)
    data = train, TensorDataset((val.tensors[0] + 0.5) * 128, val.tensors[1])
    return parts.setup(data, model, nn.CrossEntropyLoss(), epochs=12)


def _from_bytes(sick: Setup) -> Setup:
    return {**sick, "val": TensorDataset(sick["val"].tensors[0] / 128 - 0.5, sick["val"].tensors[1])}


def _flats_of_the_suburbs(seed: int, *, mended: bool = False) -> Setup:
    facts, prices = (torch.cat(pair) for pair in zip(*(part.tensors for part in parts.flats(seed, rows=900))))
    near = facts[:, 3] < 0.3
    order = torch.arange(len(facts)) if mended else torch.cat([near.nonzero()[:, 0], (~near).nonzero()[:, 0]])
    with parts.weights_from(seed):
        model = parts.mlp(6, 32, 32, 1)
    return parts.setup(parts.halves(facts[order], prices[order], int(near.sum())), model, nn.MSELoss())


CASES: tuple[Case, ...] = (
    Case(
        "flats-as-the-table-has-them",
        _flats_raw,
        ("unnormalised_inputs",),
        "r2",
        "frequent question: square metres, years and kilowatt-hours go in as they are, and every flat costs the same",
        tolerate=(
            "saturated_activation",
            "lr_too_high",
            "unstable_gradient",
            "vanishing_gradient",
        ),
        fix=_standard,
    ),
    Case(
        "gaits-counts-of-the-sensor",
        _gaits_counts,
        ("unnormalised_inputs",),
        "accuracy",
        "frequent question: raw counts around 2048 of a sensor fed into a recurrent network",
        architecture="rnn",
        data="sequence",
        tolerate=(
            "saturated_activation",
            "vanishing_gradient",
        ),
        fix=_standard,
    ),
    Case(
        "guests-who-complain",
        _guests_rare,
        ("class_imbalance",),
        "balanced_accuracy",
        "frequent question: accuracy of 96 %, and not one complaint is foreseen",
        tolerate=("too_few_epochs",),
        fix=_weighted,
    ),
    Case(
        "gaits-shuffled-apart",
        _gaits_shuffled_apart,
        ("labels_misaligned",),
        "accuracy",
        "DrexelChatbotGroup/DrexelChatbot#15: the order of x is randomised, that of y isn't",
        architecture="rnn",
        data="sequence",
        tolerate=("overfitting",),
    ),
    Case(
        "soils-header-counted-as-a-row",
        _soils_header,
        ("labels_misaligned",),
        "accuracy",
        "frequent question: one file was read with its header, the other without; labels are one row late",
        tolerate=("overfitting",),
    ),
    Case(
        "reviews-in-both-exports",
        _reviews_two_exports,
        ("data_leakage",),
        "accuracy",
        "frequent question: two exports of reviews overlap, some rows are in both halves",
        architecture="rnn",
        data="sequence",
        tolerate=("overfitting",),
        fix=_new_only,
        changes_data=True,
    ),
    Case(
        "tiles-grown-before-the-cut",
        _tiles_grown_first,
        ("data_leakage",),
        "accuracy",
        "frequent question: pictures were augmented first and split then",
        architecture="cnn",
        data="image",
        tolerate=("overfitting",),
        fix=_split_first,
        changes_data=True,
    ),
    Case(
        "tiles-judged-as-bytes",
        _tiles_bytes,
        ("train_val_mismatch",),
        "accuracy",
        "JeasunLok/ResNet-pytorch#1: the training set is normalised, the test set isn't",
        architecture="cnn",
        data="image",
        fix=_from_bytes,
        changes_data=True,
    ),
    Case(
        "flats-of-the-suburbs",
        _flats_of_the_suburbs,
        ("train_val_mismatch",),
        "r2",
        "keras-team/keras#8346: a split by position leaves to validation what training has never seen",
        tolerate=("overfitting",),
        changes_data=True,
    ),
)

PROOFS: dict[str, Callable[[int], Setup]] = {
    "gaits-shuffled-apart": partial(_gaits_shuffled_apart, mended=True),
    "soils-header-counted-as-a-row": partial(_soils_header, mended=True),
    "flats-of-the-suburbs": partial(_flats_of_the_suburbs, mended=True),
}
