"""Healthy setups of the model side: each does what it can within its epochs, though something about it looks odd."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_5 import benches
from benchmarks.clinic.round_5.benches import setup, weights_of


class Tagger(nn.Module):
    """Words to a label each, by a 1-d convolution over embeddings."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(24, width, padding_idx=0)
        self.near = nn.Conv1d(width, width, 3, padding=1)
        self.head = nn.Linear(width, 3)

    def forward(self, words: Tensor) -> Tensor:
        states = functional.gelu(self.near(self.words(words).transpose(1, 2)))
        labels: Tensor = self.head(states.transpose(1, 2))
        return labels


class Marks(nn.Module):
    """A rating as an average, what viewer and film add, and the product of their tastes, which start close to nought."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tastes = nn.ModuleList([nn.Embedding(50, width), nn.Embedding(40, width)])
        self.extra = nn.ModuleList([nn.Embedding(50, 1), nn.Embedding(40, 1)])
        self.average = nn.Parameter(torch.zeros(()))
        for tables, spread in ((self.tastes, 0.05), (self.extra, 0.0)):
            for weight in tables.parameters():
                nn.init.normal_(weight, std=spread)

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        left, right = (table(column) for table, column in zip(self.tastes, pair))
        extra = self.extra[0](pair[0]) + self.extra[1](pair[1])
        marks: Tensor = (left * right).sum(1) + extra.squeeze(1) + self.average
        return marks


class Branch(nn.Module):
    """A residual branch over pictures that starts as nothing: its gain is nought."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False))
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, pictures: Tensor) -> Tensor:
        changed: Tensor = pictures + self.gain * self.inner(pictures)
        return changed


class Topics(nn.Module):
    """Word vectors that were made elsewhere and stay as they are, and a trained head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(40, width, _weight=torch.randn(40, width), _freeze=True)
        self.head = nn.Sequential(nn.Linear(width, 4), nn.Sigmoid())

    def forward(self, words: Tensor) -> Tensor:
        chances: Tensor = self.head(self.words(words).sum(1))
        return chances


class Parcels(nn.Module):
    """Attention over a set with a fifth of everything dropped, and a pool by what each parcel weighs."""

    def __init__(self, width: int, drop: float) -> None:
        super().__init__()
        self.lift = nn.Linear(6, width)
        self.look = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=drop, batch_first=True, norm_first=True)
        self.weigh = nn.Linear(width, 1)
        self.head = nn.Linear(width, 3)

    def forward(self, parcels: Tensor) -> Tensor:
        states = self.look(self.lift(parcels))
        kinds: Tensor = self.head((self.weigh(states).softmax(1) * states).sum(1))
        return kinds


class Hires(nn.Module):
    """Weather and day to two quantities; a batch norm takes care of the day's number as well."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.days = nn.Embedding(7, 8)
        self.body = nn.Sequential(nn.BatchNorm1d(14), nn.Linear(14, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.head = nn.Linear(width, 2)
        nn.init.constant_(self.head.bias, 120)

    def forward(self, rows: dict[str, Tensor]) -> Tensor:
        hires: Tensor = self.head(self.body(torch.cat([rows["weather"], self.days(rows["day"])], 1)))
        return hires


def a_fifth_wrong(seed: int, *, width: int = 12) -> Setup:
    """Labels of which a fifth are drawn anew."""
    with weights_of(seed):
        data = benches.phrases(seed, wrong=0.3)
        return setup(Tagger(width), data, benches.per_word, {"name": "adamw", "lr": 5e-3}, epochs=12)


def tastes_from_nought(seed: int, *, width: int = 4) -> Setup:
    """A product of two tables that start close to a saddle."""
    with weights_of(seed):
        chosen = {"name": "adam", "lr": 0.02, "weight_decay": 1e-4}
        return setup(Marks(width), benches.stars(seed), nn.MSELoss(), chosen, epochs=25)


def bold(seed: int, *, width: int = 16) -> Setup:
    """SGD at a high rate over batch-normed branches of no effect at first."""
    with weights_of(seed):
        model = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), Branch(width), Branch(width), nn.BatchNorm2d(width), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(width, 3),
        )  # fmt: skip
        chosen = {"name": "sgd", "lr": 0.08, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
        return setup(model, benches.grids(seed, noise=0.4), nn.CrossEntropyLoss(), chosen, batch_size=64, epochs=12)


def few_and_decayed(seed: int) -> Setup:
    """A linear model with strong decay on a table with little to learn from."""
    with weights_of(seed):
        data = benches.lodges(seed, num_train=120)
        chosen = {"name": "adamw", "lr": 0.01, "weight_decay": 1.0}
        return setup(nn.Linear(24, 1), data, nn.MSELoss(), chosen, batch_size=16, epochs=40)


def vectors_from_elsewhere(seed: int, *, width: int = 64) -> Setup:
    """Frozen word vectors that suffice."""
    with weights_of(seed):
        model = Topics(width)
        chosen = {"name": "adam", "lr": 0.02, "params": list(model.head.parameters())}
        return setup(model, benches.topics(seed), nn.BCELoss(), chosen, epochs=50)


def dropped_fifth(seed: int, *, width: int = 24, drop: float = 0.2) -> Setup:
    """Dropout keeps the training loss above that of validation."""
    with weights_of(seed):
        data = benches.parcels(seed, num_train=1200)
        return setup(Parcels(width, drop), data, nn.CrossEntropyLoss(), {"name": "adamw", "lr": 5e-3}, epochs=15)


def hundreds(seed: int, *, width: int = 48) -> Setup:
    """Targets far from nought, with a bias that knows it; small batches, a loss that is a function."""
    with weights_of(seed):
        train, val = benches.bikes(seed)
        for part in (train, val):
            part.targets = part.targets + 120  # type: ignore[attr-defined]
        return setup(Hires(width), (train, val), functional.mse_loss, {"name": "adam", "lr": 5e-3}, batch_size=16, epochs=20)


CASES: tuple[Case, ...] = (
    Case("phrases-some-labels-drawn", a_fifth_wrong, (), "accuracy",
        "a fifth of the labels are wrong: the loss ends high, accuracy at its ceiling of 0.8; one word's vector never trains",
        floor=0.74, architecture="cnn", data="sequence"),
    Case("stars-tastes-from-a-saddle", tastes_from_nought, (), "r2",
        "a product of two tables that start near nought: hardly any gradient at first; Adam with weight_decay", floor=0.88),
    Case("grids-bold-over-silent-branches", bold, (), "accuracy",
        "Nesterov momentum at a high rate, and branches whose gain starts at nought", floor=0.9, architecture="cnn",
        data="image"),
    Case("lodges-little-to-learn", few_and_decayed, (), "r2",
        "few rows, half noise, a linear model on a linear law under strong decay: what is left is what there is", floor=0.35),
    Case("topics-vectors-from-elsewhere", vectors_from_elsewhere, (), "r2",
        "word vectors are frozen and not in the optimizer on purpose; they suffice", floor=0.85, data="sequence"),
    Case("parcels-a-fifth-dropped", dropped_fifth, (), "accuracy",
        "dropout within attention: the training loss stays above that of validation", floor=0.9, architecture="transformer",
        data="sequence"),
    Case("bikes-hires-by-the-hundred", hundreds, (), "r2",
        "targets about 120 with a small spread, a bias that starts there, tanh, batches of 16", floor=0.85),
)  # fmt: skip
