"""Elastic net: an L1 and an L2 penalty on the weights at once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_one_of
from stepwell.core.updates.gradients import Gradients
from stepwell.core.updates.penalty import ApplyTo, add_penalty_

__all__ = ["ElasticNet", "add_elastic_net_"]


def add_elastic_net_(parameters: Gradients | Iterable[Tensor], *, l1: float, l2: float, apply_to: ApplyTo = "all") -> Tensor:
    """Add the gradient of l1 * sum |p| + l2 / 2 * sum p^2 to every parameter's gradient, in place; gives the penalty.

    Args:
        parameters: any iterable of parameters (those without a gradient are left out), or the step's Gradients.
        l1, l2: strengths, >= 0. A strength of 0 leaves every bit alone.
        apply_to: "matrices" leaves out tensors with fewer than 2 dimensions (biases, norm scales).

    >>> weight = torch.tensor([2.0, -3.0], requires_grad=True); weight.grad = torch.ones(2)
    >>> add_elastic_net_([weight], l1=0.5, l2=2.0).item(), weight.grad.tolist()  # 0.5 * 5 + 1 * 13
    (15.5, [5.5, -5.5])
    """

    def rule(tensors: list[Tensor], slopes: list[Tensor]) -> Tensor:
        penalty = torch.zeros((), dtype=tensors[0].dtype, device=tensors[0].device)
        if l1:
            torch._foreach_add_(slopes, torch._foreach_sign(tensors), alpha=l1)
            penalty = penalty + torch.stack(torch._foreach_norm(tensors, 1.0)).sum() * l1
        if l2:
            torch._foreach_add_(slopes, tensors, alpha=l2)
            penalty = penalty + torch.stack(torch._foreach_norm(tensors, 2.0)).square().sum() * (0.5 * l2)
        return penalty

    return add_penalty_(parameters, apply_to=apply_to, rule=rule)


@technique(
    id="elastic_net",
    slot="grad",
    paper="Zou & Hastie 2005, doi:10.1111/j.1467-9868.2005.00503.x",
    search={"l1": (1e-6, 1e-3, "log"), "l2": (1e-6, 1e-2, "log")},
)
class ElasticNet:
    """Add an L1 and an L2 penalty on the weights: few of them stay, and correlated ones stay together.

    What: the loss is as if l1 * sum |p| + l2 / 2 * sum p^2 were added to it; the gradient is added once per optimizer
    step, however many micro-batches and ranks there are, and doesn't enter the reported loss. It is what `l1_penalty`
    and `l2_penalty` do together. With the half, l2 is the same number as torch's `weight_decay`; where a text writes
    lambda * sum p^2, l2 = 2 * lambda (the default is the usual lambda of 1e-4).
    Why: L1 alone keeps one of several correlated features at random. When not: with adaptive optimizers, which rescale
    both pulls: there AdamW's decoupled weight_decay is meant.

    Args:
        l1: strength, in loss per unit of |p|, >= 0.
        l2: strength, in loss per unit of p^2 / 2, >= 0.
        apply_to: "matrices": tensors with 2 dimensions and more, so no bias or norm scale; "all": every parameter.

    Measured: penalty, its value before the step, a device scalar.

    Raises:
        JobError: l1 or l2 is negative, apply_to is neither.

    Paper: Zou & Hastie, "Regularization and variable selection via the elastic net", JRSS B 67(2), 2005.

    >>> weight = torch.tensor([[2.0, -3.0]], requires_grad=True); weight.grad = torch.zeros(1, 2)
    >>> ElasticNet(l1=0.5, l2=2.0)([weight])["penalty"].item(), weight.grad.tolist()
    (15.5, [[4.5, -6.5]])
    """

    l1: float = 1e-5
    l2: float = 2e-4
    apply_to: ApplyTo = "matrices"

    def __post_init__(self) -> None:
        fix = "To train without the penalty, leave it out of the recipe"
        require(self.l1 >= 0, "elastic_net.l1", self.l1, "a number of at least 0", fix)
        require(self.l2 >= 0, "elastic_net.l2", self.l2, "a number of at least 0", fix)
        require_one_of("elastic_net.apply_to", self.apply_to, ("matrices", "all"))

    def __call__(self, gradients: Gradients | Iterable[Tensor]) -> dict[str, Tensor]:
        return {"penalty": add_elastic_net_(gradients, l1=self.l1, l2=self.l2, apply_to=self.apply_to)}
