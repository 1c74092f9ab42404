"""Binary cross-entropy on logits, for one yes-or-no target per sample or several labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import technique
from stepwell.core.loss_shapes import aligned, num_elements, over_elements
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Objective, Terms

__all__ = ["Bce", "bce_sum"]


def bce_sum(logits: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy summed over all elements, a scalar.

    Args:
        logits: (N,) or (N, L).
        targets: same shape, probabilities in [0, 1].
        weights: of samples, (N,); None for ones.

    >>> import torch
    >>> round(float(bce_sum(torch.zeros(2), torch.tensor([0.0, 1.0]))), 4)  # 2 log 2
    1.3863
    """
    each = None if weights is None else over_elements(weights, logits)
    return F.binary_cross_entropy_with_logits(logits, targets, weight=each, reduction="sum")


def _unit(targets: Tensor) -> str:
    return "samples" if targets.ndim == 1 or targets.shape[1:].numel() == 1 else "labels"


@technique(
    id="bce",
    slot="objective",
    role="base",
    paper="Cox 1958, doi:10.1111/j.2517-6161.1958.tb00292.x",
    provides=("soft_targets",),
)
class Bce(Objective):
    """The negative log-likelihood of yes-or-no targets under sigmoid outputs.

    What: -t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)), summed; divided by the number of samples, or of labels
    (N * L) where each sample has several. Why: binary and multilabel classification; several labels may hold at
    once. When not: exactly one of K classes holds (`cross_entropy`).

    Shapes: outputs (N,) or (N, 1) for one target per sample, (N, L) for several; targets alike, integers, bools or
    probabilities in [0, 1]. Nothing is broadcast.

    Raises:
        DataError: shapes that don't fit.

    Paper: Cox, "The regression analysis of binary sequences", J. R. Stat. Soc. B 20, 1958.

    >>> import torch
    >>> batch = Batch(torch.zeros(2, 3), torch.tensor([1, 0]))
    >>> term = Bce().terms(torch.zeros(2, 1), batch)["bce"]
    >>> round(float(term.sum), 4), Bce().counts(batch)  # 2 log 2
    (1.3863, {'samples': 2})
    """

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        pair = aligned(outputs, batch.targets, "bce")
        return {"bce": Term(bce_sum(pair.outputs, pair.targets, weights=batch.weights), _unit(batch.targets))}

    def counts(self, batch: Batch) -> Counts:
        return {_unit(batch.targets): num_elements(batch)}
