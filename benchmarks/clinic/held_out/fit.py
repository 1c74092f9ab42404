"""Patients that fit too little or too much, and those that ask for too much memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.held_out import images, sequences, tables
from benchmarks.clinic.held_out.kit import made, mended, parted, tuned
from benchmarks.clinic.held_out.models import TokenReader, Transformer, convnet, stacked


def _narrow(seed: int, *, sick: bool) -> Setup:
    width = 2 if sick else 48
    data = parted(tables.pinwheel(seed, arms=5), 900)
    return made(seed, lambda: stacked([2, width, width, 5]), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=30)


def _one_kernel(seed: int, *, sick: bool) -> Setup:
    widths = (1, 1) if sick else (12, 24)
    data = parted(images.strokes(seed), 600)
    net = lambda: convnet(1, 5, widths=widths, activation=nn.GELU)  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=25)


def _one_state(seed: int, *, sick: bool) -> Setup:
    data = parted(sequences.ballots(seed), 900)
    net = lambda: TokenReader(5, 5, hidden=1 if sick else 32)  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.02}, epochs=15)


def _line_for_a_curve(seed: int, *, sick: bool) -> Setup:
    data = parted(tables.annuli(seed, classes=2, extra=0), 700)
    net = lambda: nn.Linear(2, 2) if sick else stacked([2, 32, 2])  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.02}, epochs=25)


class Bag(nn.Module):
    """The mean of token vectors, which forgets their order, or of vectors of neighbours."""

    def __init__(self, *, pairs: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 16)
        self.pairs = pairs
        self.seen = nn.GRU(16, 32, batch_first=True)
        self.head = stacked([32 if pairs else 16, 32, 2])

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = self.table(tokens)
        return self.head(self.seen(vectors)[0].mean(1) if self.pairs else vectors.mean(1))


def _order_thrown_away(seed: int, *, sick: bool) -> Setup:
    data = parted(sequences.which_first(seed), 900)

    def model() -> nn.Module:
        net = Bag(pairs=not sick)
        if sick:
            del net.seen
        return net

    return made(seed, model, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=12)


def learnt_noise(seed: int) -> Setup:
    data = parted(tables.friedman(seed, rows=600, noise=1.5), 100)
    optimizer = {"name": "adam", "lr": 3e-3}
    return made(seed, lambda: stacked([10, 128, 128, 1]), data, nn.MSELoss(), optimizer, batch_size=16, epochs=100)


def learnt_wrong_labels(seed: int) -> Setup:
    """Three training labels in ten are wrong, and learnt by heart; validation labels were looked over."""
    inputs, heights = tables.linear_law(seed, rows=700, width=10, noise=0.1)
    labels = (heights[:, 0] > 0).long()
    labels = torch.where(torch.arange(700) < 200, tables.flipped(labels, 0.3, seed), labels)
    optimizer = {"name": "adam", "lr": 5e-3}
    data = parted((inputs, labels), 200)
    return made(seed, lambda: stacked([10, 256, 128, 2]), data, nn.CrossEntropyLoss(), optimizer, batch_size=32, epochs=60)


def crushed_law(seed: int) -> Setup:
    data = parted(tables.friedman(seed), 700)
    optimizer = {"name": "adam", "lr": 5e-3, "weight_decay": 0.5}
    return made(seed, lambda: stacked([10, 48, 48, 1]), data, nn.MSELoss(), optimizer, epochs=25)


def crushed_gratings(seed: int) -> Setup:
    data = parted(images.gratings(seed), 600)
    optimizer = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.3}
    return made(seed, lambda: convnet(1, 4), data, nn.CrossEntropyLoss(), optimizer, epochs=15)


def kept_a_tenth(seed: int) -> Setup:
    """The number meant the share to keep."""
    data = parted(tables.pinwheel(seed, arms=4), 900)
    return made(
        seed, lambda: stacked([2, 48, 48, 4], dropout=0.9), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=25
    )


def _dropping_little(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.05


class Holes(nn.Module):
    """Tokens' vectors are dropped by a function, most of them."""

    share = 0.95

    def __init__(self) -> None:
        super().__init__()
        self.reader = TokenReader(8, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = F.dropout(self.reader.table(tokens), self.share, self.training)
        states = self.reader.reader(vectors)[0][:, -1]
        return self.reader.head(F.dropout(states, self.share, self.training))


def holes_in_words(seed: int) -> Setup:
    data = parted(sequences.which_first(seed), 900)
    return made(seed, Holes, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=10)


def _few_holes(model: Any) -> None:
    model.share = 0.05


class EveryPlace(nn.Module):
    """A table of biases between any two of two million places, made anew at each call."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self.inner = Transformer(8, 2, length=14, depth=1)
        self.places = places

    def forward(self, tokens: Tensor) -> Tensor:
        near = torch.zeros(4, self.places, self.places)
        return self.inner(tokens) + near[0, 0, :1]


def _too_many_places(seed: int, *, sick: bool) -> Setup:
    data = parted(sequences.which_first(seed), 900)
    net = lambda: EveryPlace(2_000_000 if sick else 14)  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 5e-3}, epochs=10)


class Identities(nn.Module):
    """Customers' numbers as one-hot rows, as wide as the largest number there may be."""

    def __init__(self, widest: int) -> None:
        super().__init__()
        self.widest = widest
        self.body = stacked([6, 32, 1])

    def forward(self, x: Tensor) -> Tensor:
        who = F.one_hot((x[:, 0] > 0).long(), self.widest)
        return self.body(x) + 0.0 * who[:, :1]


def _one_hot(seed: int, *, sick: bool) -> Setup:
    data = parted(tables.reaction(seed), 700)
    net = lambda: Identities(200_000_000_000 if sick else 2)  # noqa: E731
    return made(seed, net, data, nn.MSELoss(), {"name": "adam", "lr": 0.01}, epochs=25)


CASES: tuple[Case, ...] = (
    Case(
        "wheel-through-two-units", lambda seed: _narrow(seed, sick=True), ("capacity_too_small", "underfitting"), "accuracy",
        "mozilla/DeepSpeech#311: even where it overfits, the net is too small for the goal", tolerate=("dead_relu",),
    ),
    Case(
        "strokes-by-one-kernel", lambda seed: _one_kernel(seed, sick=True), ("capacity_too_small", "underfitting"), "accuracy",
        "wandb/senpai#18: was expressivity the bottleneck? The hidden size is doubled", architecture="cnn", data="image",
    ),
    Case(
        "votes-in-one-state", lambda seed: _one_state(seed, sick=True), ("capacity_too_small", "underfitting"), "accuracy",
        "mozilla/DeepSpeech#311, for a recurrent state of one number", architecture="rnn", data="sequence",
    ),
    Case(
        "line-for-a-ring", lambda seed: _line_for_a_curve(seed, sick=True), ("underfitting", "capacity_too_small"), "accuracy",
        "wagonhelm/NaNmnist#2, in part: a single layer, where the classes need a curve", tolerate=("missing_nonlinearity",),
    ),
    Case(
        "order-thrown-away", lambda seed: _order_thrown_away(seed, sick=True), ("underfitting", "capacity_too_small"), "accuracy",
        "lucidrains/vit-pytorch#57: can't even overfit; here the mean forgets what the task is about",
        data="sequence", tolerate=("overfitting",),
    ),
    Case(
        "noise-by-heart", learnt_noise, ("overfitting",), "r2",
        "keras-team/keras#161: training loss falls, validation loss turns up",
        fix=tuned(name="adamw", weight_decay=10.0, lr=1e-3),
    ),
    Case(
        "wrong-labels-by-heart", learnt_wrong_labels, ("overfitting",), "accuracy",
        "soapisnotfat/pytorch-cifar10#9: on less data, all of training right, test falls",
        tolerate=("train_val_mismatch",), fix=tuned(name="adamw", weight_decay=20.0, lr=1e-3),
    ),
    Case(
        "law-crushed", crushed_law, ("over_regularised",), "r2",
        "BVLC/caffe#1396: at a large weight decay all weights become zero, every output is the same",
        tolerate=("underfitting",), fix=tuned(weight_decay=1e-4),
    ),
    Case(
        "gratings-crushed", crushed_gratings, ("over_regularised",), "accuracy",
        "BVLC/caffe#1396, in a convolutional net with momentum", architecture="cnn", data="image",
        tolerate=("underfitting", "dead_relu"), fix=tuned(weight_decay=1e-4),
    ),
    Case(
        "wheel-keeps-a-tenth", kept_a_tenth, ("dropout_too_high",), "accuracy",
        "bonlime/keras-deeplab-v3-plus#4: Dropout(0.9) where 0.9 was the share to keep",
        tolerate=("underfitting", "over_regularised"), fix=mended(_dropping_little),
    ),
    Case(
        "order-full-of-holes", holes_in_words, ("dropout_too_high",), "accuracy",
        "piergiaj/pytorch-i3d#58: the parameter is the share removed, not kept",
        architecture="rnn", data="sequence", tolerate=("underfitting", "over_regularised"), fix=mended(_few_holes),
    ),
    Case(
        "two-million-places", lambda seed: _too_many_places(seed, sick=True), ("out_of_memory",), "accuracy",
        "hpcaitech/Open-Sora#70: a mask of length times length asks for 720 GB", architecture="transformer", data="sequence",
    ),
    Case(
        "one-hot-to-the-largest", lambda seed: _one_hot(seed, sick=True), ("out_of_memory",), "r2",
        "pytorch/pytorch#133206, for a table: all of a huge, mostly empty matrix at once",
    ),
)  # fmt: skip

PROOFS: dict[str, Callable[[int], Setup]] = {
    "wheel-through-two-units": lambda seed: _narrow(seed, sick=False),
    "strokes-by-one-kernel": lambda seed: _one_kernel(seed, sick=False),
    "votes-in-one-state": lambda seed: _one_state(seed, sick=False),
    "line-for-a-ring": lambda seed: _line_for_a_curve(seed, sick=False),
    "order-thrown-away": lambda seed: _order_thrown_away(seed, sick=False),
    "two-million-places": lambda seed: _too_many_places(seed, sick=False),
    "one-hot-to-the-largest": lambda seed: _one_hot(seed, sick=False),
}
