"""Mean absolute error for regression with outliers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import technique
from stepwell.core.objectives.loss_shapes import aligned, num_elements, over_elements
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Objective, Terms

__all__ = ["Mae", "mae_sum"]


def mae_sum(outputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Absolute error summed over all elements, a scalar.

    Args:
        outputs: (N,) or (N, D).
        targets: same shape.
        weights: of samples, (N,); None for ones.

    >>> import torch
    >>> float(mae_sum(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])))
    3.0
    """
    if weights is None:
        return F.l1_loss(outputs, targets, reduction="sum")
    return ((outputs - targets).abs() * over_elements(weights, outputs)).sum()


@technique(
    id="mae",
    slot="objective",
    role="base",
    paper="Boscovich 1757; Koenker and Bassett 1978, doi:10.2307/1913643",
    provides=("soft_targets",),
)
class Mae(Objective):
    """The mean absolute error of a regression.

    What: |output - target|, summed; divided by the number of values, N * D. Why: one outlier pulls no harder than any
    other sample; its best answer is the conditional median. When not: the mean is wanted (`mse`), or the last digits
    count: the pull doesn't fade near the target, so plain steps hover around it (`huber`).

    Shapes: outputs and targets (N,) or (N, 1) for one value per sample, (N, D) for several. Nothing is broadcast.

    Raises:
        DataError: shapes that don't fit.

    Paper: Koenker and Bassett, "Regression Quantiles", Econometrica 46, 1978 (the median is their quantile 1/2).

    >>> import torch
    >>> batch = Batch(torch.zeros(2, 3), torch.tensor([0.0, 4.0]))
    >>> term = Mae().terms(torch.tensor([[1.0], [2.0]]), batch)["mae"]
    >>> float(term.sum), Mae().counts(batch)
    (3.0, {'values': 2})
    """

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        pair = aligned(outputs, batch.targets, "mae")
        return {"mae": Term(mae_sum(pair.outputs, pair.targets, weights=batch.weights), "values")}

    def counts(self, batch: Batch) -> Counts:
        return {"values": num_elements(batch)}
