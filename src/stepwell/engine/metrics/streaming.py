"""Streaming metrics: sums and counts over an evaluation, so that nothing is hoarded that needn't be."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.direction import Direction, known_direction
from stepwell.core.errors import JobError, nearest
from stepwell.core.objectives.loss_shapes import over_elements
from stepwell.engine.metrics.base import Accumulator, Metric, OfTask, area_under_curve
from stepwell.engine.metrics.masks import DiceScore, MeanIou, PixelAccuracy
from stepwell.engine.metrics.pairs import PairAccuracy, PairAuc, TripletAccuracy

__all__ = ["METRICS", "Accumulator", "Metric", "chosen_classes", "make_metrics", "metric_mode"]


@dataclass(frozen=True, slots=True)
class ChosenClasses:
    """True and predicted class numbers, int64 tensors of one shape."""

    true: Tensor
    predicted: Tensor
    num_classes: int


def chosen_classes(outputs: Tensor, targets: Tensor) -> ChosenClasses:
    """Class numbers of scores and targets, classes last; one score per target is a logit, above 0 for class 1.

    >>> pair = chosen_classes(torch.tensor([[0.5], [-1.0]]), torch.tensor([1.0, 1.0]))
    >>> pair.true.tolist(), pair.predicted.tolist(), pair.num_classes
    ([1, 1], [1, 0], 2)
    """
    if outputs.dim() < 2 or outputs.shape[-1] == 1:
        return ChosenClasses((targets.reshape(-1) > 0.5).long(), (outputs.reshape(-1) > 0).long(), 2)
    true = targets.argmax(-1) if targets.shape == outputs.shape else targets.long()
    return ChosenClasses(true, outputs.argmax(-1), outputs.shape[-1])


class Accuracy(Metric):
    """Share of samples (or tokens that are not ignored) whose largest score is the target's class; classes last.

    A single score per sample is a binary logit: above 0 means class 1. Scores as wide as the targets are
    multilabel logits, and every label counts. A sample counts as much as its weight.
    """

    def __init__(self, *, ignore_index: int = -100) -> None:
        self.ignore_index, self.right, self.count = ignore_index, 0.0, 0.0

    def update(self, outputs: Tree, batch: Batch) -> None:
        targets: Tensor = batch.targets
        if outputs.numel() == targets.numel():
            hits = (outputs.reshape(targets.shape) > 0) == (targets > 0.5)
            kept = torch.ones_like(hits)
        else:
            pair = chosen_classes(outputs, targets)
            hits, kept = pair.true == pair.predicted, pair.true != self.ignore_index
        if batch.weights is None:
            self.right += float((hits & kept).sum())
            self.count += float(kept.sum())
        else:
            each = over_elements(batch.weights.double(), kept.double()) * kept
            self.right += float((each * hits).sum())
            self.count += float(each.sum())

    def compute(self) -> float:
        return self.right / self.count if self.count else math.nan


class _Errors(Metric):
    """Sums of errors in the targets' original units, column by column where a sample has several targets.

    A sample counts as much as its weight; several columns are averaged at the end, each as much as the others.

    Args:
        scale: what a unit of the targets is worth, a number or one per column.
    """

    def __init__(self, *, scale: float | Sequence[float] = 1.0) -> None:
        self.scale = torch.tensor(scale, dtype=torch.float64)
        # Rows: weights, absolute errors, squared errors, targets, squared targets.
        self.sums = torch.zeros(5, 1, dtype=torch.float64)

    def update(self, outputs: Tree, batch: Batch) -> None:
        targets = batch.targets.double()
        errors = outputs.double().reshape(targets.shape) - targets
        each = torch.ones_like(targets) if batch.weights is None else over_elements(batch.weights.double(), targets)
        parts = (each.expand_as(targets), each * errors.abs(), each * errors * errors, each * targets, each * targets * targets)
        columns = targets.shape[1] if targets.ndim == 2 else 1
        self.sums = self.sums + torch.stack([part.reshape(-1, columns).sum(0) for part in parts]).cpu()

    @abstractmethod
    def compute(self) -> float: ...


class Mae(_Errors):
    """Mean absolute error."""

    def compute(self) -> float:
        return float((self.sums[1] / self.sums[0] * self.scale).mean())


class Rmse(_Errors):
    """Root of the mean squared error, in units of the targets; of several columns the root of their mean."""

    def compute(self) -> float:
        return math.sqrt(float((self.sums[2] / self.sums[0] * self.scale.square()).mean()))


class R2(_Errors):
    """1 - squared error / squared error of the evaluated part's own mean; below 0 is worse than that mean."""

    def compute(self) -> float:
        count, _, squared, first, second = self.sums
        spread = second - first * first / count
        return float(torch.where(spread > 0, 1 - squared / spread, math.nan).mean())


class Auc(Metric):
    """Area under the ROC curve of a binary task, exact (every score is kept: one number a sample), weighted by sample."""

    def __init__(self) -> None:
        self.scores: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.weights: list[Tensor] = []

    def update(self, outputs: Tree, batch: Batch) -> None:
        scores = outputs[:, 1] - outputs[:, 0] if outputs.dim() == 2 and outputs.shape[1] == 2 else outputs.reshape(-1)
        self.take(scores, batch)

    def take(self, scores: Tensor, batch: Batch) -> None:
        """Take in scores (N,): higher for class 1."""
        self.scores.append(scores.detach().double().cpu())
        self.targets.append(batch.targets.reshape(-1).cpu())
        if batch.weights is not None:
            self.weights.append(batch.weights.double().cpu())

    def compute(self) -> float:
        targets = torch.cat(self.targets).long()
        if targets.min() == targets.max():
            return math.nan
        return area_under_curve(torch.cat(self.scores), targets, torch.cat(self.weights) if self.weights else None)


METRICS: dict[str, type[Metric]] = {
    "accuracy": Accuracy,
    "auc": Auc,
    "mae": Mae,
    "rmse": Rmse,
    "r2": R2,
    "pixel_accuracy": PixelAccuracy,
    "mean_iou": MeanIou,
    "dice": DiceScore,
    "pair_accuracy": PairAccuracy,
    "pair_auc": PairAuc,
    "triplet_accuracy": TripletAccuracy,
}


def make_metrics(names: tuple[str, ...], *, target_scale: Any = 1.0) -> dict[str, Metric]:
    """Fresh metrics by name.

    Args:
        names: "accuracy"; "TASK.accuracy" is measured on that entry of outputs and targets that are dicts.
        target_scale: what a unit of the targets is worth: a number, one per column, or {task: number}.

    Raises:
        JobError: an unknown name.
    """
    made: dict[str, Metric] = {}
    for name in names:
        task, _, own = name.rpartition(".")
        if own not in METRICS:
            raise JobError(f"unknown metric {name!r}", expected="the name of a metric", fix=nearest(own, METRICS))
        scale = target_scale.get(task, 1.0) if isinstance(target_scale, Mapping) else target_scale
        settings: dict[str, Any] = {"scale": scale} if own in ("mae", "rmse") else {}
        metric = METRICS[own](**settings)
        made[name] = OfTask(task, metric) if task else metric
    return made


def metric_mode(name: str) -> Direction:
    """Whether a metric is better when "max" or "min"; "min" for a custom metric whose name doesn't tell.

    >>> metric_mode("auc"), metric_mode("perplexity"), metric_mode("my_score")
    ('max', 'min', 'min')
    """
    return known_direction(name) or "min"
