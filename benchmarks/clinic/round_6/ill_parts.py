"""Data, models and mends that the sick setups of this round share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Setup, drawn

Halves = tuple[TensorDataset, TensorDataset]
Mend = Callable[[Setup], Setup]


@contextmanager
def weights_from(seed: int) -> Iterator[None]:
    """Initial weights that follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 4242)
        yield


def halves(inputs: Tensor, targets: Tensor, rows: int) -> Halves:
    """The first rows to train on, the others to judge by."""
    return TensorDataset(inputs[:rows], targets[:rows]), TensorDataset(inputs[rows:], targets[rows:])


def flats(seed: int, *, rows: int = 700, raw: bool = False, euros: bool = False) -> Halves:
    """Six facts of a flat, and its price: standardised, or as they stand in the table."""
    draw = drawn(seed, "flats")
    share = torch.rand(rows + 400, 6, generator=draw)
    facts = share * torch.tensor([130.0, 19.0, 90.0, 25.0, 5.0, 250.0]) + torch.tensor([25.0, 0.0, 0.0, 0.2, 1.0, 30.0])
    area, floor, age, way, rooms, heat = facts.unbind(1)
    price = area * (2.4 - 0.07 * way + 1.1 * torch.exp(-age / 25)) + 4 * floor * (way < 8) + 9 * rooms - 0.15 * heat + 40
    price = price + 12 * torch.randn(len(price), generator=draw)
    if not raw:
        facts = (facts - facts.mean(0)) / facts.std(0)
    price = price * 1000 if euros else (price - price.mean()) / price.std()
    return halves(facts, price[:, None], rows)


def guests(seed: int, *, rows: int = 900) -> Halves:
    """Ten standardised habits of a guest, and whether they come again; about half do."""
    draw = drawn(seed, "guests")
    habits = torch.randn(rows + 500, 10, generator=draw)
    liking = habits[:, 0] * habits[:, 1] + torch.sin(2 * habits[:, 2]) + 0.7 * habits[:, 3]
    liking = liking + 0.25 * torch.randn(len(liking), generator=draw)
    return halves(habits, (liking > 0).float()[:, None], rows)


def soils(seed: int, *, rows: int = 1000, kinds: int = 5, blur: float = 0.75) -> Halves:
    """Eight measures of a soil; every kind occurs in three places."""
    draw = drawn(seed, "soils")
    places = torch.randn(kinds * 3, 8, generator=draw) * 1.4
    which = torch.randint(kinds * 3, (rows + 500,), generator=draw)
    return halves(places[which] + blur * torch.randn(len(which), 8, generator=draw), which % kinds, rows)


def themes(seed: int, *, rows: int = 900) -> Halves:
    """Fourteen traits of a text, and which of five themes it has: any number of them."""
    draw = drawn(seed, "themes")
    traits = torch.randn(rows + 400, 14, generator=draw)
    pull = traits @ torch.randn(14, 5, generator=draw) / 2 + 0.8 * traits[:, :5] * traits[:, 5:10]
    return halves(traits, (pull > 0.2).float(), rows)


def tiles(seed: int, *, rows: int = 700, noise: float = 0.35, side: int = 14) -> Halves:
    """Pictures with a plus, a frame, a bar, a chequer or a disc somewhere."""
    draw = drawn(seed, "tiles")
    marks = torch.zeros(5, 7, 7)
    marks[0, 3] = marks[0, :, 3] = 1.0
    marks[1] = 1.0
    marks[1, 1:-1, 1:-1] = 0.0
    marks[2, 2:5] = 1.0
    marks[3, ::2, ::2] = marks[3, 1::2, 1::2] = 1.0
    grid = torch.arange(7.0) - 3
    marks[4] = (grid[:, None] ** 2 + grid**2 <= 8).float()
    kind = torch.randint(5, (rows + 400,), generator=draw)
    down, along = torch.randint(side - 6, (2, len(kind)), generator=draw).tolist()
    pictures = noise * torch.randn(len(kind), 1, side, side, generator=draw)
    for row, (y, x) in enumerate(zip(down, along)):
        pictures[row, 0, y : y + 7, x : x + 7] += marks[kind[row]]
    return halves(pictures, kind, rows)


def dials(seed: int, *, rows: int = 600) -> Halves:
    """Pictures of a needle, and its angle between -1 and 1."""
    draw = drawn(seed, "dials")
    reading = torch.rand(rows + 300, generator=draw) * 2 - 1
    turn = reading * math.pi * 0.4
    grid = torch.linspace(-1, 1, 12)
    off = (grid[None, :] * torch.cos(turn)[:, None, None] + grid[:, None] * torch.sin(turn)[:, None, None]).abs()
    pictures = torch.exp(-((off / 0.18) ** 2)) + 0.15 * torch.randn(off.shape, generator=draw)
    return halves(pictures[:, None], reading[:, None], rows)


def wounds(seed: int, *, rows: int = 300) -> Halves:
    """Pictures with a bright patch on a cloudy ground, and the mask of the patch."""
    draw = drawn(seed, "wounds")
    masks = torch.zeros(rows + 150, 1, 12, 12)
    corner, size = torch.randint(6, (2, len(masks)), generator=draw), torch.randint(3, 7, (2, len(masks)), generator=draw)
    for row in range(len(masks)):
        (y, x), (tall, wide) = corner[:, row].tolist(), size[:, row].tolist()
        masks[row, 0, y : y + tall, x : x + wide] = 1.0
    return halves(masks + 0.5 * torch.randn(masks.shape, generator=draw), masks, rows)


def gaits(seed: int, *, rows: int = 600, steps: int = 32) -> Halves:
    """Three axes of a sensor while somebody stands, walks, runs or climbs."""
    draw = drawn(seed, "gaits")
    kind = torch.randint(4, (rows + 400,), generator=draw)
    pace = torch.tensor([0.0, 0.35, 0.7, 0.35])[kind] * (1 + 0.15 * torch.randn(len(kind), generator=draw))
    phase = torch.rand(len(kind), generator=draw) * 6.28
    swing = torch.sin(pace[:, None] * torch.arange(steps) + phase[:, None])
    slope = torch.tensor([0.0, 0.0, 0.0, 1.2])[kind][:, None] * torch.cos(
        2 * pace[:, None] * torch.arange(steps) + phase[:, None]
    )
    axes = torch.stack([swing, 0.5 * swing + slope, slope], 2) * (1 + 0.2 * torch.randn(len(kind), 1, 1, generator=draw))
    return halves(axes + 0.25 * torch.randn(axes.shape, generator=draw), kind, rows)


def recalls(seed: int, *, rows: int = 800, steps: int = 30) -> Halves:
    """Which of four signs was shown first, before a stretch of noise."""
    draw = drawn(seed, "recalls")
    sign = torch.randint(4, (rows + 400,), generator=draw)
    series = 0.3 * torch.randn(len(sign), steps, 4, generator=draw)
    series[torch.arange(len(sign)), 0, sign] += 2.0
    return halves(series, sign, rows)


def loads(seed: int, *, rows: int = 700, steps: int = 24, raw: bool = False) -> Halves:
    """Hours of a power load and the next one; standardised, or in megawatts."""
    draw = drawn(seed, "loads")
    hours = torch.arange(rows + 300 + steps + 1)
    load = torch.sin(hours * 2 * math.pi / 24) + 0.5 * torch.sin(hours * 2 * math.pi / 9.7 + 1) + 0.3 * torch.sin(hours / 31)
    load = load + 0.15 * torch.randn(len(load), generator=draw)
    series = load.unfold(0, steps + 1, 1)
    if raw:
        series = series * 900 + 4200
    return halves(series[:, :-1, None].contiguous(), series[:, -1:].contiguous(), rows)


def reviews(seed: int, *, rows: int = 1200, length: int = 14) -> Halves:
    """Words of a review and whether it praises: a no before a word turns it."""
    draw = drawn(seed, "reviews")
    words = torch.randint(1, 30, (rows + 500, length), generator=draw)
    words[torch.rand(words.shape, generator=draw) < 0.15] = 0
    worth = torch.cat([torch.zeros(1), torch.randn(29, generator=drawn(3, "worth"))])[words]
    turned = torch.cat([torch.ones(len(words), 1), 1 - 2 * (words[:, :-1] == 0).float()], 1)
    return halves(words, ((worth * turned).sum(1) > 0).long(), rows)


def notes(seed: int, *, rows: int = 600, length: int = 12) -> Halves:
    """Words and the tag of each, one of four, that depends on the word and on the mood of the whole note."""
    draw = drawn(seed, "notes")
    words = torch.randint(20, (rows + 250, length), generator=draw)
    mood = ((words >= 10).sum(1, keepdim=True) > length / 2).long()
    return halves(words, (words + 2 * mood) % 4, rows)


def mlp(*sizes: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers with an activation between them."""
    parts: list[nn.Module] = []
    for inside, outside in itertools.pairwise(sizes):
        parts += [nn.Linear(inside, outside), act()]
    return nn.Sequential(*parts[:-1])


def eye(outputs: int, *, width: int = 12, norm: bool = False, pooled: int = 3) -> nn.Sequential:
    """Two convolutions with pooling, then a linear layer."""
    parts: list[nn.Module] = []
    for inside, outside in ((1, width), (width, 2 * width)):
        parts += [nn.Conv2d(inside, outside, 3, padding=1)] + ([nn.BatchNorm2d(outside)] if norm else []) + [nn.ReLU()]
        parts += [nn.MaxPool2d(2)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(pooled), nn.Flatten(), nn.Linear(2 * width * pooled**2, outputs))


class Reader(nn.Module):
    """A recurrent network, and a linear layer on its last state."""

    def __init__(self, inputs: int, outputs: int, *, cell: str = "gru", width: int = 24, words: int = 0, **more: Any) -> None:
        super().__init__()
        self.words = nn.Embedding(words, inputs) if words else nn.Identity()
        kinds: dict[str, Any] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
        self.cell = kinds[cell](inputs, width, **{"batch_first": True, **more})
        self.head = nn.Linear(width, outputs)

    def forward(self, series: Tensor) -> Tensor:
        states: Tensor = self.cell(self.words(series))[0]
        outputs: Tensor = self.head(states[:, -1])
        return outputs


class Attender(nn.Module):
    """Words and places, a transformer, and a linear layer on the mean or on every place."""

    def __init__(self, words: int, length: int, outputs: int, *, layers: int = 2, mean: int = 1, **more: Any) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, 32), nn.Parameter(torch.randn(length, 32) * 0.1)
        settings = {"dim_feedforward": 64, "dropout": 0.0, "batch_first": True, **more}
        layer = nn.TransformerEncoderLayer(32, 4, **settings)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head, self.mean = nn.Linear(32, outputs), mean

    def forward(self, series: Tensor) -> Tensor:
        states = self.body(self.words(series) + self.places)
        outputs: Tensor = self.head(states.mean(1) if self.mean else states)
        return outputs


def by_place(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over every place of every row."""
    return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def setup(data: Halves, model: nn.Module, loss: Any, *, lr: float = 1e-3, name: str = "adam", **more: Any) -> Setup:
    """A setup with usual settings; what isn't of the loop goes to the optimizer."""
    loop = {key: more.pop(key, usual) for key, usual in (("batch_size", 32), ("epochs", 20), ("shuffle", True))}
    return {"model": model, "train": data[0], "val": data[1], "loss": loss, "optimizer": {"name": name, "lr": lr, **more}, **loop}


def job(**changes: Any) -> Mend:
    """Other batch size, epochs or loss; anything else is a setting of the optimizer."""
    loop: Setup = {key: changes.pop(key) for key in ("batch_size", "epochs", "loss", "shuffle") if key in changes}
    return lambda sick: {**sick, **loop, "optimizer": {**sick["optimizer"], **changes}}
