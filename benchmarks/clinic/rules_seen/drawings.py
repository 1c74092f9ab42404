"""Small images drawn by formulas."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmarks.clinic.case import drawn
from benchmarks.clinic.rules_seen.tables import Split, cut


def stripes(
    seed: int, *, num_classes: int = 4, side: int = 12, num_train: int = 500, num_val: int = 300, noise: float = 0.5
) -> Split:
    """Stripes of random phase and pitch; the class is their direction. Images [N, 1, side, side], targets [N], long."""
    random = drawn(seed, "stripes")
    rows = num_train + num_val
    labels = torch.randint(num_classes, (rows,), generator=random)
    angle = labels * math.pi / num_classes
    phase = 2 * math.pi * torch.rand(rows, 1, 1, generator=random)
    pitch = 0.9 + 0.5 * torch.rand(rows, 1, 1, generator=random)
    down, right = _grid(side)
    along = angle.cos()[:, None, None] * right + angle.sin()[:, None, None] * down
    images = (pitch * along + phase).sin() + noise * torch.randn(rows, side, side, generator=random)
    return cut(images.unsqueeze(1), labels, num_train)


def shapes(seed: int, *, side: int = 12, num_train: int = 500, num_val: int = 300, noise: float = 0.25) -> Split:
    """A frame, a cross or a disc somewhere in the image: three classes. Images [N, 1, side, side], targets [N], long."""
    random = drawn(seed, "shapes")
    rows = num_train + num_val
    labels = torch.randint(3, (rows,), generator=random)
    centre = 3 + torch.randint(side - 6, (2, rows, 1, 1), generator=random)
    down, right = _grid(side)
    below, beside = (down - centre[0]).abs(), (right - centre[1]).abs()
    frame = torch.maximum(below, beside) == 2
    cross = ((below == 0) | (beside == 0)) & (below + beside <= 2)
    disc = below.square() + beside.square() <= 5
    drawing = torch.stack([frame, cross, disc])[labels, torch.arange(rows)].float()
    images = drawing + noise * torch.randn(rows, side, side, generator=random)
    return cut(images.unsqueeze(1), labels, num_train)


def spots(seed: int, *, side: int = 12, num_train: int = 500, num_val: int = 300, noise: float = 0.2) -> Split:
    """One bright spot; the target is how far down it lies, of mean 0 and spread about 1. Targets [N, 1]."""
    random = drawn(seed, "spots")
    rows = num_train + num_val
    place = 1 + (side - 3) * torch.rand(2, rows, 1, 1, generator=random)
    down, right = _grid(side)
    images = (-((down - place[0]).square() + (right - place[1]).square()) / 3).exp()
    images = images + noise * torch.randn(rows, side, side, generator=random)
    depth = (place[0, :, 0, 0] - (side - 1) / 2) / (side / 3.5)
    return cut(images.unsqueeze(1), depth.unsqueeze(1), num_train)


def _grid(side: int) -> tuple[Tensor, Tensor]:
    steps = torch.arange(side, dtype=torch.float32)
    return steps[:, None], steps[None, :]
