"""The rows of the exam's first half: tables, drawn images and sequences, from formulas or bundled with sklearn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.clinic.case import drawn

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Rows:
    """Training and validation data before they become data sets."""

    x: Tensor
    y: Tensor
    val_x: Tensor
    val_y: Tensor

    def mapped(self, inputs: Change | None = None, targets: Change | None = None) -> Rows:
        """The same change to the inputs, or the targets, of both parts."""
        x, val_x = (self.x, self.val_x) if inputs is None else (inputs(self.x), inputs(self.val_x))
        y, val_y = (self.y, self.val_y) if targets is None else (targets(self.y), targets(self.val_y))
        return Rows(x, y, val_x, val_y)

    def scaled(self) -> Rows:
        """Inputs standardised by column, with the statistics of the training part."""
        mean, std = self.x.mean(0), self.x.std(0).clamp(min=1e-6)
        return self.mapped(lambda x: (x - mean) / std)

    def target_scaled(self) -> Rows:
        """Targets standardised with the statistics of the training part."""
        mean, std = self.y.mean(), self.y.std()
        return self.mapped(targets=lambda y: (y - mean) / std)

    def train_only(self, **parts: Tensor) -> Rows:
        """Other training inputs `x` or targets `y`; validation stays."""
        return replace(self, **parts)

    def sorted(self) -> Rows:
        """The training part in the order of its targets."""
        order = torch.argsort(self.y.reshape(len(self.y)).double(), stable=True)
        return self.train_only(x=self.x[order], y=self.y[order])


def cut(x: Tensor, y: Tensor, num_val: int) -> Rows:
    """The last `num_val` rows are for validation."""
    return Rows(x[:-num_val], y[:-num_val], x[-num_val:], y[-num_val:])


def customers(seed: int, num: int = 1600, share: float = 0.4) -> Rows:
    """Who leaves: age, income, balance, months, calls, products, complaints, two flags; labels [N, 1] of 0.0 and 1.0."""
    dice = drawn(seed, "customers")
    normal = torch.randn(num, 9, generator=dice)
    age, income = 45 + 13 * normal[:, 0], 42_000 * (0.5 * normal[:, 1]).exp()
    balance, months = 9_000 * (0.8 * normal[:, 2]).exp(), (36 + 20 * normal[:, 3]).clamp(min=1)
    calls, complaints = normal[:, 4].abs() * 3, (normal[:, 5] > 1).float()
    products, city, card = (
        torch.randint(1, 5, (num,), generator=dice).float(),
        normal[:, 7].gt(0).float(),
        normal[:, 8].gt(0).float(),
    )
    x = torch.stack([age, income, balance, months, calls, products, complaints, city, card], 1)
    score = 1.5 * normal[:, 0] * normal[:, 3] + 1.6 * normal[:, 4].abs() + 2.0 * complaints - 0.9 * normal[:, 1] + (products == 1)
    score = score + 0.4 * torch.randn(num, generator=dice)
    return cut(x, (score > score.quantile(1 - share)).float().unsqueeze(1), 500)


def flats(seed: int, num: int = 1500) -> Rows:
    """What flats cost: area, rooms, year, distance, floor, balcony, noise; prices [N, 1] in whole money, about 300,000."""
    dice = drawn(seed, "flats")
    normal, uniform = torch.randn(num, 2, generator=dice), torch.rand(num, 6, generator=dice)
    area, year, distance = 25 + 150 * uniform[:, 0], 1900 + 120 * uniform[:, 1], 20 * uniform[:, 2]
    rooms, floor, balcony = (
        (area / 28 + 0.7 * normal[:, 0]).round().clamp(min=1),
        (9 * uniform[:, 3]).floor(),
        (uniform[:, 4] > 0.6),
    )
    noise = 40 + 40 * uniform[:, 5]
    x = torch.stack([area, rooms, year, distance, floor, balcony.float(), noise], 1)
    per_metre = 4200 * torch.exp(-0.09 * distance) + 14 * (year - 1960).abs() + 400 * balcony - 12 * (noise - 60)
    return cut(x, (area * per_metre + 9_000 * normal[:, 1]).unsqueeze(1), 400)


def crops(seed: int, num: int = 1600, classes: int = 6) -> Rows:
    """Which crop, from eight bands of reflected light: each class has two looks; labels of 0..classes-1."""
    dice = drawn(seed, "crops")
    looks = 1.6 * torch.randn(classes, 2, 8, generator=drawn(7, "looks"))
    labels = torch.randint(0, classes, (num,), generator=dice)
    which = torch.randint(0, 2, (num,), generator=dice)
    return cut(looks[labels, which] + 0.75 * torch.randn(num, 8, generator=dice), labels, 500)


def digits(seed: int) -> Rows:
    """The bundled 8x8 handwritten digits, brightness 0 to 16, shuffled; images [N, 1, 8, 8]."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=drawn(seed, "digits"))
    x = torch.as_tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return cut(x[order], torch.as_tensor(labels)[order], 500)


def signs(seed: int, num: int = 1200, noise: float = 0.25) -> Rows:
    """Drawn 12x12 images, brightness about 0 to 1: a frame, a plus, a cross or a filled square, anywhere; labels 0..3."""
    dice = drawn(seed, "signs")
    axis = torch.arange(5)
    frame, plus = torch.ones(5, 5), torch.zeros(5, 5)
    frame[1:4, 1:4], plus[2], plus[:, 2] = 0.0, 1.0, 1.0
    cross = ((axis[:, None] == axis) | (axis[:, None] + axis == 4)).float()
    stamps = torch.stack([frame, plus, cross, torch.ones(5, 5)])
    labels = torch.randint(0, 4, (num,), generator=dice)
    places = torch.randint(0, 8, (num, 2), generator=dice).tolist()
    x = noise * torch.randn(num, 1, 12, 12, generator=dice)
    for row, (label, (top, left)) in enumerate(zip(labels.tolist(), places)):
        x[row, 0, top : top + 5, left : left + 5] += stamps[label]
    return cut(x, labels, 400)


def reviews(seed: int, num: int = 1400) -> Rows:
    """Sixteen words of forty: eight praise, eight blame, most say nothing; label 1 where praise outweighs blame."""
    dice = drawn(seed, "reviews")
    x = torch.randint(16, 40, (num, 16), generator=dice)
    lean = torch.where(torch.rand(num, generator=dice) < 0.5, 0.25, 0.75).unsqueeze(1)
    told, praise = torch.rand(num, 16, generator=dice) < 0.45, torch.rand(num, 16, generator=dice) < lean
    words = torch.randint(0, 8, (num, 16), generator=dice) + torch.where(praise, 0, 8)
    x = torch.where(told, words, x)
    balance = (x < 8).sum(1) - ((x >= 8) & (x < 16)).sum(1)
    kept = balance != 0
    return cut(x[kept], (balance > 0).long()[kept], 300)


def tones(seed: int, num: int = 1200) -> Rows:
    """A tone of 32 samples with any phase: sine, square, saw, or a sine that fades; [N, 32, 1], labels 0..3."""
    dice = drawn(seed, "tones")
    labels = torch.randint(0, 4, (num,), generator=dice)
    turns = (1.5 + 1.5 * torch.rand(num, 1, generator=dice)) * torch.linspace(0, 1, 32) + torch.rand(num, 1, generator=dice)
    sine = torch.sin(2 * math.pi * turns)
    waves = torch.stack([sine, sine.sign(), 2 * (turns % 1) - 1, sine * torch.linspace(1.6, 0.1, 32)], 1)
    x = waves[torch.arange(num), labels] + 0.15 * torch.randn(num, 32, generator=dice)
    return cut(x.unsqueeze(2), labels, 400)


def demand(seed: int, num: int = 1400) -> Rows:
    """A day of a power grid's load, hour by hour, and the load of the hour after; standardised, [N, 24, 1] and [N, 1]."""
    dice = drawn(seed, "demand")
    hours = torch.arange(num + 24).float()
    wander = 0.25 * torch.randn(num + 24, generator=dice)
    load = (
        torch.sin(2 * math.pi * hours / 24)
        + 0.5 * torch.sin(2 * math.pi * hours / 168)
        + 0.5 * torch.cos(4 * math.pi * hours / 24)
    )
    load = load + wander + 0.4 * wander.roll(1)
    windows = load.unfold(0, 25, 1)[:num]
    return cut(windows[:, :24].unsqueeze(2), windows[:, 24:], 350)


def quotes(seed: int, num: int = 1200) -> Rows:
    """Twelve words of twelve; label of a word: 1 from an opening mark (0) to the end, 2 right after a warning (1), else 0."""
    dice = drawn(seed, "quotes")
    x = torch.randint(2, 12, (num, 12), generator=dice)
    x = torch.where(torch.rand(num, 12, generator=dice) < 0.06, 0, x)
    x = torch.where(torch.rand(num, 12, generator=dice) < 0.06, 1, x)
    warned = torch.cat([torch.zeros(num, 1, dtype=torch.bool), x[:, :-1] == 1], 1)
    return cut(x, torch.where(warned, 2, ((x == 0).cumsum(1) > 0).long()), 300)
