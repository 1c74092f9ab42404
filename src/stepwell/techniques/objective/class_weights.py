"""Class weights: errors on some classes count more, and the mean is taken over the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.errors import JobError
from stepwell.core.facts import DataFacts
from stepwell.core.objectives.loss_shapes import as_scores
from stepwell.core.objectives.soft_targets import Modifier, class_targets, class_weights_at, soft_targets, wide_dtype
from stepwell.core.slots import Counts, Objective, Terms

__all__ = ["ClassWeights", "balanced_weights"]


def balanced_weights(num_samples: Sequence[int]) -> list[float]:
    """N / (K * n_k) for each class: every class present weighs the same in all.

    Args:
        num_samples: n_k, training samples of each class; a class without any gets weight 0 and isn't counted in K.

    >>> balanced_weights([1, 3])
    [2.0, 0.6666666666666666]
    """
    present = sum(count > 0 for count in num_samples)
    total = sum(num_samples)
    return [total / (present * count) if count else 0.0 for count in num_samples]


class _Weighted(Modifier):
    """Class numbers become weights of positions; mass is multiplied class by class. Both give the same loss."""

    def __init__(self, inner: Objective, weights: list[float]) -> None:
        super().__init__(inner)
        self.weights = weights
        self._tables: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    @property
    def num_classes(self) -> int:
        return len(self.weights)

    def _weigh(self, batch: Batch, dtype: torch.dtype) -> Batch:
        targets = class_targets(batch, "class_weights")
        table = self._tables.get((targets.device, dtype))
        if table is None:
            table = self._tables[targets.device, dtype] = torch.tensor(self.weights, dtype=dtype, device=targets.device)
        if targets.is_floating_point():
            return replace(batch, targets=soft_targets(targets, self.num_classes) * table)
        weights = class_weights_at(targets, table)
        if batch.weights is not None:
            weights = weights * batch.weights.reshape(batch.weights.shape + (1,) * (targets.ndim - batch.weights.ndim))
        return replace(batch, weights=weights)

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        scores = as_scores(outputs, "class_weights")
        if scores.shape[-1] != self.num_classes:
            raise JobError(
                f"class_weights.weights holds {self.num_classes} weights, but the model has {scores.shape[-1]} outputs",
                expected="one weight per class",
                fix='List a weight for each class in order, or write weights: "balanced"',
            )
        return self.inner.terms(outputs, self._weigh(batch, scores.dtype))

    def counts(self, batch: Batch) -> Counts:
        return self.inner.counts(self._weigh(batch, wide_dtype(class_targets(batch, "class_weights").device)))


@technique(
    id="class_weights",
    slot="objective",
    role="modifier",
    paper="King and Zeng 2001, doi:10.1093/oxfordjournals.pan.a004868",
    needs=("class_scores",),
)
class ClassWeights:
    """Weigh each class in the loss, and divide by the sum of the weights over the step.

    What: loss = sum of p_k * w_k * -log softmax_k over sum of p_k * w_k, both over the whole step, for any target
    mass p: integer labels (torch's weighted mean), mixed and smoothed ones. Why: rare classes that matter. When not:
    probabilities must stay calibrated to the data's own shares (weights shift them).

    Listed after `label_smoothing`, each sample keeps the weight of its own label; listed before, the spread mass is
    weighted class by class. Listed after `distillation`, it weighs the teacher's term too.

    Args:
        weights: one number >= 0 per class, in order, not all 0; or "balanced": N / (K * n_k) from the training
            labels, filled in by a job.

    Shapes: outputs (N, K) or (N, T, K); targets class numbers or mass, as in `cross_entropy`.

    Raises:
        JobError: a negative or non-finite weight, fewer than two, all zero; "balanced" that no job filled in.

    Paper: King and Zeng, "Logistic Regression in Rare Events Data", Political Analysis 9, 2001.

    >>> ClassWeights(weights=balanced_weights([1, 3])).weights
    [2.0, 0.6666666666666666]
    """

    weights: list[float] | Literal["balanced"] = "balanced"

    def __post_init__(self) -> None:
        if self.weights == "balanced":
            return
        fix = 'List a weight for each class in order, e.g. [1.0, 3.0], or write weights: "balanced"'
        expected = 'two or more finite numbers >= 0, not all 0, or "balanced"'
        require(not isinstance(self.weights, str), "class_weights.weights", self.weights, expected, fix)
        try:
            weights = [float(weight) for weight in self.weights]
        except (TypeError, ValueError):
            weights = []
        good = len(weights) >= 2 and all(math.isfinite(weight) and weight >= 0 for weight in weights) and sum(weights) > 0
        require(good, "class_weights.weights", self.weights, expected, fix)
        object.__setattr__(self, "weights", weights)

    def completed(self, facts: DataFacts) -> dict[str, tuple[Any, str]]:
        """Balanced weights, from the classes of the training targets."""
        if self.weights != "balanced":
            return {}
        if facts.class_counts is None:
            raise JobError(
                'class_weights.weights is "balanced" but the targets are not class numbers',
                expected="a task with classes",
                fix="List the weights, or leave class_weights out",
            )
        return {"weights": (balanced_weights(facts.class_counts), "samples / (classes * samples of the class)")}

    def __call__(self, objective: Objective) -> Objective:
        if isinstance(self.weights, str):
            raise JobError(
                'class_weights.weights is "balanced" but the training labels are not known here',
                expected="one weight per class",
                fix="Outside a job, write weights=balanced_weights(labels.bincount().tolist())",
            )
        return _Weighted(objective, self.weights)
