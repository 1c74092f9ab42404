"""Tables for the held-out patients: laws drawn from a seed, and the sets that come with scikit-learn."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from benchmarks.clinic.case import drawn
from benchmarks.clinic.held_out.kit import Rows, shuffled_rows


def checkerboard(seed: int, *, rows: int = 1200, side: int = 3, classes: int = 2) -> Rows:
    """Cells of a board, coloured in turn."""
    places = torch.rand(rows, 2, generator=drawn(seed, "held_out.board")) * side
    return (places / side * 2 - 1) * 1.7, places.floor().sum(1).long() % classes


def annuli(seed: int, *, rows: int = 1000, classes: int = 3, extra: int = 4) -> Rows:
    """Rings around a centre, with columns that tell nothing."""
    source = drawn(seed, "held_out.annuli")
    labels = torch.randint(classes, (rows,), generator=source)
    radius = labels + 0.7 + 0.15 * torch.randn(rows, generator=source)
    angle = torch.rand(rows, generator=source) * 2 * math.pi
    plane = torch.stack([radius * angle.cos(), radius * angle.sin()], 1) / 1.5
    return torch.cat([plane, torch.randn(rows, extra, generator=source)], 1), labels


def pinwheel(seed: int, *, rows: int = 1200, arms: int = 4, turns: float = 0.7) -> Rows:
    """Arms of a wheel that bend around the centre."""
    source = drawn(seed, "held_out.pinwheel")
    labels = torch.randint(arms, (rows,), generator=source)
    radius = torch.rand(rows, generator=source).sqrt() * 2 + 0.1
    angle = 2 * math.pi * (labels / arms + turns * radius / 2) + 0.15 * torch.randn(rows, generator=source)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1), labels


def clusters(seed: int, *, rows: int = 1200, classes: int = 8, width: int = 16, spread: float = 1.0) -> Rows:
    """Three clouds for each class, all over the place."""
    source = drawn(seed, "held_out.clusters")
    centres = torch.randn(3 * classes, width, generator=source)
    cloud = torch.randint(3 * classes, (rows,), generator=source)
    inputs = centres[cloud] + 0.35 * spread * torch.randn(rows, width, generator=source)
    return inputs, cloud % classes


def friedman(seed: int, *, rows: int = 1000, noise: float = 0.2) -> Rows:
    """Friedman's first law, standardised: ten columns, five of which matter."""
    source = drawn(seed, "held_out.friedman")
    x = torch.rand(rows, 10, generator=source)
    y = 10 * (math.pi * x[:, 0] * x[:, 1]).sin() + 20 * (x[:, 2] - 0.5).square() + 10 * x[:, 3] + 5 * x[:, 4]
    y = (y - 14.4) / 4.9 + noise * torch.randn(rows, generator=source)
    return (x - 0.5) * 3.46, y[:, None]


def reaction(seed: int, *, rows: int = 1000, noise: float = 0.1) -> Rows:
    """A smooth yield over six conditions, standardised."""
    source = drawn(seed, "held_out.reaction")
    x = torch.randn(rows, 6, generator=source)
    y = (1.5 * x[:, 0]).sin() + x[:, 1] * x[:, 2] - 0.7 * x[:, 3].abs() + 0.4 * x[:, 4]
    return x, ((y + 0.55) / 1.4)[:, None] + noise * torch.randn(rows, 1, generator=source)


def linear_law(seed: int, *, rows: int = 600, width: int = 8, noise: float = 0.3) -> Rows:
    """A weighted sum and noise."""
    source = drawn(seed, "held_out.linear")
    x = torch.randn(rows, width, generator=source)
    weights = torch.randn(width, 1, generator=source)
    y = x @ weights / weights.norm()
    return x, y + noise * torch.randn(rows, 1, generator=source)


def arrivals(seed: int, *, rows: int = 1200) -> Rows:
    """Counts whose rate follows from five columns."""
    source = drawn(seed, "held_out.arrivals")
    x = torch.randn(rows, 5, generator=source)
    rate = (1.6 + 0.7 * x[:, 0] - 0.5 * x[:, 1] + 0.3 * x[:, 2] * x[:, 3]).clamp(max=4).exp()
    return x, torch.poisson(rate, generator=source)[:, None]


def purchases(seed: int, *, rows: int = 1200, width: int = 200) -> Rows:
    """Baskets: of many columns all but a few are zero; the class is the shelf that most things come from."""
    source = drawn(seed, "held_out.purchases")
    labels = torch.randint(4, (rows,), generator=source)
    own = torch.rand(rows, width, generator=source) < 0.01
    shelf = torch.arange(width) % 4
    own |= (torch.rand(rows, width, generator=source) < 0.12) & (shelf[None] == labels[:, None])
    return own.float(), labels


def fraud(seed: int, *, rows: int = 2000, share: float = 0.03, gap: float = 1.1) -> Rows:
    """A rare class that overlaps the common one."""
    source = drawn(seed, "held_out.fraud")
    labels = (torch.rand(rows, generator=source) < share).long()
    x = torch.randn(rows, 10, generator=source)
    x[:, :4] += gap * labels[:, None]
    return x, labels


def flipped(labels: Tensor, share: float, seed: int) -> Tensor:
    """Labels of two classes, of which a share is wrong."""
    wrong = torch.rand(len(labels), generator=drawn(seed, "held_out.flipped")) < share
    return torch.where(wrong, 1 - labels, labels)


def bundled(seed: int, name: Literal["digits", "breast_cancer", "wine", "diabetes"], *, raw: bool = False) -> Rows:
    """A set that comes with scikit-learn, in an order drawn from the seed; columns standardised unless raw."""
    import sklearn.datasets

    both = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    inputs, targets = torch.tensor(both[0], dtype=torch.float32), torch.tensor(both[1])
    if not raw:
        inputs = (inputs - inputs.mean(0)) / inputs.std(0).clamp(min=1e-3)
    if name == "diabetes":
        return shuffled_rows((inputs, targets.float()[:, None]), seed)
    return shuffled_rows((inputs, targets.long()), seed)
