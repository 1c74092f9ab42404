"""L1 penalty: pull every weight towards zero by the same force, so that many become (nearly) zero."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from stepwell.core.catalog import technique
from stepwell.core.updates.gradients import Gradients
from stepwell.core.updates.penalty import ApplyTo, add_penalty_, check_penalty

__all__ = ["L1Penalty", "add_l1_penalty_"]


def add_l1_penalty_(parameters: Gradients | Iterable[Tensor], *, weight: float, apply_to: ApplyTo = "all") -> Tensor:
    """Add the gradient of weight * sum |p| to every parameter's gradient, in place; gives the penalty.

    Args:
        parameters: any iterable of parameters (those without a gradient are left out), or the step's Gradients.
        weight: strength, >= 0.
        apply_to: "matrices" leaves out tensors with fewer than 2 dimensions (biases, norm scales).

    >>> weight = torch.tensor([2.0, -3.0], requires_grad=True); weight.grad = torch.ones(2)
    >>> add_l1_penalty_([weight], weight=0.5).item(), weight.grad.tolist()
    (2.5, [1.5, 0.5])
    """

    def rule(tensors: list[Tensor], slopes: list[Tensor]) -> Tensor:
        torch._foreach_add_(slopes, torch._foreach_sign(tensors), alpha=weight)
        return torch.stack(torch._foreach_norm(tensors, 1.0)).sum() * weight

    return add_penalty_(parameters, apply_to=apply_to, rule=rule)


@technique(id="l1_penalty", slot="grad", paper="Tibshirani 1996, JRSS B 58(1)", search={"weight": (1e-6, 1e-3, "log")})
class L1Penalty:
    """Add an L1 penalty on the weights: the same pull towards zero whatever their size.

    What: the loss is as if weight * sum |p| were added to it; the gradient is added once per optimizer step, however many
    micro-batches and ranks there are, and doesn't enter the reported loss.
    Why: weights that don't pay for themselves fade, which selects features. When not: plain (sub)gradient steps hover
    around zero and give few exact zeros; with adaptive optimizers the pull is rescaled like any gradient. With
    l2_penalty beside it: the elastic net.

    Args:
        weight: strength, in loss per unit of |p|, >= 0.
        apply_to: "matrices": tensors with 2 dimensions and more, so no bias or norm scale; "all": every parameter.

    Measured: penalty, its value before the step, a device scalar.

    Raises:
        JobError: weight is negative, apply_to is neither.

    Paper: Tibshirani, "Regression shrinkage and selection via the lasso", JRSS B 58(1), 1996.

    >>> weight = torch.tensor([[2.0, -3.0]], requires_grad=True); weight.grad = torch.zeros(1, 2)
    >>> L1Penalty(weight=0.5)([weight])["penalty"].item(), weight.grad.tolist()
    (2.5, [[0.5, -0.5]])
    """

    weight: float = 1e-5
    apply_to: ApplyTo = "matrices"

    def __post_init__(self) -> None:
        check_penalty("l1_penalty", weight=self.weight, apply_to=self.apply_to)

    def __call__(self, gradients: Gradients | Iterable[Tensor]) -> dict[str, Tensor]:
        return {"penalty": add_l1_penalty_(gradients, weight=self.weight, apply_to=self.apply_to)}
