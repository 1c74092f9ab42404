"""Data and networks of the model-side patients of this round."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from benchmarks.clinic.case import Setup, drawn

Split = tuple[Dataset[Any], Dataset[Any]]


class Rows(Dataset[Any]):
    """A map-style data set of a user's own: a mapping or a tuple of columns as inputs, or rows that are their own targets.

    Args:
        inputs: tensors of N rows, by name or by place, or one tensor.
        targets: N rows; the inputs themselves where None.
    """

    def __init__(self, inputs: dict[str, Tensor] | tuple[Tensor, ...] | Tensor, targets: Tensor | None = None) -> None:
        self.inputs = inputs
        self.targets = targets

    def __len__(self) -> int:
        if isinstance(self.inputs, dict):
            return len(next(iter(self.inputs.values())))
        return len(self.inputs[0]) if isinstance(self.inputs, tuple) else len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if isinstance(self.inputs, dict):
            row: Any = {name: column[index] for name, column in self.inputs.items()}
        elif isinstance(self.inputs, tuple):
            row = tuple(column[index] for column in self.inputs)
        else:
            row = self.inputs[index]
        return row, row if self.targets is None else self.targets[index]


@contextmanager
def weights_of(seed: int) -> Iterator[None]:
    """Weights made inside follow from the seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(70_001 + seed)
        yield


def setup(
    model: nn.Module, data: Split, loss: Any, optimizer: dict[str, Any], *, batch_size: int = 32, epochs: int = 10
) -> Setup:
    """The keywords of a diagnosis."""
    named = {"model": model, "train": data[0], "val": data[1], "loss": loss, "optimizer": optimizer}
    return {**named, "batch_size": batch_size, "epochs": epochs, "shuffle": True}


def split(inputs: Tensor, targets: Tensor, num_val: int = 400) -> Split:
    """The last rows are for validation."""
    return TensorDataset(inputs[:-num_val], targets[:-num_val]), TensorDataset(inputs[-num_val:], targets[-num_val:])


def pulses(seed: int, *, num_train: int = 800, length: int = 48, noise: float = 0.4) -> Split:
    """Currents [N, 1, length] of four kinds of motor: slow, fast, rising pitch, bursts; the phase is random. Targets long."""
    random = drawn(seed, "pulses")
    num_rows = num_train + 400
    kinds = torch.randint(0, 4, (num_rows,), generator=random)
    phase = torch.rand(num_rows, 1, generator=random) * 2 * math.pi
    time = torch.linspace(0, 1, length)[None]
    slow, fast = torch.sin(2 * math.pi * 3 * time + phase), torch.sin(2 * math.pi * 8 * time + phase)
    rising = torch.sin(2 * math.pi * (2 + 5 * time) * time + phase)
    bursts = fast * (torch.sin(2 * math.pi * 2 * time + phase * 2) > 0)
    waves = torch.stack([slow, fast, rising, bursts * 1.4])[kinds, torch.arange(num_rows)]
    return split((waves + noise * torch.randn(num_rows, length, generator=random))[:, None], kinds)


def readings(seed: int, *, num_train: int = 800, noise: float = 0.05, num_causes: int = 4) -> Split:
    """Twenty meters that follow a few hidden causes, [N, 20] in -1..1, bent; the rows are their own targets."""
    random = drawn(seed, "readings")
    causes = torch.randn(num_train + 400, num_causes, generator=random)
    rows = torch.tanh(causes @ torch.randn(num_causes, 20, generator=random) * 0.6)
    rows = rows + noise * torch.randn(rows.shape, generator=random)
    return Rows(rows[:num_train]), Rows(rows[num_train:])


def stars(seed: int, *, num_train: int = 1200, noise: float = 0.2, rank: int = 3) -> Split:
    """Ratings of 40 films by 50 viewers: inputs are two columns of ids, targets [N] floats, a product of `rank` tastes."""
    random = drawn(seed, "stars")
    num_rows = num_train + 400
    pairs = torch.randperm(2000, generator=random)[:num_rows]
    viewers, films = pairs // 40, pairs % 40
    likes, kinds = torch.randn(50, rank, generator=random), torch.randn(40, rank, generator=random)
    marks = (likes[viewers] * kinds[films]).sum(1) / math.sqrt(rank) + noise * torch.randn(num_rows, generator=random)
    head, tail = slice(num_train), slice(num_train, None)
    return Rows((viewers[head], films[head]), marks[head]), Rows((viewers[tail], films[tail]), marks[tail])


def bikes(seed: int, *, num_train: int = 1000, noise: float = 0.3) -> Split:
    """Hires of two kinds, targets [N, 2], from six numbers and the day of the week: a mapping with "weather" and "day"."""
    random = drawn(seed, "bikes")
    num_rows = num_train + 400
    weather = torch.randn(num_rows, 6, generator=random)
    day = torch.randint(0, 7, (num_rows,), generator=random)
    level = torch.randn(7, 2, generator=random)[day]
    warm = torch.sin(1.5 * weather[:, 0]) + weather[:, 1] * weather[:, 2]
    wet = torch.relu(weather[:, 3]) - torch.tanh(weather[:, 4]) * weather[:, 0]
    targets = level + torch.stack([warm, wet], 1) + noise * torch.randn(num_rows, 2, generator=random)
    parts = [{"weather": weather[rows], "day": day[rows]} for rows in (slice(num_train), slice(num_train, None))]
    return Rows(parts[0], targets[:num_train]), Rows(parts[1], targets[num_train:])


def phrases(seed: int, *, num_train: int = 600, length: int = 10, wrong: float = 0.0) -> Split:
    """Words [N, length] out of 24; each word's label (three, long) follows from its own group and the group of the word before.

    Args:
        wrong: share of training and validation labels that are drawn anew.
    """
    random = drawn(seed, "phrases")
    words = torch.randint(0, 24, (num_train + 300, length), generator=random)
    group = torch.randint(0, 3, (24,), generator=random)[words]
    labels = (group + functional.pad(group, (1, 0))[:, :-1]) % 3
    anew = torch.rand(labels.shape, generator=random) < wrong
    labels = torch.where(anew, torch.randint(0, 3, labels.shape, generator=random), labels)
    return split(words, labels, 300)


def topics(seed: int, *, num_train: int = 1000) -> Split:
    """Notes of 12 words out of 40, and which of four topics they touch, [N, 4] floats of 0 and 1, several at once."""
    random = drawn(seed, "topics")
    words = torch.randint(0, 40, (num_train + 400, 12), generator=random)
    about = torch.randn(40, 4, generator=random)
    return split(words, (about[words].sum(1) > 0).float())


def grids(seed: int, *, num_train: int = 700, noise: float = 0.5, size: int = 10) -> Split:
    """Pictures [N, 1, size, size] of a ring, a cross or a bar at a random place, in noise. Targets long, three classes."""
    random = drawn(seed, "grids")
    num_rows = num_train + 400
    kinds = torch.randint(0, 3, (num_rows,), generator=random)
    places = torch.randint(0, size - 4, (num_rows, 2), generator=random)
    ring, cross, bar = torch.ones(5, 5), torch.zeros(5, 5), torch.zeros(5, 5)
    ring[1:4, 1:4] = 0
    cross[2], cross[:, 2] = 1, 1
    bar[1:4] = 1
    pictures = noise * torch.randn(num_rows, 1, size, size, generator=random)
    for row, (down, right) in enumerate(places.tolist()):
        pictures[row, 0, down : down + 5, right : right + 5] += (ring, cross, bar)[int(kinds[row])]
    return split(pictures, kinds)


def clients(seed: int, *, num_train: int = 900, num_columns: int = 12, wrong: float = 0.05) -> Split:
    """A table [N, num_columns] and whether a client stays, bool [N]: a bent rule of five columns; some answers are wrong."""
    random = drawn(seed, "clients")
    table = torch.randn(num_train + 400, num_columns, generator=random)
    rule = table[:, 0] * table[:, 1] + torch.sin(2 * table[:, 2]) + table[:, 3].abs() - 0.8 + 0.5 * table[:, 4]
    return split(table, (rule > 0) ^ (torch.rand(len(table), generator=random) < wrong))


def stays(outputs: Tensor, targets: Tensor) -> Tensor:
    """Loss of a single logit [N, 1] against bool [N]."""
    return functional.binary_cross_entropy_with_logits(outputs.squeeze(1), targets.float())


def per_word(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of outputs [N, T, C] against targets [N, T]."""
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def parcels(seed: int, *, num_train: int = 900) -> Split:
    """Eight parcels a row, [N, 8, 6]: the one with the highest stamp (column 0) tells the class, by its columns 1 to 3."""
    random = drawn(seed, "parcels")
    rows = torch.randn(num_train + 400, 8, 6, generator=random)
    stamped = rows[:, :, 0].argmax(1)
    rows[torch.arange(len(rows)), stamped, 0] += 2
    return split(rows, rows[torch.arange(len(rows)), stamped, 1:4].argmax(1))


def lodges(seed: int, *, num_train: int = 90, num_columns: int = 24, noise: float = 1.0) -> Split:
    """A table with few rows and many columns, each with a small say in the price: targets [N, 1], half of them noise."""
    random = drawn(seed, "lodges")
    table = torch.randn(num_train + 400, num_columns, generator=random)
    prices = table @ torch.randn(num_columns, 1, generator=random) / math.sqrt(num_columns)
    return split(table, prices + noise * torch.randn(prices.shape, generator=random))


class Sorter(nn.Module):
    """Looks at one parcel of eight: the one that scores highest, or a softmax of all."""

    def __init__(self, hard: bool) -> None:
        super().__init__()
        self.hard = hard
        self.score = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
        self.head = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3))

    def forward(self, parcels: Tensor) -> Tensor:
        scores = self.score(parcels)
        if self.hard:
            chosen = parcels[torch.arange(len(parcels)), scores.squeeze(2).argmax(1)]
        else:
            chosen = (scores.softmax(1) * parcels).sum(1)
        kinds: Tensor = self.head(chosen)
        return kinds


class Asker(nn.Module):
    """A question token that looks at eight parcels through one encoder layer; rows first, or as torch takes it unasked."""

    def __init__(self, rows_first: bool) -> None:
        super().__init__()
        self.lift = nn.Linear(6, 24)
        self.question = nn.Parameter(torch.randn(1, 1, 24) * 0.2)
        self.look = nn.TransformerEncoderLayer(24, 4, 48, dropout=0.0, norm_first=True, batch_first=rows_first)
        self.head = nn.Linear(24, 3)

    def forward(self, parcels: Tensor) -> Tensor:
        states = torch.cat([self.question.expand(len(parcels), 1, 24), self.lift(parcels)], 1)
        kinds: Tensor = self.head(self.look(states)[:, 0])
        return kinds
