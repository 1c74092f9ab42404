"""Data and networks of `uses` and `answers`: letters, clocks, weather, hired bicycles, films, concrete, heartbeats, voices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.clinic.case import Setup, drawn


@dataclass(frozen=True)
class Split:
    """Inputs and targets to train on and to validate on, [rows, ...] each."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]


class Folder(Dataset[tuple[Tensor, Tensor]]):
    """Pictures and their labels as a user's own dataset hands them out, one by one."""

    def __init__(self, pictures: Tensor, labels: Tensor) -> None:
        self.pictures, self.labels = pictures, labels

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.pictures[row], self.labels[row]


@contextmanager
def weights_drawn(seed: int) -> Iterator[None]:
    """Initial weights follow from the seed; what draws afterwards isn't touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 77)
        yield


def setup(
    split: Split,
    build: Callable[[], nn.Module],
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: dict[str, Any],
    *,
    seed: int,
    epochs: int,
    batch_size: int = 32,
    shuffle: bool = True,
    dataset: Callable[[Tensor, Tensor], Any] = TensorDataset,
) -> Setup:
    """What `stepwell.diagnose` takes, with a model whose weights follow from the seed."""
    with weights_drawn(seed):
        model = build()
    return {
        "model": model,
        "train": dataset(*split.train),
        "val": dataset(*split.val),
        "loss": loss,
        "optimizer": optimizer,
        "batch_size": batch_size,
        "epochs": epochs,
        "shuffle": shuffle,
    }


def cut(inputs: Tensor, targets: Tensor, num_train: int) -> Split:
    """The first rows to train on, the rest to validate on."""
    return Split((inputs[:num_train], targets[:num_train]), (inputs[num_train:], targets[num_train:]))


def names(seed: int, num_train: int = 1000) -> Split:
    """Names of ten letters from five languages, each with its own habit of which letter follows which."""
    random = drawn(seed, "names")
    habits = torch.softmax(1.6 * torch.randn(5, 20, 20, generator=random), -1)
    languages = torch.randint(5, (num_train + 300,), generator=random)
    letters = [torch.randint(20, languages.shape, generator=random)]
    for _ in range(9):
        letters.append(torch.multinomial(habits[languages, letters[-1]], 1, generator=random).squeeze(1))
    return cut(torch.stack(letters, 1), languages, num_train)


def clocks(seed: int, num_train: int = 900, side: int = 12) -> tuple[Split, Tensor]:
    """Noisy pictures of a clock with one hand; as targets where the hand points, [rows, 2]. Also the angles, in turns."""
    random = drawn(seed, "clocks")
    turns = torch.rand(num_train + 300, generator=random)
    pointing = torch.stack([torch.cos(2 * math.pi * turns), torch.sin(2 * math.pi * turns)], 1)
    grid = (torch.arange(side) - (side - 1) / 2) / (side / 2)
    down, across = torch.meshgrid(grid, grid, indexing="ij")
    along = across * pointing[:, :1, None] + down * pointing[:, 1:, None]
    aside = down * pointing[:, :1, None] - across * pointing[:, 1:, None]
    hand = torch.exp(-((aside / 0.15) ** 2)) * (along > 0)
    pictures = (hand + 0.25 * torch.randn(hand.shape, generator=random)).unsqueeze(1)
    return cut(pictures, pointing, num_train), turns


def weather(seed: int, num_train: int = 1000) -> Split:
    """Twelve hours of pressure in pascal, temperature in kelvin and humidity in percent; does it rain afterwards?"""
    random = drawn(seed, "weather")
    noise = torch.randn(num_train + 300, 12, 3, generator=random)
    states = noise.cumsum(1) / 2.5 + torch.randn(num_train + 300, 1, 3, generator=random)
    falling = states[:, 0, 0] - states[:, -1, 0] + states[:, -4:, 2].mean(1)
    readings = states * torch.tensor([500.0, 6.0, 9.0]) + torch.tensor([101_300.0, 284.0, 65.0])
    return cut(readings, (falling > 0).float().unsqueeze(1), num_train)


def bicycles(seed: int, num_train: int = 900) -> Split:
    """Sixteen hours of hired bicycles, hour of day and warmth; as target the hires of the next hour, standardised, [rows, 1]."""
    random = drawn(seed, "bicycles")
    hours = torch.arange(16) + torch.randint(24, (num_train + 300, 1), generator=random)
    warmth = torch.randn(num_train + 300, 1, generator=random).expand(-1, 16)
    angle = 2 * math.pi * hours / 24
    busy = torch.sin(angle - 2) + 0.6 * torch.sin(2 * angle) + 0.7 * warmth
    seen = busy + 0.2 * torch.randn(busy.shape, generator=random)
    following = torch.sin(angle[:, -1] + math.pi / 12 - 2) + 0.6 * torch.sin(2 * angle[:, -1] + math.pi / 6) + 0.7 * warmth[:, 0]
    following = following + 0.2 * torch.randn(following.shape, generator=random)
    inputs = torch.stack([seen, torch.sin(angle), torch.cos(angle), warmth], 2)
    return cut(inputs, following.unsqueeze(1), num_train)


def films(seed: int, num_train: int = 1200) -> Split:
    """Thirty key words, there or not; as targets five genres, each there or not, as floats, [rows, 5]."""
    random = drawn(seed, "films")
    words = (torch.rand(num_train + 300, 30, generator=random) < 0.3).float()
    pull = 2.2 * torch.randn(30, 5, generator=random)
    scores = (words - 0.3) @ pull
    genres = (torch.rand(scores.shape, generator=random) < torch.sigmoid(2 * scores)).float()
    return cut(words, genres, num_train)


def concrete(seed: int, num_train: int = 900, column: int | None = None) -> Split:
    """Eight parts of a mix, standardised; its strength after 3, 7 and 28 days, near 1, [rows, 3], or one `column`, [rows]."""
    random = drawn(seed, "concrete")
    mix = torch.randn(num_train + 300, 8, generator=random)
    water = torch.exp(0.4 * mix[:, 0] - 0.4 * mix[:, 1])
    early = 0.5 * water + 0.2 * mix[:, 2]
    late = early + 0.4 * torch.sigmoid(2 * mix[:, 3]) * (1 + 0.5 * mix[:, 4])
    middle = 0.5 * (early + late) + 0.15 * mix[:, 5] * mix[:, 6]
    strengths = torch.stack([early, middle, late], 1) + 0.05 * torch.randn(num_train + 300, 3, generator=random)
    strengths = strengths + 0.4
    return cut(mix, strengths if column is None else strengths[:, column], num_train)


def beats(seed: int, num_rows: int = 1100, noise: float = 0.4) -> tuple[Tensor, Tensor]:
    """Signals of 48 readings, [rows, 1, 48], with one of three shapes of pulse somewhere; and which."""
    random = drawn(seed, "beats")
    kinds = torch.randint(3, (num_rows,), generator=random)
    places = torch.randint(8, 40, (num_rows, 1), generator=random)
    away = (torch.arange(48) - places) / 2.5
    single = torch.exp(-(away**2))
    shapes = torch.stack([single, -away * single * 1.6, (1 - 2 * away**2) * single], 1)
    signals = shapes[torch.arange(num_rows), kinds] + noise * torch.randn(num_rows, 48, generator=random)
    return signals.unsqueeze(1), kinds


def strands(seed: int) -> Split:
    """Strands of twenty letters out of four; the kind of each follows from itself and its neighbours."""
    random = drawn(seed, "strands")
    code = torch.randint(3, (4, 4, 4), generator=random)
    letters = torch.randint(4, (700, 20), generator=random)
    kinds = code[letters.roll(1, 1), letters, letters.roll(-1, 1)]
    return cut(letters, kinds, 500)


class Letters(nn.Module):
    """Letters, embedded and read by a recurrent network of `layer`; the last state is read out."""

    def __init__(self, layer: Callable[..., nn.Module] = nn.GRU, num_layers: int = 1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 24)
        self.reader = layer(24, 32, num_layers=num_layers, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, letters: Tensor) -> Tensor:
        states, _ = self.reader(self.embedding(letters))
        scores: Tensor = self.head(states[:, -1])
        return scores


class Forecast(nn.Module):
    """Readings over time, read by a recurrent network of `layer`, into one number."""

    def __init__(self, num_columns: int, layer: Callable[..., nn.Module] = nn.GRU, width: int = 24) -> None:
        super().__init__()
        self.reader = layer(num_columns, width, batch_first=True)
        self.head = nn.Sequential(nn.Linear(width, 16), nn.GELU(), nn.Linear(16, 1))

    def forward(self, readings: Tensor) -> Tensor:
        states, _ = self.reader(readings)
        number: Tensor = self.head(states[:, -1])
        return number


class Dial(nn.Module):
    """A small convolutional network over clocks; `ending` is applied to what it says."""

    def __init__(self, num_outputs: int, ending: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.SiLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.SiLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(256, 48), nn.SiLU(), nn.Linear(48, num_outputs))
        self.ending = ending or nn.Identity()

    def forward(self, pictures: Tensor) -> Tensor:
        return self.ending(self.head(self.features(pictures)))


def pointer() -> nn.Module:
    """A dial that says where the hand points, as a direction of length one."""
    return Dial(2, lambda outputs: F.normalize(outputs, dim=1))


def pulses(num_outputs: int = 3) -> nn.Module:
    """Two normed convolutions over a signal, the mean over time, a linear layer."""
    body = [nn.Conv1d(1, 12, 7, padding=3), nn.BatchNorm1d(12), nn.ReLU(), nn.Conv1d(12, 24, 7, stride=2), nn.BatchNorm1d(24)]
    return nn.Sequential(*body, nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(24, num_outputs))


class Bases(nn.Module):
    """Letters of a strand, embedded; convolutions over neighbours, added to what they read; a kind for each letter."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 24)
        self.first = nn.Conv1d(24, 24, 3, padding=1)
        self.second = nn.Conv1d(24, 24, 3, padding=1)
        self.head = nn.Linear(24, 3)

    def forward(self, letters: Tensor) -> Tensor:
        states = self.embedding(letters).transpose(1, 2)
        states = states + F.gelu(self.first(states))
        states = states + F.gelu(self.second(states))
        scores: Tensor = self.head(states.transpose(1, 2))
        return scores
