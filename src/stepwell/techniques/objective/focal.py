"""Focal loss over classes: what the model already gets right counts less."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import technique
from stepwell.core.check import require, require_one_of
from stepwell.core.errors import DataError, JobError
from stepwell.core.objectives.loss_shapes import as_scores, over_elements
from stepwell.core.objectives.soft_targets import ClassObjective, class_counts, class_targets, cross_entropy_sum, unit_of
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Terms
from stepwell.core.updates.constants import numbers_like

__all__ = ["Focal", "focal_sum"]


def focal_sum(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float = 2.0,
    alpha: Tensor | None = None,
    weights: Tensor | None = None,
    ignored: int | None = None,
) -> Tensor:
    """Sum over positions and classes of mass_k * alpha_k * (1 - p_k)^gamma * -log p_k, p = softmax(logits), a scalar.

    Args:
        logits: (N, K) or (N, T, K), classes last.
        targets: class numbers (N,) or (N, T); or mass (N, K) or (N, T, K).
        gamma: >= 0; 0 has the bits of `cross_entropy_sum`.
        alpha: of all classes, a scalar, or of each, (K,); None for ones.
        weights: of samples (N,) or of positions (N, T); None for ones.
        ignored: class number whose positions count nothing.

    Raises:
        DataError: shapes that don't fit; a class number outside 0..K-1.

    >>> round(float(focal_sum(torch.zeros(3, 4), torch.tensor([0, 1, 3]), gamma=2.0)), 4)  # 3 * (3/4)^2 * log 4
    2.3394
    """
    if gamma == 0 and alpha is None:
        return cross_entropy_sum(logits, targets, weights=weights, ignored=ignored)
    _check_shapes(logits, targets)
    log_p = F.log_softmax(logits, dim=-1)
    if targets.is_floating_point():
        mass = targets.to(log_p.dtype)
        losses = _hard(log_p, gamma) * (mass if alpha is None else mass * alpha)
        return (losses if weights is None else losses * over_elements(weights, losses)).sum()
    labels = targets.long()
    kept = None if ignored is None else labels != ignored
    labels = labels if kept is None else labels.where(kept, 0)
    try:
        picked = log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    except RuntimeError as error:
        raise DataError(
            f"a target is not one of the {logits.shape[-1]} classes",
            expected=f"class numbers from 0 to {logits.shape[-1] - 1}",
            fix="Give the model one output per class; to leave targets out, set focal's ignore_index and ignored: everywhere",
        ) from error
    losses = _hard(picked, gamma)
    if alpha is not None:
        losses = losses * (alpha if alpha.ndim == 0 else alpha[labels])
    losses = losses if kept is None else losses * kept
    return (losses if weights is None else losses * over_elements(weights, losses)).sum()


def _hard(log_p: Tensor, gamma: float) -> Tensor:
    # (1 - p)^gamma * -log p. At p = 1 the power's slope is infinite for gamma < 1, but that of the product is 0: the
    # smallest number in its place stops the first from meeting the second.
    rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
    return rest.pow(gamma) * -log_p


def _check_shapes(logits: Tensor, targets: Tensor) -> None:
    fits = logits.shape if targets.is_floating_point() else logits.shape[:-1]
    if logits.ndim < 2 or targets.shape != fits:
        raise DataError(
            f"focal got outputs {tuple(logits.shape)} and {targets.dtype} targets {tuple(targets.shape)}",
            expected="outputs (N, K) or (N, T, K), classes last, with integer targets (N,) or (N, T) or class mass shaped alike",
            fix="Give the model one output per class; for one score per label, use binary_focal",
        )


@technique(
    id="focal",
    slot="objective",
    role="base",
    paper="Lin et al. 2017, arXiv:1708.02002",
    provides=("soft_targets", "class_scores"),
    search={"gamma": (0.5, 5.0, "linear")},
)
class Focal(ClassObjective):
    """Cross-entropy in which examples that are already right count less.

    What: alpha_k * (1 - p_k)^gamma * -log p_k of the right class k, summed; divided by the number of samples (or tokens
    that are not ignored). Mixed and smoothed targets weigh the classes' terms by their mass. Why: many easy
    examples of a common class don't drown the few hard ones. When not: labels are noisy (the wrong ones are the hard
    ones), or probabilities must be calibrated: at its optimum they are not the data's shares.

    Args:
        gamma: how fast easy examples fade, no unit, >= 0. Paper: 2; 0 is cross-entropy, to the bit.
        alpha: factor of every class's term: one number, or one per class, in order, each >= 0 and not all 0. The count
            doesn't change; `class_weights` divides by the weights instead.
        ignore_index: class number of token targets that are left out of loss and count, any int.
        ignored: "tokens" leaves `ignore_index` out of sequences only, "everywhere" out of single labels too.

    Shapes: outputs (N, K) or (N, T, K), classes last; targets (N,) or (N, T) integers, or class mass shaped as the
    outputs, which need not add up to one: the count is the mass.

    Raises:
        JobError: gamma or alpha out of range; another number of alphas than classes.
        DataError: shapes that don't fit; a class number outside 0..K-1.

    Paper: Lin, Goyal, Girshick, He and Dollár, "Focal Loss for Dense Object Detection", ICCV 2017, arXiv:1708.02002.

    >>> batch = Batch(torch.zeros(2, 1), torch.tensor([0, 3]))
    >>> term = Focal(gamma=2.0).terms(torch.zeros(2, 4), batch)["focal"]
    >>> round(float(term.sum), 4), Focal().counts(batch)  # 2 * (3/4)^2 * log 4
    (1.5596, {'samples': 2})
    """

    gamma: float = 2.0
    alpha: float | list[float] | None = None
    ignore_index: int = -100
    ignored: Literal["tokens", "everywhere"] = "tokens"

    def __post_init__(self) -> None:
        require(0 <= self.gamma < math.inf, "focal.gamma", self.gamma, "a finite number of at least 0", "The paper uses 2.0")
        require_one_of("focal.ignored", self.ignored, ("tokens", "everywhere"))
        given = self.alpha
        if given is None:
            return
        several = isinstance(given, Sequence) and not isinstance(given, str)
        values = list(given) if isinstance(given, Sequence) else [given]
        good = all(isinstance(value, (int, float)) and 0 <= value < math.inf for value in values) and any(values)
        fix = "List a factor for each class in order, e.g. [0.25, 0.75], or leave alpha out"
        require(good, "focal.alpha", given, "finite numbers >= 0, not all 0: one, or one per class", fix)
        object.__setattr__(self, "alpha", values if several else given)

    def ignored_label(self, targets: Tensor) -> int | None:
        return self.ignore_index if targets.ndim > 1 or self.ignored == "everywhere" else None

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        targets, scores = class_targets(batch, "focal"), as_scores(outputs, "focal")
        if isinstance(self.alpha, list) and len(self.alpha) != scores.shape[-1]:
            raise JobError(
                f"focal.alpha holds {len(self.alpha)} numbers, but the model has {scores.shape[-1]} outputs",
                expected="one number, or one per class",
                fix="List a factor for each class in order",
            )
        alpha = None if self.alpha is None else numbers_like(self.alpha, scores)
        ignored = None if targets.is_floating_point() else self.ignored_label(targets)
        loss = focal_sum(scores, targets, gamma=self.gamma, alpha=alpha, weights=batch.weights, ignored=ignored)
        return {"focal": Term(loss, unit_of(targets))}

    def counts(self, batch: Batch) -> Counts:
        targets = class_targets(batch, "focal")
        return class_counts(batch, ignored=None if targets.is_floating_point() else self.ignored_label(targets))
