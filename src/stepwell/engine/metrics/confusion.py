"""Which classes are taken for which: counts over an evaluation, a few numbers however much data there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.engine.metrics.streaming import Accumulator, chosen_classes

__all__ = ["MOST_CLASSES", "Confusion", "ConfusionMatrix"]

MOST_CLASSES = 50


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix with what it was counted on.

    Args:
        part: "test" or "validation".
        classes: names, in the order of rows and columns.
        counts: K rows of K: how often the row's class was taken for the column's.
    """

    part: str
    classes: list[str]
    counts: list[list[int]]


@final
class ConfusionMatrix(Accumulator):
    """Counts of (true class, predicted class); nothing where there are more than `MOST_CLASSES` classes.

    Targets are class numbers (N,) or class probabilities (N, K) for outputs (N, K), or 0 and 1 for one logit per sample.

    >>> matrix = ConfusionMatrix()
    >>> matrix.update(torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]]), Batch(torch.zeros(3), torch.tensor([0, 1, 1])))
    >>> matrix.counts
    [[1, 0], [1, 1]]
    """

    def __init__(self) -> None:
        self._counts: Tensor | None = None

    def update(self, outputs: Tree, batch: Batch) -> None:
        pair = chosen_classes(outputs, batch.targets)
        size = pair.num_classes
        if size > MOST_CLASSES:
            return
        # Numbers beside the classes mark targets to be ignored, whichever number an objective has for that.
        kept = (pair.true >= 0) & (pair.true < size)
        counts = torch.bincount((pair.true * size + pair.predicted)[kept].cpu(), minlength=size * size).reshape(size, size)
        self._counts = counts if self._counts is None else self._counts + counts

    @property
    def counts(self) -> list[list[int]]:
        """K rows of K, empty where nothing was counted."""
        if self._counts is None:
            return []
        rows: list[list[int]] = self._counts.tolist()
        return rows
