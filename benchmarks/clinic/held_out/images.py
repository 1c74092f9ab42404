"""Small drawn images for the held-out patients, each [rows, channels, side, side]."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmarks.clinic.case import drawn
from benchmarks.clinic.held_out.kit import Rows


def _axes(side: int) -> tuple[Tensor, Tensor]:
    line = torch.arange(side, dtype=torch.float32)
    return line[None, :, None], line[None, None, :]


def gratings(seed: int, *, rows: int = 900, side: int = 12, classes: int = 4, noise: float = 0.4) -> Rows:
    """Waves over the image; the class is their direction."""
    source = drawn(seed, "held_out.gratings")
    labels = torch.randint(classes, (rows,), generator=source)
    angle = (math.pi * labels / classes)[:, None, None]
    phase = (2 * math.pi * torch.rand(rows, generator=source))[:, None, None]
    down, across = _axes(side)
    waves = (1.4 * (across * angle.cos() + down * angle.sin()) + phase).sin()
    return (waves + noise * torch.randn(rows, side, side, generator=source))[:, None], labels


def strokes(seed: int, *, rows: int = 900, side: int = 10, channels: int = 1) -> Rows:
    """One line, flat, upright or slanting either way, or two that cross: five classes, moved about."""
    source = drawn(seed, "held_out.strokes")
    labels = torch.randint(5, (rows,), generator=source)
    place = torch.randint(3, side - 3, (rows, 2), generator=source).float()
    down, across = _axes(side)
    below, beside = down - place[:, :1, None], across - place[:, 1:, None]
    below, beside = torch.broadcast_tensors(below, beside)
    drawn_lines = torch.stack([below == 0, beside == 0, below == beside, below == -beside, (below == 0) | (beside == 0)], 1)
    lines = drawn_lines[torch.arange(rows), labels] & (below.abs() < 4) & (beside.abs() < 4)
    colour = 0.6 + 0.8 * torch.rand(rows, channels, 1, 1, generator=source)
    noise = 0.15 * torch.randn(rows, channels, side, side, generator=source)
    return lines[:, None].float() * colour + noise, labels


def hollows(seed: int, *, rows: int = 800, side: int = 12) -> Rows:
    """A full disc, a ring or a square's edge, of any size: three classes."""
    source = drawn(seed, "held_out.hollows")
    labels = torch.randint(3, (rows,), generator=source)
    centre = side / 2 + 2 * torch.rand(rows, 2, 1, 1, generator=source) - 1
    size = (2.5 + 1.5 * torch.rand(rows, generator=source))[:, None, None]
    down, across = _axes(side)
    below, beside = (down - centre[:, 0]).abs(), (across - centre[:, 1]).abs()
    round_one, square = (below.square() + beside.square()).sqrt(), torch.maximum(below, beside)
    shapes = torch.stack([round_one < size, (round_one - size).abs() < 0.8, (square - size).abs() < 0.6], 1)
    picked = shapes[torch.arange(rows), labels].float()
    return (picked + 0.2 * torch.randn(rows, side, side, generator=source))[:, None], labels


def lamps(seed: int, *, rows: int = 900, side: int = 12) -> Rows:
    """One bright spot on a noisy ground; the targets are its place, [rows, 2], between -1 and 1."""
    source = drawn(seed, "held_out.lamps")
    place = torch.rand(rows, 2, generator=source) * (side - 4) + 2
    down, across = _axes(side)
    far = (down - place[:, :1, None]).square() + (across - place[:, 1:, None]).square()
    glow = 2 * (-far / 3).exp() + 0.15 * torch.randn(rows, side, side, generator=source)
    return glow[:, None], (place - side / 2) / (side / 2 - 2)


def flecks(seed: int, *, rows: int = 1000, side: int = 10, most: int = 3) -> Rows:
    """One to `most` + 1 bright pixels, no two on one place; the class is their number less one."""
    source = drawn(seed, "held_out.flecks")
    labels = torch.randint(most + 1, (rows,), generator=source)
    rank = torch.rand(rows, side * side, generator=source).argsort(1).argsort(1)
    bright = (rank <= labels[:, None]).float().view(rows, 1, side, side)
    return 2 * bright + 0.1 * torch.randn(rows, 1, side, side, generator=source), labels
