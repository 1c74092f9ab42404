"""Metrics of embeddings: are those of one kind nearer to each other than those of different kinds?"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.objectives.embeddings import distances, embeddings
from stepwell.engine.metrics.base import Metric, area_under_curve

__all__ = ["PairAccuracy", "PairAuc", "TripletAccuracy"]


class _Distances(Metric):
    # Every pair's distance is kept: one number a pair.
    def __init__(self) -> None:
        self.distances: list[Tensor] = []
        self.same: list[Tensor] = []
        self.weights: list[Tensor] = []

    def update(self, outputs: Tree, batch: Batch) -> None:
        left, right = embeddings(outputs, ("left", "right"), "pairs")
        self.distances.append(distances(left, right).double().cpu())
        self.same.append((batch.targets.reshape(-1) > 0.5).long().cpu())
        weights = torch.ones(len(left)) if batch.weights is None else batch.weights
        self.weights.append(weights.double().cpu())


@final
class PairAuc(_Distances):
    """The chance that a pair of the same kind is nearer than a pair of different kinds, weighted by pair."""

    def compute(self) -> float:
        same = torch.cat(self.same)
        if same.min() == same.max():
            return math.nan
        return area_under_curve(-torch.cat(self.distances), same, torch.cat(self.weights))


@final
class PairAccuracy(_Distances):
    """Share of pairs told right by the best threshold on their distance, weighted by pair.

    The threshold is chosen on the evaluated pairs themselves: with few of them the figure is too good, and it never
    falls below the share of the more frequent answer.

    >>> metric = PairAccuracy()
    >>> left, right = torch.zeros(4, 1), torch.tensor([[0.1], [0.2], [0.3], [0.4]])
    >>> metric.update((left, right), Batch(left, torch.tensor([1, 1, 0, 1])))
    >>> metric.compute()
    0.75
    """

    def compute(self) -> float:
        far, same, weights = torch.cat(self.distances), torch.cat(self.same), torch.cat(self.weights)
        found, place = torch.unique(far, return_inverse=True)  # type: ignore[no-untyped-call]
        ones, zeros = (torch.zeros(len(found), dtype=torch.float64).index_add_(0, place, weights * (same == k)) for k in (1, 0))
        # Right when everything up to a distance is called the same, and beyond it different; the first calls nothing the same.
        right = torch.cat([torch.zeros(1, dtype=torch.float64), (ones - zeros).cumsum(0)]) + zeros.sum()
        return float(right.max() / weights.sum())


@final
class TripletAccuracy(Metric):
    """Share of triplets whose anchor is nearer to its own kind than to the other, weighted by triplet.

    >>> metric = TripletAccuracy()
    >>> outputs = (torch.zeros(2, 1), torch.tensor([[1.0], [1.0]]), torch.tensor([[2.0], [0.5]]))
    >>> metric.update(outputs, Batch(torch.zeros(2)))
    >>> metric.compute()
    0.5
    """

    def __init__(self) -> None:
        self.right = self.count = 0.0

    def update(self, outputs: Tree, batch: Batch) -> None:
        anchor, positive, negative = embeddings(outputs, ("anchor", "positive", "negative"), "triplets")
        near = (distances(anchor, positive) < distances(anchor, negative)).double()
        weights = torch.ones_like(near) if batch.weights is None else batch.weights.to(near)
        self.right += float((near * weights).sum())
        self.count += float(weights.sum())

    def compute(self) -> float:
        return self.right / self.count if self.count else math.nan
