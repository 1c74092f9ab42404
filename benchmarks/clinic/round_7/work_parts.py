"""Data, models and small tools of the patients from working life: clicks, credit, markets, pictures, words, sensors, ratings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmarks.clinic.case import Setup, drawn

Inputs = Tensor | dict[str, Tensor] | tuple[Tensor, ...]


class Rows(Dataset[tuple[Any, Tensor]]):
    """Rows of one tensor, of a dict of tensors or of a tuple of tensors, with their targets; `change` is done row by row."""

    def __init__(self, inputs: Inputs, targets: Tensor, change: Callable[[Any], Any] | None = None) -> None:
        self.inputs, self.targets, self.change = inputs, targets, change

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, place: int) -> tuple[Any, Tensor]:
        row: Any
        if isinstance(self.inputs, dict):
            row = {name: column[place] for name, column in self.inputs.items()}
        elif isinstance(self.inputs, tuple):
            row = tuple(column[place] for column in self.inputs)
        else:
            row = self.inputs[place]
        return (self.change(row) if self.change else row), self.targets[place]


def taken(inputs: Any, places: Any) -> Any:
    """The same rows of every tensor."""
    if isinstance(inputs, dict):
        return {name: column[places] for name, column in inputs.items()}
    return tuple(column[places] for column in inputs) if isinstance(inputs, tuple) else inputs[places]


def cut(inputs: Any, targets: Tensor, num_train: int) -> tuple[Rows, Rows]:
    """The first rows to train on, the rest to judge by."""
    ends = (slice(0, num_train), slice(num_train, len(targets)))
    train, val = (Rows(taken(inputs, end), targets[end]) for end in ends)
    return train, val


def patient(
    model: nn.Module, split: tuple[Dataset[Any], Dataset[Any]], loss: Any, optimizer: dict[str, Any], batch_size: int, epochs: int
) -> Setup:
    """The keywords of a setup, shuffled."""
    return {
        "model": model,
        "train": split[0],
        "val": split[1],
        "loss": loss,
        "optimizer": optimizer,
        "batch_size": batch_size,
        "epochs": epochs,
        "shuffle": True,
    }


def job(**changes: Any) -> Callable[[Setup], Setup]:
    """A fix that changes keywords of the setup."""
    return lambda setup: {**setup, **changes}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """First weights follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 40_507)
        yield


NUM_SITES, NUM_ADS, NUM_DEVICES = 30, 40, 60


def clicks(seed: int, *, num_rows: int = 2400, rate: float = 0.3) -> tuple[dict[str, Tensor], Tensor]:
    """Impressions: site, ad, hashed device and hour; bid and place on the page; was it clicked (floats [N])."""
    g = drawn(seed, "impressions")
    sizes = (NUM_SITES, NUM_ADS, NUM_DEVICES, 24)
    ids = torch.stack([torch.randint(size, (num_rows,), generator=g) for size in sizes], 1)
    dense = torch.randn(num_rows, 2, generator=g)
    pull = sum(torch.randn(size, generator=g)[ids[:, place]] for place, size in enumerate(sizes))
    score = pull + dense[:, 0] - 0.7 * dense[:, 1] + 0.4 * torch.randn(num_rows, generator=g)
    return {"ids": ids, "dense": dense}, (score > score.quantile(1 - rate)).float()


class ClickNet(nn.Module):
    """One table for all ids, side by side with the numbers, then a small network: one logit a row [N]."""

    def __init__(self, *, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.first: Tensor
        self.register_buffer("first", torch.tensor([0, NUM_SITES, NUM_SITES + NUM_ADS, NUM_SITES + NUM_ADS + NUM_DEVICES]))
        self.table = nn.Embedding(NUM_SITES + NUM_ADS + NUM_DEVICES + 24, width)
        nn.init.normal_(self.table.weight, std=0.1)
        self.body = nn.Sequential(nn.Linear(4 * width + 2, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 1))

    def forward(self, row: dict[str, Tensor]) -> Tensor:
        shown = self.table(row["ids"] + self.first).flatten(1)
        logits: Tensor = self.body(torch.cat((shown, row["dense"]), 1)).squeeze(1)
        return logits


def ratings(seed: int, *, num_rows: int = 2300) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """(person, film) and the stars less their mean, as floats [N]: 60 people, 50 films, two tastes."""
    g = drawn(seed, "stars")
    place = torch.randperm(3000, generator=g)[:num_rows]
    people, films = place // 50, place % 50
    tastes, traits = torch.randn(60, 2, generator=g), torch.randn(50, 2, generator=g)
    kind, good = 0.5 * torch.randn(60, generator=g), 0.7 * torch.randn(50, generator=g)
    stars = (tastes[people] * traits[films]).sum(1) + kind[people] + good[films] + 0.3 * torch.randn(num_rows, generator=g)
    return (people, films), stars


class Factors(nn.Module):
    """Matrix factorisation with biases: stars [N]."""

    def __init__(self, *, width: int = 4, spread: float = 0.1) -> None:
        super().__init__()
        self.people, self.films = nn.Embedding(60, width), nn.Embedding(50, width)
        self.kind, self.good = nn.Embedding(60, 1), nn.Embedding(50, 1)
        for table in (self.people, self.films, self.kind, self.good):
            nn.init.normal_(table.weight, std=spread)

    def score(self, people: Tensor, films: Tensor) -> Tensor:
        met = (self.people(people) * self.films(films)).sum(1)
        out: Tensor = met + self.kind(people).squeeze(1) + self.good(films).squeeze(1)
        return out

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return self.score(*pair)


class Preference(Factors):
    """How much more a person likes the left film than the right one: a logit [N]."""

    def forward(self, three: tuple[Tensor, ...]) -> Tensor:
        person, left, right = three
        return self.score(person, left) - self.score(person, right)


def choices(seed: int, *, num_rows: int = 2500) -> tuple[tuple[Tensor, ...], Tensor]:
    """(person, left film, right film), and 1.0 where the left one was chosen."""
    g = drawn(seed, "choices")
    people = torch.randint(60, (num_rows,), generator=g)
    left = torch.randint(50, (num_rows,), generator=g)
    right = (left + torch.randint(1, 50, (num_rows,), generator=g)) % 50
    good, taste, trait = torch.randn(50, generator=g), torch.randn(60, generator=g), torch.randn(50, generator=g)
    gap = good[left] - good[right] + taste[people] * (trait[left] - trait[right])
    return (people, left, right), (gap + 0.3 * torch.randn(num_rows, generator=g) > 0).float()


def applicants(seed: int, *, num_rows: int = 1800, scaled: str = "standard") -> tuple[Tensor, Tensor]:
    """Nine columns of a loan application in their own units ("raw") or standardised, and the risk as a standard score."""
    g = drawn(seed, "applicants")
    z = torch.randn(num_rows, 9, generator=g)
    risk = -0.9 * z[:, 0] + 1.1 * z[:, 1] + 0.8 * z[:, 2].abs() + 0.9 * z[:, 3] * z[:, 4] + 0.6 * z[:, 5] - 0.4 * z[:, 6]
    risk = risk + 0.25 * torch.randn(num_rows, generator=g)
    risk = (risk - risk.mean()) / risk.std()
    if scaled == "standard":
        return z, risk
    spans = torch.tensor([18_000.0, 0.12, 11.0, 0.25, 3.0, 1.5, 40.0, 9_000.0, 60.0])
    means = torch.tensor([52_000.0, 0.35, 43.0, 0.4, 8.0, 4.0, 90.0, 15_000.0, 640.0])
    return z * spans + means, risk


def dense(*sizes: int, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers with the activation between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


def gauges(seed: int, *, num_rows: int = 1400, horizons: int = 4) -> tuple[Tensor, Tensor]:
    """Windows of 20 readings of 3 coupled sensors [N, 20, 3], and the first one's next readings [N, horizons]."""
    g = drawn(seed, "gauges")
    phase = 2 * math.pi * torch.rand(num_rows, 1, generator=g)
    pace = 0.35 + 0.3 * torch.rand(num_rows, 1, generator=g)
    size = 0.6 + 0.9 * torch.rand(num_rows, 1, generator=g)
    wave = size * torch.sin(phase + pace * torch.arange(20.0 + horizons))
    side = size * torch.cos(phase + pace * torch.arange(20.0 + horizons))
    seen = torch.stack((wave, side, wave * side), 2)[:, :20]
    return seen + 0.05 * torch.randn(num_rows, 20, 3, generator=g), wave[:, 20:]


_BARS = {"a": (1, 2, 3, 8), "b": (1, 6, 7, 8), "c": (6, 11, 7, 8), "d": (10, 11, 3, 8), "e": (6, 11, 3, 4), "f": (1, 6, 3, 4)}
_LIT = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd")


def drawings(seed: int, *, num_rows: int = 900, noise: float = 0.35) -> tuple[Tensor, Tensor]:
    """Six digits as a pocket calculator shows them, 14 x 14, shifted by up to a pixel [N, 1, 14, 14], and which one."""
    g = drawn(seed, "drawings")
    bars = {**_BARS, "g": (5, 6, 3, 8)}
    shapes = torch.zeros(6, 14, 14)
    for kind, lit in enumerate(_LIT):
        for bar in lit:
            top, bottom, left, right = bars[bar]
            shapes[kind, top + 1 : bottom + 1, left + 1 : right + 1] = 1.0
    kinds = torch.randint(6, (num_rows,), generator=g)
    moves = torch.randint(-1, 2, (num_rows, 2), generator=g).tolist()
    drawn_ = torch.stack([shapes[kind].roll((down, across), (0, 1)) for kind, (down, across) in zip(kinds.tolist(), moves)])
    return (drawn_ + noise * torch.randn(num_rows, 14, 14, generator=g)).unsqueeze(1), kinds


def castings(seed: int, *, num_rows: int = 900, share: float = 0.5) -> tuple[Tensor, Tensor]:
    """Grey metal with grain, half of the pieces with a short scratch: [N, 1, 14, 14], and 1.0 for a scratch [N, 1]."""
    g = drawn(seed, "castings")
    metal = 0.35 * torch.randn(num_rows, 1, 14, 14, generator=g)
    flawed = torch.rand(num_rows, generator=g) < share
    for place in flawed.nonzero().flatten().tolist():
        row, column, slope = (int(torch.randint(high, (1,), generator=g)) for high in (9, 9, 2))
        for step in range(5):
            metal[place, 0, row + step, column + (step if slope else 0)] += 1.5
    return metal, flawed.float().unsqueeze(1)


def sentences(seed: int, *, num_rows: int = 700, length: int = 10) -> tuple[Tensor, Tensor]:
    """Words of 40 [N, length] and their tags of 5: a word's own kind, which the kind of the word before it may turn."""
    g = drawn(seed, "sentences")
    words = torch.randint(1, 40, (num_rows, length), generator=g)
    kinds = words % 4
    before = torch.cat((torch.zeros(num_rows, 1, dtype=torch.long), kinds[:, :-1]), 1)
    return words, torch.where((kinds == 2) & (before == 1), 4, torch.where(before == 3, (kinds + 1) % 4, kinds))


def moods(seed: int, *, num_rows: int = 1300, length: int = 12) -> tuple[Tensor, Tensor]:
    """Comments of words of 40 [N, length], and 1.0 for a good one [N]; word 1 turns the word after it round."""
    g = drawn(seed, "moods")
    words = torch.randint(2, 40, (num_rows, length), generator=g)
    words[torch.rand(num_rows, length, generator=g) < 0.2] = 1
    worth = torch.where(words < 14, 1.0, torch.where(words < 26, -1.0, 0.0)) * (words != 1)
    turned = torch.cat((torch.zeros(num_rows, 1, dtype=torch.bool), words[:, :-1] == 1), 1)
    total = torch.where(turned, -worth, worth).sum(1)
    return words, (total + 0.5 * (torch.rand(num_rows, generator=g) - 0.5) > 0).float()
