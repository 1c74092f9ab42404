"""Focal loss on yes-or-no targets: one score per sample, or one per label."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.objectives.binary_losses import bce_sum, labels_unit
from stepwell.core.objectives.loss_shapes import aligned, num_elements, over_elements
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Objective, Terms

__all__ = ["BinaryFocal", "binary_focal_sum"]


def binary_focal_sum(
    logits: Tensor, targets: Tensor, *, gamma: float = 2.0, alpha: float | None = None, weights: Tensor | None = None
) -> Tensor:
    """Sum of alpha * t * (1-p)^gamma * -log p + (1-alpha) * (1-t) * p^gamma * -log(1-p), p = sigmoid(logits), a scalar.

    Args:
        logits: (N,) or (N, L).
        targets: same shape, t, probabilities in [0, 1].
        gamma: >= 0; 0 without alpha has the bits of `bce_sum`.
        alpha: of the positive class, in [0, 1]; None counts both fully.
        weights: of samples, (N,); None for ones.

    >>> import torch
    >>> round(float(binary_focal_sum(torch.zeros(2), torch.tensor([0.0, 1.0]), gamma=2.0)), 4)  # 2 * (1/2)^2 * log 2
    0.3466
    """
    if gamma == 0 and alpha is None:
        return bce_sum(logits, targets, weights=weights)
    # In logarithms 1 - p keeps its digits where p is almost 1, and the power its slope.
    yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
    positive = targets * (gamma * no).exp() * yes
    negative = (1 - targets) * (gamma * yes).exp() * no
    losses = -(positive + negative) if alpha is None else -(alpha * positive + (1 - alpha) * negative)
    return (losses if weights is None else losses * over_elements(weights, losses)).sum()


@technique(
    id="binary_focal",
    slot="objective",
    role="base",
    paper="Lin et al. 2017, arXiv:1708.02002",
    provides=("soft_targets", "yes_or_no"),
    search={"gamma": (0.5, 5.0, "linear"), "alpha": (0.1, 0.9, "linear")},
)
class BinaryFocal(Objective):
    """Binary cross-entropy in which examples that are already right count less.

    What: alpha * (1-p)^gamma * -log p where the target is 1, (1-alpha) * p^gamma * -log(1-p) where it is 0; targets in
    between weigh the two. Divided by the number of samples, or of labels (N * L), not by the number of positives as
    detectors do. Why: rare positives among many easy negatives. When not: noisy labels, or probabilities that must
    match the data's shares.

    Args:
        gamma: how fast easy examples fade, no unit, >= 0. Paper: 2; 0 with alpha null is `bce`, to the bit.
        alpha: what a positive counts, in [0, 1], a negative 1 - alpha; null counts both fully. Paper: 0.25 beside
            gamma 2 (lower than the rarity of positives asks for, since easy negatives fade anyway).

    Shapes: outputs (N,) or (N, 1) for one target per sample, (N, L) for several; targets alike, integers, bools or
    probabilities in [0, 1]. Nothing is broadcast.

    Raises:
        JobError: gamma or alpha out of range.
        DataError: shapes that don't fit.

    Paper: Lin, Goyal, Girshick, He and Dollár, "Focal Loss for Dense Object Detection", ICCV 2017, arXiv:1708.02002.

    >>> import torch
    >>> batch = Batch(torch.zeros(2, 3), torch.tensor([1, 0]))
    >>> term = BinaryFocal(gamma=2.0, alpha=0.25).terms(torch.zeros(2, 1), batch)["binary_focal"]
    >>> round(float(term.sum), 4), BinaryFocal().counts(batch)  # (0.25 + 0.75) * (1/2)^2 * log 2
    (0.1733, {'samples': 2})
    """

    gamma: float = 2.0
    alpha: float | None = 0.25

    def __post_init__(self) -> None:
        expected = "a finite number of at least 0"
        require(0 <= self.gamma < math.inf, "binary_focal.gamma", self.gamma, expected, "The paper uses 2.0")
        if self.alpha is not None:
            require_between("binary_focal.alpha", self.alpha, 0, 1, "The paper uses 0.25; null counts both classes fully")

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        pair = aligned(outputs, batch.targets, "binary_focal")
        loss = binary_focal_sum(pair.outputs, pair.targets, gamma=self.gamma, alpha=self.alpha, weights=batch.weights)
        return {"binary_focal": Term(loss, labels_unit(batch.targets))}

    def counts(self, batch: Batch) -> Counts:
        return {labels_unit(batch.targets): num_elements(batch)}
