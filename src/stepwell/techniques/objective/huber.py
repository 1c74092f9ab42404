"""Huber's loss: squared for small errors, absolute for large ones."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.objectives.loss_shapes import aligned, num_elements, over_elements
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Objective, Terms

__all__ = ["Huber", "huber_sum"]


def huber_sum(outputs: Tensor, targets: Tensor, *, delta: float = 1.0, weights: Tensor | None = None) -> Tensor:
    """Huber's loss summed over all elements, a scalar: r^2 / 2 where |r| < delta, else delta * (|r| - delta / 2).

    Args:
        outputs: (N,) or (N, D).
        targets: same shape.
        delta: where the one becomes the other, > 0, in the targets' unit.
        weights: of samples, (N,); None for ones.

    >>> import torch
    >>> float(huber_sum(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 5.0])))  # 1 / 2 + (3 - 1 / 2)
    3.0
    """
    if weights is None:
        return F.huber_loss(outputs, targets, reduction="sum", delta=delta)
    return (F.huber_loss(outputs, targets, reduction="none", delta=delta) * over_elements(weights, outputs)).sum()


@technique(
    id="huber",
    slot="objective",
    role="base",
    paper="Huber 1964, doi:10.1214/aoms/1177703732",
    provides=("soft_targets",),
    search={"delta": (0.1, 10.0, "log")},
)
class Huber(Objective):
    """Squared error for small errors, absolute error for large ones.

    What: r^2 / 2 where |r| < delta, else delta * (|r| - delta / 2), for r = output - target, summed; divided by the
    number of values, N * D. Why: outliers pull no harder than delta, and near the target the pull fades as with `mse`.
    When not: the noise is Gaussian (`mse`), or the conditional median is what is asked for (`mae`).

    Args:
        delta: the error from which on it is absolute, > 0, in the targets' unit: of standardised targets 1.0 is one
            standard deviation. Huber's 95 % efficiency under Gaussian noise is at 1.345 standard deviations of the noise.

    Shapes: outputs and targets (N,) or (N, 1) for one value per sample, (N, D) for several. Nothing is broadcast.

    Raises:
        JobError: delta is not a positive finite number.
        DataError: shapes that don't fit.

    Paper: Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964.

    >>> import torch
    >>> batch = Batch(torch.zeros(2, 3), torch.tensor([0.0, 5.0]))
    >>> term = Huber(delta=1.0).terms(torch.tensor([[1.0], [2.0]]), batch)["huber"]
    >>> float(term.sum), Huber().counts(batch)
    (3.0, {'values': 2})
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        fix = "1.0 suits standardised targets; for squared or absolute errors alone, use mse or mae"
        require(0 < self.delta < math.inf, "huber.delta", self.delta, "a finite number above 0", fix)

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        pair = aligned(outputs, batch.targets, "huber")
        loss = huber_sum(pair.outputs, pair.targets, delta=self.delta, weights=batch.weights)
        return {"huber": Term(loss, "values")}

    def counts(self, batch: Batch) -> Counts:
        return {"values": num_elements(batch)}
