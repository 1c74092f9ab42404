"""What the losses on yes-or-no targets share: one logit per sample, per label or per pixel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from stepwell.core.objectives.loss_shapes import over_elements

__all__ = ["bce_sum", "labels_unit"]


def bce_sum(logits: Tensor, targets: Tensor, *, weights: Tensor | None = None, positive_weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy summed over all elements, a scalar.

    Args:
        logits: (N,) or (N, L).
        targets: same shape, probabilities in [0, 1].
        weights: of samples, (N,); None for ones.
        positive_weight: what the positive part of each label counts, a scalar or (L,); None for ones.

    >>> import torch
    >>> round(float(bce_sum(torch.zeros(2), torch.tensor([0.0, 1.0]))), 4)  # 2 log 2
    1.3863
    """
    each = None if weights is None else over_elements(weights, logits)
    return F.binary_cross_entropy_with_logits(logits, targets, weight=each, reduction="sum", pos_weight=positive_weight)


def labels_unit(targets: Tensor) -> str:
    """What yes-or-no targets count: "samples" for one per sample, (N,) or (N, 1), else "labels".

    >>> import torch
    >>> labels_unit(torch.zeros(4, 1)), labels_unit(torch.zeros(4, 3))
    ('samples', 'labels')
    """
    return "samples" if targets.ndim == 1 or targets.shape[1:].numel() == 1 else "labels"
