"""L2 penalty: pull every weight towards zero in proportion to its size."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from stepwell.core.catalog import technique
from stepwell.core.updates.gradients import Gradients
from stepwell.core.updates.penalty import ApplyTo, add_penalty_, check_penalty

__all__ = ["L2Penalty", "add_l2_penalty_"]


def add_l2_penalty_(parameters: Gradients | Iterable[Tensor], *, weight: float, apply_to: ApplyTo = "all") -> Tensor:
    """Add the gradient of weight / 2 * sum p^2 to every parameter's gradient, in place; gives the penalty.

    Args:
        parameters: any iterable of parameters (those without a gradient are left out), or the step's Gradients.
        weight: strength, >= 0.
        apply_to: "matrices" leaves out tensors with fewer than 2 dimensions (biases, norm scales).

    >>> weight = torch.tensor([2.0, -3.0], requires_grad=True); weight.grad = torch.ones(2)
    >>> add_l2_penalty_([weight], weight=0.5).item(), weight.grad.tolist()
    (3.25, [2.0, -0.5])
    """

    def rule(tensors: list[Tensor], slopes: list[Tensor]) -> Tensor:
        torch._foreach_add_(slopes, tensors, alpha=weight)
        return torch.stack(torch._foreach_norm(tensors, 2.0)).square().sum() * (0.5 * weight)

    return add_penalty_(parameters, apply_to=apply_to, rule=rule)


@technique(
    id="l2_penalty",
    slot="grad",
    paper="Hoerl & Kennard 1970, Technometrics 12(1); Krogh & Hertz 1991",
    search={"weight": (1e-6, 1e-2, "log")},
)
class L2Penalty:
    """Add an L2 penalty on the weights: a pull towards zero in proportion to their size.

    What: the loss is as if weight / 2 * sum p^2 were added to it; the gradient is added once per optimizer step, however many
    micro-batches and ranks there are, and doesn't enter the reported loss.
    With the half in it the gradient is weight * p: the same number as `weight_decay` of torch's SGD and Adam. Where a
    text writes lambda * sum p^2, weight = 2 * lambda. Why: smoother functions, correlated features share their weight.
    When not: with adaptive optimizers, which rescale the pull: there AdamW's decoupled weight_decay is meant.

    Args:
        weight: strength, in loss per unit of p^2 / 2, >= 0.
        apply_to: "matrices": tensors with 2 dimensions and more, so no bias or norm scale; "all": every parameter.

    Measured: penalty, its value before the step, a device scalar.

    Raises:
        JobError: weight is negative, apply_to is neither.

    Paper: Hoerl & Kennard, "Ridge regression", Technometrics 12(1), 1970; Krogh & Hertz, "A simple weight decay can improve
    generalization", NeurIPS 1991.

    >>> weight = torch.tensor([[2.0, -3.0]], requires_grad=True); weight.grad = torch.zeros(1, 2)
    >>> L2Penalty(weight=0.5)([weight])["penalty"].item(), weight.grad.tolist()
    (3.25, [[1.0, -1.5]])
    """

    weight: float = 1e-4
    apply_to: ApplyTo = "matrices"

    def __post_init__(self) -> None:
        check_penalty("l2_penalty", weight=self.weight, apply_to=self.apply_to)

    def __call__(self, gradients: Gradients | Iterable[Tensor]) -> dict[str, Tensor]:
        return {"penalty": add_l2_penalty_(gradients, weight=self.weight, apply_to=self.apply_to)}
