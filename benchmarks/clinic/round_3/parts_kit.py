"""Data that the cases of `bodies` and `calm` share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.clinic.case import Setup, drawn

Pair = tuple[Dataset[Any], Dataset[Any]]


@contextmanager
def initial(seed: int) -> Iterator[None]:
    """Weights made inside follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 271)
        yield


def job(data: Pair, model: nn.Module, loss: Any, name: str, rate: float, /, **rest: Any) -> Setup:
    """A setup of 15 epochs of batches of 32; names of `rest` that an optimizer knows go to it."""
    given: dict[str, Any] = {key: rest.pop(key) for key in ("momentum", "weight_decay", "betas", "params") if key in rest}
    settings = {"name": name, "lr": rate, **given}
    parts = {"model": model, "train": data[0], "val": data[1], "loss": loss, "optimizer": settings}
    return {**parts, "batch_size": 32, "epochs": 15, "shuffle": True, **rest}


def cut(inputs: Tensor, targets: Tensor, rows: int) -> Pair:
    """The first rows train, the others validate."""
    return TensorDataset(inputs[:rows], targets[:rows]), TensorDataset(inputs[rows:], targets[rows:])


def demand(seed: int, *, rows: int = 700, noise: float = 0.1) -> Pair:
    """Six columns and a curved law: hire of bicycles by weather and hour, both scaled."""
    draw = drawn(seed, "demand")
    x = torch.randn(rows + 300, 6, generator=draw)
    law = torch.sin(2.0 * x[:, 0]) + 0.7 * x[:, 1] * x[:, 2] + 0.6 * x[:, 3].abs() + 0.3 * x[:, 4]
    y = (law - 0.48) / 1.15 + noise * torch.randn(len(x), generator=draw)
    return cut(x, y[:, None], rows)


def gestures(seed: int, *, rows: int = 480) -> Pair:
    """Forty readings of three accelerometers; five ways of moving, which differ in pace and in how the axes lag."""
    draw = drawn(seed, "gestures")
    kinds = torch.randint(5, (rows + 300,), generator=draw)
    pace = torch.tensor([1.0, 2.0, 3.2, 4.6, 6.5])[kinds][:, None, None]
    lag = torch.tensor([0.0, 0.7, 1.4, 0.3, 1.0])[kinds][:, None, None] * torch.arange(3.0)
    time = torch.linspace(0.0, 1.0, 40)[None, :, None]
    start = 2.0 * math.pi * torch.rand(len(kinds), 1, 1, generator=draw)
    x = torch.sin(2.0 * math.pi * pace * time + lag + start) + 0.3 * torch.randn(len(kinds), 40, 3, generator=draw)
    return cut(x, kinds, rows)


def comments(seed: int, *, rows: int = 800, length: int = 16) -> Pair:
    """Texts of 40 words; a rating that adds up what a few of them say."""
    draw = drawn(seed, "comments")
    words = torch.randint(40, (rows + 300, length), generator=draw)
    says = torch.zeros(40)
    says[:16] = torch.tensor([1.0, -1.0, 2.0, -2.0]).repeat(4)
    y = says[words].sum(1) / (1.0 * length**0.5)
    return cut(words, (y + 0.05 * torch.randn(len(y), generator=draw))[:, None], rows)


def verdicts(seed: int, *, rows: int = 800) -> Pair:
    """The same texts by whether the rating is above zero, as whole numbers."""
    return tuple(  # type: ignore[return-value]
        TensorDataset(part.tensors[0], (part.tensors[1][:, 0] > 0).long())  # type: ignore[attr-defined]
        for part in comments(seed, rows=rows)
    )


def tiles(seed: int, *, rows: int = 600) -> Pair:
    """Grey tiles of 12 by 12 between 0 and 1: a bar across, a bar down, a slanted bar, or a frame."""
    draw = drawn(seed, "tiles")
    kinds = torch.randint(4, (rows + 300,), generator=draw)
    corners = torch.randint(5, (rows + 300, 2), generator=draw)
    marks = torch.zeros(4, 7, 7)
    marks[0, 3, :] = 1.0
    marks[1, :, 3] = 1.0
    marks[2] = torch.eye(7)
    marks[3] = 1.0
    marks[3, 1:6, 1:6] = 0.0
    x = 0.25 * torch.rand(rows + 300, 1, 12, 12, generator=draw)
    for image, kind, (top, left) in zip(x, kinds.tolist(), corners.tolist()):
        image[0, top : top + 7, left : left + 7] += 0.7 * marks[kind]
    return cut(x, kinds, rows)


def curves(seed: int, *, rows: int = 600) -> Pair:
    """Curves of 24 points out of four amounts; what goes in is to come out."""
    draw = drawn(seed, "curves")
    time = torch.linspace(0.0, 1.0, 24)
    bumps = torch.stack([torch.sin(6 * time), torch.cos(9 * time), 2 * time - 1, torch.exp(-40 * (time - 0.4) ** 2) * 1.5])
    x = torch.randn(rows + 300, 4, generator=draw) @ bumps + 0.05 * torch.randn(rows + 300, 24, generator=draw)
    return cut(x, x.clone(), rows)


def labels_of_words(seed: int, *, rows: int = 400) -> Pair:
    """Twelve words a line; each has a label of three that its own kind and that of the word before give."""
    draw = drawn(seed, "labels")
    words = torch.randint(18, (rows + 200, 12), generator=draw)
    before = torch.cat([torch.zeros(len(words), 1, dtype=torch.long), words[:, :-1]], dim=1)
    return cut(words, (words % 3 + (before >= 9).long()) % 3, rows)


class Ratings(Dataset[tuple[dict[str, Tensor], Tensor]]):
    """Who rates what: 40 people, 30 films, two tastes."""

    def __init__(self, seed: int, first: int, last: int) -> None:
        draw = drawn(seed, "ratings")
        self.people = torch.randint(40, (1300,), generator=draw)[first:last]
        self.films = torch.randint(30, (1300,), generator=draw)[first:last]
        likes, has = torch.randn(40, 2, generator=draw), torch.randn(30, 2, generator=draw)
        marks = (likes[self.people] * has[self.films]).sum(1) / math.sqrt(2.0)
        self.marks = marks + 0.1 * torch.randn(len(marks), generator=draw)

    def __len__(self) -> int:
        return len(self.marks)

    def __getitem__(self, row: int) -> tuple[dict[str, Tensor], Tensor]:
        return {"person": self.people[row], "film": self.films[row]}, self.marks[row]


def quotes(seed: int) -> Pair:
    """Twenty prices around 520 that walk; how far the last seven days went, about 1 in spread."""
    draw = drawn(seed, "quotes")
    steps = 6.0 * torch.randn(900, 20, 1, generator=draw)
    x = 500.0 + 40.0 * torch.rand(900, 1, 1, generator=draw) + steps.cumsum(1)
    return cut(x, (x[:, -1] - x[:, -8]) / 16.0, 600)


def assays(seed: int) -> Pair:
    """A hundred and twenty columns, of which four tell; a hundred rows to learn from."""
    draw = drawn(seed, "assays")
    x = torch.randn(400, 120, generator=draw)
    score = x[:, :4] @ torch.tensor([1.0, -1.0, 1.0, 1.0]) + 0.3 * torch.randn(400, generator=draw)
    return cut(x, score[:, None] / 2.0, 100)
