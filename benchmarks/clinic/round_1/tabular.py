"""Data and models that the cases of losses, outputs, rates and tables share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmarks.clinic.case import Setup, drawn

Inputs = Tensor | dict[str, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


def rows_of(inputs: Inputs, rows: Any) -> Any:
    """The same rows of all parts."""
    if isinstance(inputs, dict):
        return {name: part[rows] for name, part in inputs.items()}
    return inputs[rows]


class Rows(Dataset[tuple[Any, Tensor]]):
    """A map-style dataset over a tensor, or tensors by name."""

    def __init__(self, inputs: Inputs, targets: Tensor) -> None:
        self.inputs = inputs
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Any, Tensor]:
        return rows_of(self.inputs, row), self.targets[row]


@dataclass(frozen=True)
class Table:
    """Rows in random order, of which the first `num_train` are for training."""

    inputs: Any
    targets: Tensor
    num_train: int

    def ordered(self, rows: Tensor) -> Table:
        return Table(rows_of(self.inputs, rows), self.targets[rows], self.num_train)

    def with_inputs(self, change: Callable[[Any], Any]) -> Table:
        return replace(self, inputs=change(self.inputs))

    def with_targets(self, change: Callable[[Tensor], Tensor]) -> Table:
        return replace(self, targets=change(self.targets))

    @property
    def train(self) -> Rows:
        return Rows(rows_of(self.inputs, slice(None, self.num_train)), self.targets[: self.num_train])

    @property
    def val(self) -> Rows:
        return Rows(rows_of(self.inputs, slice(self.num_train, None)), self.targets[self.num_train :])


def setup_of(
    table: Table, model: nn.Module, loss: Loss, optimizer: Mapping[str, Any], *, batch_size: int = 32, epochs: int = 15
) -> Setup:
    """The setup that trains the model on the table."""
    fixed = {"model": model, "train": table.train, "val": table.val, "loss": loss, "optimizer": dict(optimizer)}
    return {**fixed, "batch_size": batch_size, "epochs": epochs, "shuffle": True}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights follow from the seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def rentals(seed: int, num_train: int = 900, noise: float = 0.15) -> Table:
    """Bicycles hired in an hour, standardised [rows, 1]: clock, season, weather, weekend [rows, 8]."""
    draws = drawn(seed, "rentals")
    num = num_train + 400
    hour, month = 24 * torch.rand(num, generator=draws), 12 * torch.rand(num, generator=draws)
    weather = torch.randn(num, 3, generator=draws)
    weekend = (torch.rand(num, generator=draws) < 0.3).float()
    peaks = torch.exp(-((hour - 8) ** 2) / 4) + torch.exp(-((hour - 18) ** 2) / 6)
    demand = (1 - weekend) * 2 * peaks + weekend * 1.5 * torch.exp(-((hour - 14) ** 2) / 14)
    demand = demand * (1 + 0.4 * weather[:, 0]) - 0.3 * weather[:, 1].clamp(min=0) + 0.3 * torch.sin(month * math.pi / 6)
    demand = (demand - demand.mean()) / demand.std() + noise * torch.randn(num, generator=draws)
    clock, season = hour * math.pi / 12, month * math.pi / 6
    columns = [torch.sin(clock), torch.cos(clock), torch.sin(season), torch.cos(season), *weather.T, weekend]
    return Table(torch.stack(columns, 1), demand[:, None], num_train)


def claims(seed: int, num_train: int = 1200, intercept: float = 0.0, sharpness: float = 3.0) -> Table:
    """Whether a claim is false, float [rows]: numbers [rows, 6] and codes of 12, 5 and 4 levels [rows, 3]."""
    draws = drawn(seed, "claims")
    num = num_train + 600
    numbers = torch.randn(num, 6, generator=draws)
    codes = torch.stack([torch.randint(levels, (num,), generator=draws) for levels in (12, 5, 4)], 1)
    effects = torch.randn(12, generator=drawn(7, "effects"))
    logit = numbers[:, 0] * numbers[:, 1] + numbers[:, 2] + effects[codes[:, 0]] - 0.5 * (codes[:, 1] == 3) + intercept
    false = torch.rand(num, generator=draws) < torch.sigmoid(sharpness * logit)
    return Table({"numbers": numbers, "codes": codes}, false.float(), num_train)


def soils(seed: int, num_train: int = 900, num_classes: int = 5, spread: float = 0.9) -> Table:
    """Kinds of soil, long [rows], two clusters each: measurements [rows, 10]."""
    draws = drawn(seed, "soils")
    num = num_train + 500
    centres = torch.randn(2 * num_classes, 10, generator=drawn(3, "soil centres"))
    which = torch.randint(2 * num_classes, (num,), generator=draws)
    return Table(centres[which] + spread * torch.randn(num, 10, generator=draws), which % num_classes, num_train)


def motions(seed: int, num_train: int = 800, num_classes: int = 4) -> Table:
    """What a wrist does, long [rows]: three axes over 40 moments [rows, 3, 40]; classes differ in frequency."""
    draws = drawn(seed, "motions")
    num = num_train + 400
    kind = torch.randint(num_classes, (num,), generator=draws)
    phase = 2 * math.pi * torch.rand(num, 3, 1, generator=draws)
    pace = (1.5 + 1.5 * kind + 0.6 * torch.rand(num, generator=draws))[:, None, None]
    moments = torch.linspace(0, 1, 40)
    signal = torch.sin(2 * math.pi * pace * moments + phase) * (0.6 + torch.rand(num, 3, 1, generator=draws))
    return Table(signal + 0.5 * torch.randn(num, 3, 40, generator=draws), kind, num_train)


def spans(seed: int, num_train: int = 600, length: int = 16, rarity: int = 8) -> Table:
    """Tags of tokens, long [rows, length]: 2 on an opening token (2), then 1 until a closing one (3), else 0."""
    draws = drawn(seed, "spans")
    tokens = torch.randint(2, 4 + rarity, (num_train + 300, length), generator=draws)
    tags = torch.zeros_like(tokens)
    inside = torch.zeros(len(tokens), dtype=torch.bool)
    for place in range(length):
        opens = (tokens[:, place] == 2) & ~inside
        inside = (inside | opens) & (tokens[:, place] != 3)
        tags[:, place] = inside.long() + opens.long()
    return Table(tokens, tags, num_train)


def strokes(seed: int, num_train: int = 700, noise: float = 0.3) -> Table:
    """Which of five strokes, long [rows], is drawn: pictures [rows, 1, 12, 12] of values around 0 and 1."""
    draws = drawn(seed, "strokes")
    num = num_train + 400
    kind = torch.randint(5, (num,), generator=draws)
    row, column = (torch.randint(3, 9, (num, 1, 1), generator=draws) for _ in range(2))
    y, x = torch.arange(12)[None, :, None] - row, torch.arange(12)[None, None, :] - column
    near = (y.abs() <= 3) & (x.abs() <= 3)
    shapes = [(y == 0) & near, (x == 0) & near, (x == y) & near, (x == -y) & near, ((x == 0) | (y == 0)) & near]
    picture = torch.stack([shape.expand(num, 12, 12) for shape in shapes], 1)[torch.arange(num), kind].float()
    return Table((picture + noise * torch.randn(num, 12, 12, generator=draws))[:, None], kind, num_train)


def spectra(seed: int, num_train: int = 700) -> Table:
    """Standardised curves of 24 points with three bumps whose heights vary; targets are the curves themselves."""
    draws, num = drawn(seed, "spectra"), num_train + 300
    offsets = torch.linspace(0, 1, 24) - torch.tensor([0.2, 0.5, 0.8])[:, None]
    curves = (torch.rand(num, 3, 1, generator=draws) * torch.exp(-(offsets**2) / 0.02)).sum(1)
    curves = curves + 0.02 * torch.randn(num, 24, generator=draws)
    curves = (curves - curves.mean(0)) / curves.std(0)
    return Table(curves, curves, num_train)


def topics(seed: int, num_train: int = 900) -> Table:
    """Which of six topics a note touches, float [rows, 6]: 14 words of 40 [rows, 14]; about half of the topics are touched."""
    draws = drawn(seed, "topics")
    words = torch.randint(40, (num_train + 400, 14), generator=draws)
    marks = torch.randperm(40, generator=drawn(5, "marks"))[:12].reshape(6, 2)
    touched = (words[:, :, None, None] == marks).any(-1).any(1)
    return Table(words, touched.float(), num_train)


def mlp(num_in: int, num_out: int, width: int = 48, *, depth: int = 2, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Plain layers."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(num_in, width), act()]
        num_in = width
    return nn.Sequential(*layers, nn.Linear(width, num_out))


class Residual(nn.Module):
    """Pre-norm residual blocks on a table."""

    def __init__(self, num_in: int, num_out: int, width: int = 48, depth: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Linear(num_in, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_out))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.stem(inputs)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        out: Tensor = self.head(hidden)
        return out


class Mixed(nn.Module):
    """Numbers beside embedded codes; one score per row."""

    def __init__(self, num_numbers: int = 6, width: int = 48) -> None:
        super().__init__()
        self.codes = nn.ModuleList(nn.Embedding(levels, 4) for levels in (12, 5, 4))
        self.body = mlp(num_numbers + 12, 1, width, act=nn.SiLU)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        embedded = [embed(inputs["codes"][:, place]) for place, embed in enumerate(self.codes)]
        return self.body(torch.cat([inputs["numbers"], *embedded], 1)).squeeze(1)  # type: ignore[no-any-return]


class Tagger(nn.Module):
    """Embedded tokens, a GRU, a score per tag and place."""

    def __init__(self, num_tokens: int, num_tags: int, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_tokens, 16)
        self.gru = nn.GRU(16, width, batch_first=True)
        self.head = nn.Linear(width, num_tags)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.gru(self.embed(tokens))[0])
        return out


def listener(num_out: int, channels: int = 3) -> nn.Sequential:
    """One-dimensional convolutions with group norm."""
    ears = nn.Sequential(nn.Conv1d(channels, 16, 5, padding=2), nn.GroupNorm(4, 16), nn.ReLU())
    ears.extend([nn.Conv1d(16, 24, 5, stride=2, padding=2), nn.GroupNorm(4, 24), nn.ReLU()])
    return ears.extend([nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(24, num_out)])


def viewer(num_out: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Two-dimensional convolutions without norm."""
    first, second = nn.Conv2d(1, 12, 3, padding=1), nn.Conv2d(12, 16, 3, padding=1)
    eyes = nn.Sequential(first, act(), nn.MaxPool2d(2), second, act(), nn.MaxPool2d(2), nn.Flatten())
    return eyes.extend([nn.Linear(144, 32), act(), nn.Linear(32, num_out)])


def per_place(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over all places of all rows."""
    return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())
