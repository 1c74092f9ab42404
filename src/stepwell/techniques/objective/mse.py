"""Mean squared error for regression."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import technique
from stepwell.core.objectives.loss_shapes import aligned, num_elements, over_elements
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Objective, Terms

__all__ = ["Mse", "mse_sum"]


def mse_sum(outputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Squared error summed over all elements, a scalar.

    Args:
        outputs: (N,) or (N, D).
        targets: same shape.
        weights: of samples, (N,); None for ones.

    >>> import torch
    >>> float(mse_sum(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])))
    5.0
    """
    if weights is None:
        return F.mse_loss(outputs, targets, reduction="sum")
    return ((outputs - targets).square() * over_elements(weights, outputs)).sum()


@technique(
    id="mse",
    slot="objective",
    role="base",
    paper="Legendre 1805, Nouvelles methodes pour la determination des orbites des cometes",
    provides=("soft_targets",),
)
class Mse(Objective):
    """The mean squared error of a regression.

    What: (output - target)^2, summed; divided by the number of values, N * D. Why: the likelihood of Gaussian noise
    of one size; its best answer is the conditional mean. When not: heavy tails or outliers in the targets.

    Shapes: outputs and targets (N,) or (N, 1) for one value per sample, (N, D) for several. Nothing is broadcast.

    Raises:
        DataError: shapes that don't fit.

    Paper: Legendre, "Nouvelles méthodes pour la détermination des orbites des comètes", 1805 (least squares).

    >>> import torch
    >>> batch = Batch(torch.zeros(2, 3), torch.tensor([0.0, 4.0]))
    >>> term = Mse().terms(torch.tensor([[1.0], [2.0]]), batch)["mse"]
    >>> float(term.sum), Mse().counts(batch)
    (5.0, {'values': 2})
    """

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        pair = aligned(outputs, batch.targets, "mse")
        return {"mse": Term(mse_sum(pair.outputs, pair.targets, weights=batch.weights), "values")}

    def counts(self, batch: Batch) -> Counts:
        return {"values": num_elements(batch)}
