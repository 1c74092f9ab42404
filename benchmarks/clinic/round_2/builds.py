"""Data and small nets of which the patients of layers, fits and well are made."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from benchmarks.clinic.case import Setup, drawn

Split = tuple[Dataset[Any], Dataset[Any]]


@contextmanager
def weights_of(seed: int) -> Iterator[None]:
    """What is drawn within follows from the seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 7_907)
        yield


class Records(Dataset[Any]):
    """Rows of named tensors, or of a tuple of them, with their targets."""

    def __init__(self, inputs: Any, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, place: int) -> Any:
        if isinstance(self.inputs, Mapping):
            return {name: column[place] for name, column in self.inputs.items()}, self.targets[place]
        return tuple(column[place] for column in self.inputs), self.targets[place]


def cut(inputs: Any, targets: Tensor, num_train: int) -> Split:
    """The first rows to train on, the others to validate."""
    if isinstance(inputs, Tensor):
        return TensorDataset(inputs[:num_train], targets[:num_train]), TensorDataset(inputs[num_train:], targets[num_train:])
    if isinstance(inputs, Mapping):
        named = [{name: part[rows] for name, part in inputs.items()} for rows in (slice(num_train), slice(num_train, None))]
        return Records(named[0], targets[:num_train]), Records(named[1], targets[num_train:])
    parts = [tuple(part[rows] for part in inputs) for rows in (slice(num_train), slice(num_train, None))]
    return Records(parts[0], targets[:num_train]), Records(parts[1], targets[num_train:])


def plan(split: Split, model: nn.Module, loss: Any, name: str, lr: float, /, *, epochs: int, **job: Any) -> Setup:
    """A setup; keywords that aren't of the job are the optimizer's."""
    outer: Setup = {key: job.pop(key) for key in ("batch_size", "shuffle") if key in job}
    settings = {"name": name, "lr": lr, **job}
    parts: Setup = {"model": model, "train": split[0], "val": split[1], "loss": loss, "optimizer": settings, "epochs": epochs}
    return {"batch_size": 32, "shuffle": True, **parts, **outer}


def terrain(seed: int, *, rows: int = 1200, noise: float = 0.1) -> Split:
    """Height over four coordinates: folds, one product."""
    draw = drawn(seed, "terrain")
    x = torch.randn(rows, 4, generator=draw)
    y = 1.6 * x[:, :1] * x[:, 1:2] + x[:, 2:3].abs() - 0.8 + noise * torch.randn(rows, 1, generator=draw)
    return cut(x, y / 1.8, rows * 3 // 4)


def ratings(seed: int, *, noise: float = 0.3) -> Split:
    """Forty readers' marks for forty books: three tastes."""
    draw = drawn(seed, "ratings")
    readers, books = torch.randn(40, 3, generator=draw), torch.randn(40, 3, generator=draw)
    marks = (readers @ books.T) / math.sqrt(3.0)
    pairs = torch.randperm(1600, generator=draw)
    pairs = torch.stack([pairs // 40, pairs % 40], 1)
    y = marks[pairs[:, 0], pairs[:, 1]] + noise * torch.randn(1600, generator=draw)
    return cut(pairs, y, 1300)


def pulses(seed: int, *, rows: int = 900, noise: float = 0.6) -> Split:
    """Two channels of 40 moments; the kind is the pitch of a burst somewhere."""
    draw = drawn(seed, "pulses")
    kinds = torch.arange(rows) % 3
    start = torch.randint(0, 24, (rows, 1), generator=draw)
    moment = torch.arange(40).expand(rows, 40) - start
    pitch = torch.tensor([0.5, 1.0, 1.7])[kinds].unsqueeze(1)
    phase = 6.3 * torch.rand(rows, 1, generator=draw)
    wave = torch.stack([torch.sin(pitch * moment + phase), torch.cos(pitch * moment + phase)], 1)
    burst = 1.5 * wave * ((moment >= 0) & (moment < 16)).unsqueeze(1)
    order = torch.randperm(rows, generator=draw)
    x = burst + noise * torch.randn(rows, 2, 40, generator=draw)
    return cut(x[order], kinds[order], rows * 2 // 3)


def dials(seed: int, *, rows: int = 800, scale: float = 1.0, level: float = 0.0) -> Split:
    """Pictures of a needle, 11 by 11; targets are the sine and cosine of where it points."""
    draw = drawn(seed, "dials")
    angle = 2 * math.pi * torch.rand(rows, generator=draw)
    up, right = torch.meshgrid(torch.arange(-5.0, 6.0), torch.arange(-5.0, 6.0), indexing="ij")
    sine, cosine = angle.sin().view(-1, 1, 1), angle.cos().view(-1, 1, 1)
    across, along = up * cosine - right * sine, up * sine + right * cosine
    ink = torch.exp(-across.square()) * torch.sigmoid(2 * along) * (along < 4.5)
    x = (ink + 0.1 * torch.randn(rows, 11, 11, generator=draw)).unsqueeze(1)
    return cut(x * scale + level, torch.stack([angle.sin(), angle.cos()], 1), rows * 3 // 4)


def nesting(seed: int, *, rows: int = 500, length: int = 16, shortest: int | None = None) -> Split:
    """Opening, closing and idle marks; each place is labelled by its depth of 0 to 3; -100 after the end."""
    draw = drawn(seed, "nesting")
    marks = torch.randint(0, 3, (rows, length), generator=draw)
    depth, labels = torch.zeros(rows, dtype=torch.long), []
    for place in range(length):
        step = (marks[:, place] == 0).long() - (marks[:, place] == 1).long()
        depth = (depth + step).clamp(0, 3)
        labels.append(depth)
    targets = torch.stack(labels, 1)
    if shortest is not None:
        ends = torch.randint(shortest, length + 1, (rows, 1), generator=draw)
        beyond = torch.arange(length) >= ends
        marks, targets = marks.masked_fill(beyond, 3), targets.masked_fill(beyond, -100)
    return cut(marks, targets, rows * 4 // 5)


def recipes(seed: int, *, rows: int = 1000) -> Split:
    """Twelve of eighty ingredients; the kitchen is the one of three that most of them speak for."""
    draw = drawn(seed, "recipes")
    leaning = torch.randn(80, 3, generator=draw)
    lists = torch.randint(0, 80, (rows, 12), generator=draw)
    return cut(lists, leaning[lists].sum(1).argmax(1), rows * 3 // 4)


def slopes(seed: int, *, rows: int = 900, noise: float = 0.3) -> Split:
    """Thirty readings that climb from a level of their own; the target is how fast."""
    draw = drawn(seed, "slopes")
    level, pace = torch.randn(rows, 1, generator=draw), torch.randn(rows, 1, generator=draw)
    readings = level + pace * torch.linspace(-1.5, 1.5, 30) + noise * torch.randn(rows, 30, generator=draw)
    return cut(readings, pace, rows * 2 // 3)


def molecules(seed: int, *, rows: int = 700) -> Split:
    """Fourteen atoms with three features, and which are neighbours; how alike neighbours are, on the mean."""
    draw = drawn(seed, "molecules")
    atoms = torch.randn(rows, 14, 3, generator=draw) + torch.randn(rows, 1, 3, generator=draw)
    upper = (torch.rand(rows, 14, 14, generator=draw) < 0.5).float().triu(1)
    bonds = upper + upper.transpose(1, 2) + torch.eye(14)
    around = bonds @ atoms / bonds.sum(2, keepdim=True)
    target = torch.tanh(2 * around[..., 0] * around[..., 1]).mean(1, keepdim=True)
    return cut((atoms, bonds), target / 0.55, rows * 5 // 7)


def chains(seed: int, *, rows: int = 300, length: int = 16, words: int = 24, doubt: float = 0.25) -> Split:
    """Words that follow from the two before them, but for a share that is chance; targets are the next words."""
    draw = drawn(seed, "chains")
    follow = torch.stack([torch.randperm(words, generator=draw) for _ in range(2)])
    text = [torch.randint(0, words, (rows,), generator=draw) for _ in range(2)]
    for _ in range(length - 1):
        lawful = follow[text[-2] % 2, text[-1]]
        chance = torch.randint(0, words, (rows,), generator=draw)
        text.append(torch.where(torch.rand(rows, generator=draw) < doubt, chance, lawful))
    whole = torch.stack(text, 1)
    return cut(whole[:, :-1], whole[:, 1:], rows * 5 // 6)


def spectra(seed: int, *, rows: int = 700, noise: float = 0.1) -> Split:
    """Three lines of own heights and widths over 32 wave lengths, to be given back."""
    draw = drawn(seed, "spectra")
    heights = torch.rand(rows, 3, 1, generator=draw) * 2
    place = torch.tensor([6.0, 15.0, 25.0]).view(1, 3, 1) + torch.randn(rows, 3, 1, generator=draw)
    lines = heights * torch.exp(-((torch.arange(32.0) - place) / 2.5).square())
    x = lines.sum(1) - 0.6 + noise * torch.randn(rows, 32, generator=draw)
    return cut(x, x, rows * 5 // 7)


def soils(seed: int, *, rows: int = 900, wrong: float = 0.0, columns: int = 6) -> Split:
    """Four kinds in heaps of two each; a share of labels is drawn anew."""
    draw = drawn(seed, "soils")
    heaps = 1.8 * torch.randn(8, columns, generator=draw)
    heap = torch.randint(0, 8, (rows,), generator=draw)
    x = heaps[heap] + 0.8 * torch.randn(rows, columns, generator=draw)
    chance = torch.randint(0, 4, (rows,), generator=draw)
    return cut(x, torch.where(torch.rand(rows, generator=draw) < wrong, chance, heap % 4), rows * 2 // 3)


class Calls(nn.Module):
    """Whatever the given function makes of the inputs with these parts."""

    def __init__(self, how: Callable[[Any, Any], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.how = how
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, inputs: Any) -> Tensor:
        return self.how(self, inputs)


def stack(*widths: int, bend: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers with what bends between them."""
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(widths):
        layers += [nn.Linear(inner, outer), bend()]
    return nn.Sequential(*layers[:-1])


def places_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over all places but those marked -100."""
    return functional.cross_entropy(scores.transpose(1, 2), labels)


def loans(seed: int, *, rows: int = 700) -> Split:
    """A loss that follows from four quantities; who the customer is has nothing to do with it."""
    draw = drawn(seed, "loans")
    x = torch.randn(rows, 4, generator=draw)
    y = 0.5 * (x[:, 0] + x[:, 1] - x[:, 2]) + 0.6 * torch.randn(rows, generator=draw)
    return cut({"customer": torch.randint(0, 600, (rows,), generator=draw), "quantities": x}, y, 300)


def demand(seed: int, *, rows: int = 1000) -> Split:
    """A positive quantity that grows with a few columns; a few rows to train on are of a rush."""
    draw = drawn(seed, "demand")
    x = torch.randn(rows, 5, generator=draw)
    rush = (torch.rand(rows, 1, generator=draw) < 0.03) & (torch.arange(rows) < rows * 7 // 10).unsqueeze(1)
    x = torch.where(rush, 3.0 * x, x)
    y = functional.softplus(1.5 * x[:, :1] + x[:, 1:2] * x[:, 2:3].sign()) + 0.1 * torch.rand(rows, 1, generator=draw)
    return cut(x, y, rows * 7 // 10)
