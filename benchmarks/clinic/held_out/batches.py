"""Patients whose rows meddle with each other: norms over few rows, a last row alone, mixed dimensions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.held_out import images, sequences, tables
from benchmarks.clinic.held_out.kit import made, parted, swapped
from benchmarks.clinic.held_out.models import Transformer, convnet, stacked


def one_left_over(seed: int) -> Setup:
    data = parted(tables.clusters(seed, classes=6, rows=1100), 801)
    return made(
        seed,
        lambda: stacked([16, 48, 48, 6], norm=nn.BatchNorm1d),
        data,
        nn.CrossEntropyLoss(),
        {"name": "adam", "lr": 5e-3},
        batch_size=32,
    )


def one_picture_over(seed: int) -> Setup:
    """Norm after the mean over places: a single picture has a single value in each channel."""

    def model() -> nn.Module:
        seen = convnet(1, 24, widths=(8, 16))
        return nn.Sequential(seen, nn.BatchNorm1d(24), nn.SiLU(), nn.Linear(24, 3))

    data = parted(images.hollows(seed), 571)
    return made(seed, model, data, nn.CrossEntropyLoss(), {"name": "adamw", "lr": 5e-3}, batch_size=30, epochs=12)


def pairs_under_norm(seed: int) -> Setup:
    data = parted(tables.friedman(seed, rows=800), 500)
    return made(
        seed, lambda: stacked([10, 32, 32, 1], norm=nn.BatchNorm1d), data, nn.MSELoss(), {"name": "adam", "lr": 3e-3},
        batch_size=2, epochs=6,
    )  # fmt: skip


def threes_under_norm(seed: int) -> Setup:
    """A norm of the user's own over the batch, on pooled features."""
    data = parted(images.gratings(seed, noise=0.9), 480)

    def model() -> nn.Module:
        return nn.Sequential(
            convnet(1, 32, widths=(12, 24)), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU(),
            nn.Linear(32, 4),
        )  # fmt: skip

    return made(seed, model, data, nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.1, "momentum": 0.5}, batch_size=2, epochs=5)


class TimeMixed(nn.Module):
    """A recurrent net that wants time first, given rows first."""

    def __init__(self, words: int, num_outputs: int, *, batch_first: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(words, 16)
        self.reader = nn.LSTM(16, 32, batch_first=batch_first)
        self.head = nn.Linear(32, num_outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.reader(self.table(tokens))[0][:, -1])


def _rows_as_time(seed: int, *, sick: bool) -> Setup:
    data = parted(sequences.first_word(seed, words=5), 800)
    net = lambda: TimeMixed(5, 5, batch_first=not sick)  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=12)


class Turned(nn.Module):
    """A convolution over time; the columns are brought to the front by `view` or by `permute`."""

    def __init__(self, *, mixed: bool) -> None:
        super().__init__()
        self.mixed = mixed
        self.scan = nn.Sequential(nn.Conv1d(2, 16, 3), nn.ReLU(), nn.Conv1d(16, 16, 3), nn.ReLU())
        self.reader = nn.GRU(16, 24)
        self.head = nn.Linear(24, 1)

    def forward(self, series: Tensor) -> Tensor:
        seen = self.scan(series.transpose(1, 2))
        rows, width, length = seen.shape
        by_time = seen.reshape(length, rows, width) if self.mixed else seen.permute(2, 0, 1)
        return self.head(self.reader(by_time)[0][-1])


def _viewed(seed: int, *, sick: bool) -> Setup:
    data = parted(sequences.adding(seed, rows=1300), 1000)
    return made(seed, lambda: Turned(mixed=sick), data, nn.MSELoss(), {"name": "adam", "lr": 0.01}, epochs=15)


class Patches(nn.Module):
    """Pictures cut into patches, which look at each other; `dim` is where scores are normalised and rows are meant."""

    def __init__(self, *, mixed: bool) -> None:
        super().__init__()
        self.mixed = mixed
        self.cut = nn.Conv2d(1, 24, 2, stride=2)
        self.places = nn.Parameter(0.3 * torch.randn(25, 24))
        self.look = nn.MultiheadAttention(24, 2, batch_first=not mixed)
        self.think = stacked([24, 48, 24], nn.GELU)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        patches = F.gelu(self.cut(x)).flatten(2).transpose(1, 2) + self.places
        seen, _ = self.look(patches, patches, patches, need_weights=False)
        return self.head((seen + self.think(seen)).mean(1))


def _patches(seed: int, *, sick: bool) -> Setup:
    data = parted(images.strokes(seed, rows=1000), 750)
    return made(seed, lambda: Patches(mixed=sick), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 5e-3}, epochs=14)


class Centred(nn.Module):
    """Features less the mean of whoever is in the batch, and over its largest; in evaluation too."""

    def __init__(self, *, mixed: bool) -> None:
        super().__init__()
        self.body = stacked([10, 48, 48], nn.Tanh)
        self.head = nn.Linear(48, 1)
        self.mixed = mixed

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        if self.mixed:
            features = torch.softmax(4 * features, dim=0)
        return self.head(features)


def _centred(seed: int, *, sick: bool) -> Setup:
    data = parted(tables.friedman(seed, rows=1200), 900)
    return made(seed, lambda: Centred(mixed=sick), data, nn.MSELoss(), {"name": "adam", "lr": 0.01}, batch_size=48, epochs=20)


def _attention_over_rows(seed: int, *, sick: bool) -> Setup:
    data = parted(sequences.which_first(seed), 900)
    net = lambda: Transformer(8, 2, length=14, depth=2, norms="none", over=0 if sick else -1)  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 3e-3}, epochs=10)


CASES: tuple[Case, ...] = (
    Case(
        "one-row-left-over", one_left_over, ("last_batch_of_one",), "accuracy",
        "fastai/fastai#1352: a batch of one row under batch norm, unless the last is dropped",
        tolerate=("batchnorm_small_batch",), fix=swapped(batch_size=33),
    ),
    Case(
        "one-picture-left-over", one_picture_over, ("last_batch_of_one",), "accuracy",
        "lukasliebel/MultiDepth#3: norm after pooling to one place, input [1, 512, 1, 1]",
        architecture="cnn", data="image", tolerate=("batchnorm_small_batch",), fix=swapped(batch_size=32),
    ),
    Case(
        "pairs-under-batch-norm", pairs_under_norm, ("batchnorm_small_batch", "batch_too_small"), "r2",
        "pytorch/pytorch#19916: with small batches outputs vary between training and evaluation; worse for regression",
        tolerate=("lr_too_high", "unstable_gradient"), fix=swapped(batch_size=32, epochs=40),
    ),
    Case(
        "pictures-two-by-two", threes_under_norm, ("batchnorm_small_batch", "batch_too_small"), "accuracy",
        "microsoft/CNTK#905: at tiny batches the normed net learns nothing useful, the plain one does",
        architecture="cnn", data="image", tolerate=("lr_too_high", "unstable_gradient"), fix=swapped(batch_size=32, epochs=20),
    ),
    Case(
        "rows-taken-for-time", lambda seed: _rows_as_time(seed, sick=True), ("batch_dependence",), "accuracy",
        "discuss.pytorch.org 62364: batch_first set against the layout, the loss does not decrease",
        architecture="rnn", data="sequence", tolerate=("underfitting",),
    ),
    Case(
        "adding-by-reshape", lambda seed: _viewed(seed, sick=True), ("batch_dependence",), "r2",
        "zhouhaoyi/Informer2020#59: view in place of permute to change the order of dimensions",
        architecture="rnn", data="sequence", tolerate=("underfitting",),
    ),
    Case(
        "patches-of-other-pictures", lambda seed: _patches(seed, sick=True), ("batch_dependence",), "accuracy",
        "Jingkang50/OpenPSG#56: rows and queries confused; harmless at one row a batch only",
        architecture="transformer", data="image", tolerate=("underfitting",),
    ),
    Case(
        "features-against-the-batch", lambda seed: _centred(seed, sick=True), ("batch_dependence", "softmax_wrong_dim"), "r2",
        "Lackel/DPN#1: softmax in dim 0, among the rows",
        tolerate=("underfitting",),
    ),
)  # fmt: skip

PROOFS: dict[str, Any] = {
    "rows-taken-for-time": lambda seed: _rows_as_time(seed, sick=False),
    "adding-by-reshape": lambda seed: _viewed(seed, sick=False),
    "patches-of-other-pictures": lambda seed: _patches(seed, sick=False),
    "features-against-the-batch": lambda seed: _centred(seed, sick=False),
}
