"""Metrics of masks: how much of what was marked is right, counted over all pixels of an evaluation."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.errors import DataError
from stepwell.core.objectives.loss_shapes import over_elements
from stepwell.engine.metrics.base import Metric

__all__ = ["DiceScore", "MeanIou", "PixelAccuracy", "Pixels", "pixels_of"]

IGNORED = -100  # torch's convention for labels that don't count


@dataclass(frozen=True, slots=True)
class Pixels:
    """True and predicted class numbers, (N, H, W) int64, and how many classes there are."""

    true: Tensor
    predicted: Tensor
    num_classes: int


def pixels_of(outputs: Tree, targets: Tree) -> Pixels:
    """Class numbers of masks and scores.

    Args:
        outputs: one logit per pixel, (N, H, W) or (N, 1, H, W), above 0 for class 1; or one score per class,
            (N, C, H, W) or (N, H, W, C).
        targets: (N, H, W) class numbers, truth values or probabilities; (N, 1, H, W); or mass shaped as the scores.

    Raises:
        DataError: other shapes.

    >>> pixels = pixels_of(torch.tensor([[[0.5, -1.0]]]), torch.tensor([[[1, 1]]]))
    >>> pixels.predicted.tolist(), pixels.num_classes
    ([[[1, 0]]], 2)
    """
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or outputs.ndim not in (3, 4):
        raise _unlike(outputs, targets)
    single = outputs.ndim == 3 or 1 in (outputs.shape[1], outputs.shape[-1])
    if single:
        scores = outputs if outputs.ndim == 3 else outputs.squeeze(1 if outputs.shape[1] == 1 else -1)
        predicted, num_classes, axis = (scores > 0).long(), 2, 1
    else:
        hard = targets.ndim == 3
        first = outputs.shape[2:] == targets.shape[1:] if hard else True
        axis = 1 if first else outputs.ndim - 1
        predicted, num_classes = outputs.argmax(axis), outputs.shape[axis]
    true = targets
    if targets.ndim == 4:
        true = targets.squeeze(1) if targets.shape[1] == 1 else targets.argmax(axis)
    elif targets.is_floating_point():
        true = targets > 0.5
    if true.shape != predicted.shape:
        raise _unlike(outputs, targets)
    return Pixels(true.long(), predicted, num_classes)


class _Counted(Metric):
    # Counts of (true class, predicted class) over all pixels; each sample's pixels weigh as the sample does.
    def __init__(self) -> None:
        self.counts: Tensor | None = None

    def update(self, outputs: Tree, batch: Batch) -> None:
        pixels = pixels_of(outputs, batch.targets)
        size = pixels.num_classes
        kept = (pixels.true >= 0) & (pixels.true < size) & (pixels.true != IGNORED)
        each = torch.ones(kept.shape, dtype=torch.float64, device=kept.device)
        if batch.weights is not None:
            each = each * over_elements(batch.weights.double(), each)
        places = (pixels.true * size + pixels.predicted)[kept]
        counts = torch.bincount(places.cpu(), weights=each[kept].cpu(), minlength=size * size).reshape(size, size)
        self.counts = counts if self.counts is None else self.counts + counts

    def compute(self) -> float:
        return math.nan if self.counts is None or not float(self.counts.sum()) else self.of(self.counts)

    @abstractmethod
    def of(self, counts: Tensor) -> float:
        """The value of a confusion matrix, rows true classes."""


@final
class PixelAccuracy(_Counted):
    """Share of pixels whose class is right.

    >>> metric = PixelAccuracy()
    >>> metric.update(torch.tensor([[[1.0, -1.0, 1.0, 1.0]]]), Batch(torch.zeros(1), torch.tensor([[[1, 0, 0, 1]]])))
    >>> metric.compute()
    0.75
    """

    def of(self, counts: Tensor) -> float:
        return float(counts.diagonal().sum() / counts.sum())


@final
class MeanIou(_Counted):
    """Intersection over union of each class, |true and predicted| / |true or predicted|; the mean over all classes.

    A class that neither masks nor predictions have is left out of the mean.
    """

    def of(self, counts: Tensor) -> float:
        both = counts.diagonal()
        union = counts.sum(0) + counts.sum(1) - both
        return float((both / union)[union > 0].mean())


@final
class DiceScore(_Counted):
    """Dice, 2 |true and predicted| / (|true| + |predicted|): of class 1 where there are two, else the mean over classes.

    Counted over all pixels of the evaluation together, so that an empty mask weighs as little as it holds. A class that
    neither masks nor predictions have is left out.
    """

    def of(self, counts: Tensor) -> float:
        sizes = counts.sum(0) + counts.sum(1)
        scores = 2 * counts.diagonal() / sizes
        return float(scores[1]) if len(counts) == 2 else float(scores[sizes > 0].mean())


def _unlike(outputs: Tree, targets: Tree) -> DataError:
    shapes = [tuple(tree.shape) if isinstance(tree, Tensor) else type(tree).__name__ for tree in (outputs, targets)]
    return DataError(
        f"masks are measured on outputs {shapes[0]} and targets {shapes[1]}",
        expected="outputs (N, H, W), (N, C, H, W) or (N, H, W, C) with masks (N, H, W)",
        fix="Use a model that gives scores for each pixel, such as segmenter",
    )
