"""What every metric is, and what several of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from stepwell.core.batch import Batch, Tree

__all__ = ["Accumulator", "Metric", "OfTask", "area_under_curve"]


class Accumulator(ABC):
    """Fed with every evaluated batch, then read once."""

    @abstractmethod
    def update(self, outputs: Tree, batch: Batch) -> None:
        """Take in a batch's outputs (fp32) and targets."""


class Metric(Accumulator):
    """An accumulator that is read as one number."""

    @abstractmethod
    def compute(self) -> float:
        """The value over all batches."""


@final
class OfTask(Metric):
    """A metric of one task's outputs and targets, where both are dicts.

    Args:
        task: which entry.
        metric: fed with it.
    """

    def __init__(self, task: str, metric: Metric) -> None:
        self.task, self.metric = task, metric

    def update(self, outputs: Tree, batch: Batch) -> None:
        self.metric.update(outputs[self.task], replace(batch, targets=batch.targets[self.task]))

    def compute(self) -> float:
        return self.metric.compute()


def area_under_curve(scores: Tensor, targets: Tensor, weights: Tensor | None = None) -> float:
    """The chance that a sample of class 1 has a higher score than one of class 0, equal scores counting half.

    Args:
        scores: (N,).
        targets: (N,) int64, 0 or 1.
        weights: how much each sample counts, (N,); None for ones.

    >>> area_under_curve(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1]))
    0.75
    """
    each = torch.ones(len(scores), dtype=torch.float64) if weights is None else weights.double()
    _, place = torch.unique(scores, return_inverse=True)  # type: ignore[no-untyped-call]
    levels = int(place.max()) + 1
    ones, zeros = (torch.zeros(levels, dtype=torch.float64).index_add_(0, place, each * (targets == k)) for k in (1, 0))
    below = zeros.cumsum(0) - zeros
    return float((ones * (below + zeros / 2)).sum() / (ones.sum() * zeros.sum()))
