"""Streaming metrics: sums and counts over an evaluation, so that nothing is hoarded that needn't be."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.direction import Direction, known_direction
from stepwell.core.errors import JobError, nearest


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
    multilabel logits, and every label counts.
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
        self.right += float((hits & kept).sum())
        self.count += float(kept.sum())

    def compute(self) -> float:
        return self.right / self.count if self.count else math.nan


class _Errors(Metric):
    """Sums of errors in the targets' original units."""

    def __init__(self, *, scale: float = 1.0) -> None:
        self.scale = scale
        self.count = self.absolute = self.squared = self.first = self.second = 0.0

    def update(self, outputs: Tree, batch: Batch) -> None:
        targets = batch.targets.double()
        errors = outputs.double().reshape(targets.shape) - targets
        self.count += errors.numel()
        self.absolute += float(errors.abs().sum())
        self.squared += float((errors * errors).sum())
        self.first += float(targets.sum())
        self.second += float((targets * targets).sum())

    @abstractmethod
    def compute(self) -> float: ...


class Mae(_Errors):
    """Mean absolute error."""

    def compute(self) -> float:
        return self.absolute / self.count * self.scale


class Rmse(_Errors):
    """Root of the mean squared error."""

    def compute(self) -> float:
        return math.sqrt(self.squared / self.count) * self.scale


class R2(_Errors):
    """1 - squared error / squared error of the evaluated part's own mean; below 0 is worse than that mean."""

    def compute(self) -> float:
        spread = self.second - self.first * self.first / self.count
        return 1 - self.squared / spread if spread > 0 else math.nan


class Auc(Metric):
    """Area under the ROC curve of a binary task, exact (every score is kept: one number a sample)."""

    def __init__(self) -> None:
        self.scores: list[Tensor] = []
        self.targets: list[Tensor] = []

    def update(self, outputs: Tree, batch: Batch) -> None:
        scores = outputs[:, 1] - outputs[:, 0] if outputs.dim() == 2 and outputs.shape[1] == 2 else outputs.reshape(-1)
        self.scores.append(scores.detach().cpu())
        self.targets.append(batch.targets.reshape(-1).cpu())

    def compute(self) -> float:
        from torchmetrics.functional.classification import binary_auroc

        targets = torch.cat(self.targets).long()
        if targets.min() == targets.max():
            return math.nan
        return float(binary_auroc(torch.cat(self.scores).double(), targets))


METRICS: dict[str, type[Metric]] = {"accuracy": Accuracy, "auc": Auc, "mae": Mae, "rmse": Rmse, "r2": R2}


def make_metrics(names: tuple[str, ...], *, target_scale: float = 1.0) -> dict[str, Metric]:
    """Fresh metrics by name.

    Raises:
        JobError: an unknown name.
    """
    made: dict[str, Metric] = {}
    for name in names:
        if name not in METRICS:
            raise JobError(f"unknown metric {name!r}", expected="the name of a metric", fix=nearest(name, METRICS))
        settings: dict[str, Any] = {"scale": target_scale} if name in ("mae", "rmse") else {}
        made[name] = METRICS[name](**settings)
    return made


def metric_mode(name: str) -> Direction:
    """Whether a metric is better when "max" or "min"; "min" for a custom metric whose name doesn't tell.

    >>> metric_mode("auc"), metric_mode("perplexity"), metric_mode("my_score")
    ('max', 'min', 'min')
    """
    return known_direction(name) or "min"
