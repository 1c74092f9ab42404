"""What penalties on the weights share: which parameters they cover, and how their gradient is added."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

from stepwell.core.check import require, require_one_of
from stepwell.core.updates.gradients import Gradients

__all__ = ["ApplyTo", "add_penalty_", "check_penalty"]

ApplyTo = Literal["matrices", "all"]


@torch.no_grad()
def add_penalty_(
    parameters: Gradients | Iterable[Tensor], *, apply_to: ApplyTo, rule: Callable[[list[Tensor], list[Tensor]], Tensor]
) -> Tensor:
    """Add the gradient of a penalty to every parameter's gradient, in place; gives the penalty, a device scalar.

    Args:
        parameters: any iterable of parameters (those without a gradient are left out), or the step's Gradients.
        apply_to: "matrices" leaves out tensors with fewer than 2 dimensions (biases, norm scales).
        rule: (weights, gradients) -> penalty; adds to the gradients in place. Not called without weights.

    >>> weight = torch.tensor([2.0], requires_grad=True); weight.grad = torch.ones(1)
    >>> add_penalty_([weight], apply_to="all", rule=lambda weights, slopes: slopes[0].add_(weights[0]).sum()).item()
    3.0
    """
    gradients = Gradients.of(parameters)
    chosen = [p for p in gradients if p.grad is not None and (apply_to == "all" or p.ndim >= 2)]
    if not chosen:
        return torch.zeros(())
    penalty = rule([p.detach() for p in chosen], [p.grad for p in chosen if p.grad is not None])
    gradients.changed()
    return penalty


def check_penalty(technique: str, *, weight: float, apply_to: ApplyTo) -> None:
    """Refuse a negative strength and an unknown `apply_to`.

    Raises:
        JobError: naming the technique's setting.
    """
    fix = "To train without the penalty, leave it out of the recipe"
    require(weight >= 0, f"{technique}.weight", weight, "a number of at least 0", fix)
    require_one_of(f"{technique}.apply_to", apply_to, ("matrices", "all"))
