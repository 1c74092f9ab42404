"""Tables drawn from formulas: rows of features with classes or quantities to tell from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import drawn


@dataclass(frozen=True)
class Split:
    """Rows to train on and rows to judge by."""

    train: TensorDataset
    val: TensorDataset


def cut(inputs: Tensor, targets: Tensor, num_train: int) -> Split:
    """The first rows train, the others judge."""
    return Split(TensorDataset(inputs[:num_train], targets[:num_train]), TensorDataset(inputs[num_train:], targets[num_train:]))


def clouds(
    seed: int, *, num_classes: int = 5, num_features: int = 10, num_train: int = 600, num_val: int = 300, distance: float = 1.6
) -> Split:
    """Two clouds of points per class around centres `distance` apart: straight cuts do not part them. Targets [N], long."""
    random = drawn(seed, "clouds")
    centres = torch.randn(2, num_classes, num_features, generator=random) * distance
    rows = num_train + num_val
    labels = torch.randint(num_classes, (rows,), generator=random)
    which = torch.randint(2, (rows,), generator=random)
    inputs = centres[which, labels] + torch.randn(rows, num_features, generator=random)
    return cut(inputs / inputs.std(), labels, num_train)


def rings(seed: int, *, num_train: int = 500, num_val: int = 300, noise: float = 0.12) -> Split:
    """Points in the plane within or outside of a circle. Targets [N, 1], 0 or 1."""
    random = drawn(seed, "rings")
    rows = num_train + num_val
    labels = torch.randint(2, (rows,), generator=random)
    radius = 0.6 + 0.9 * labels + noise * torch.randn(rows, generator=random)
    angle = 6.2832 * torch.rand(rows, generator=random)
    inputs = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    return cut(inputs, labels.float().unsqueeze(1), num_train)


def quadrants(seed: int, *, num_train: int = 600, num_val: int = 300, num_features: int = 6) -> Split:
    """The sign of the product of two features. Targets [N], 0 or 1, long."""
    random = drawn(seed, "quadrants")
    inputs = torch.randn(num_train + num_val, num_features, generator=random)
    return cut(inputs, (inputs[:, 0] * inputs[:, 1] > 0).long(), num_train)


def waves(seed: int, *, num_features: int = 5, num_train: int = 600, num_val: int = 300, noise: float = 0.1) -> Split:
    """A smooth law of a few features, of mean about 0 and spread about 1. Targets [N, 1]."""
    random = drawn(seed, "waves")
    inputs = torch.randn(num_train + num_val, num_features, generator=random)
    law = (1.5 * inputs[:, 0]).sin() + 0.5 * inputs[:, 1] * inputs[:, 2].tanh() + 0.5 * inputs[:, 3]
    law = law + noise * torch.randn(len(inputs), generator=random)
    return cut(inputs, law.unsqueeze(1), num_train)


def lines(seed: int, *, num_features: int = 8, num_train: int = 400, num_val: int = 300, noise: float = 0.2) -> Split:
    """A linear law. Targets [N, 1] of spread about 1."""
    random = drawn(seed, "lines")
    inputs = torch.randn(num_train + num_val, num_features, generator=random)
    slopes = torch.randn(num_features, 1, generator=random)
    law = inputs @ (slopes / slopes.norm()) + noise * torch.randn(len(inputs), 1, generator=random)
    return cut(inputs, law, num_train)


def rare(seed: int, *, share: float = 0.04, num_features: int = 6, num_train: int = 1200, num_val: int = 800) -> Split:
    """A rare class that overlaps with a common one. Targets [N], 1 is rare, long."""
    random = drawn(seed, "rare")
    rows = num_train + num_val
    labels = (torch.rand(rows, generator=random) < share).long()
    shift = torch.tensor([1.1, 1.1, 0.8] + [0.0] * (num_features - 3))
    inputs = torch.randn(rows, num_features, generator=random) + labels.unsqueeze(1) * shift
    return cut(inputs, labels, num_train)


def scaled(split: Split, *, factor: float = 1.0, shift: float = 0.0) -> Split:
    """The same rows with targets in other units."""
    pair = [TensorDataset(part.tensors[0], part.tensors[1] * factor + shift) for part in (split.train, split.val)]
    return Split(pair[0], pair[1])


def with_inputs(split: Split, factor: Tensor | float, shift: Tensor | float = 0.0) -> Split:
    """The same rows with inputs in other units."""
    pair = [TensorDataset(part.tensors[0] * factor + shift, part.tensors[1]) for part in (split.train, split.val)]
    return Split(pair[0], pair[1])
