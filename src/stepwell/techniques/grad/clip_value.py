"""Clip by value: no single number of the gradient exceeds a limit."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.updates.gradients import Gradients

__all__ = ["ClipValue", "clip_value_"]


@torch.no_grad()
def clip_value_(parameters: Gradients | Iterable[Tensor], *, max_value: float) -> Tensor:
    """Cut every number of the gradients to [-max_value, max_value], in place; gives the share that was outside.

    Args:
        parameters: any iterable of parameters (those without a gradient are left out), or the step's Gradients.
        max_value: the limit, > 0.

    >>> weight = torch.zeros(4, requires_grad=True); weight.grad = torch.tensor([3.0, -0.1, -4.0, 0.5])
    >>> clip_value_([weight], max_value=0.5).item(), weight.grad.tolist()
    (0.5, [0.5, -0.10000000149011612, -0.5, 0.5])
    """
    gradients = Gradients.of(parameters)
    spans = gradients.spans
    if not spans:
        return torch.zeros(())
    outside = torch.stack([torch.count_nonzero(span.abs() > max_value) for span in spans]).sum()
    torch._foreach_clamp_min_(spans, -max_value)
    torch._foreach_clamp_max_(spans, max_value)
    gradients.changed()
    return outside / sum(span.numel() for span in spans)


@technique(
    id="clip_value",
    slot="grad",
    paper="Mikolov 2012 (thesis, Brno University of Technology)",
    search={"max_value": (0.01, 5.0, "log")},
)
class ClipValue:
    """Cut every single number of the gradient to a limit.

    What: g_i <- min(max(g_i, -max_value), max_value), after accumulation. Why: a few exploding entries don't carry the
    others with them. When not: nearly always `clip_norm` is better, since cutting single numbers turns the
    direction of the step.

    Args:
        max_value: the largest size that is left alone, > 0; in the loss's unit per unit of weight. inf only measures.

    Measured: grad_norm, the L2 norm before; clipped, the share of numbers that were outside, in [0, 1]. Device scalars.

    Raises:
        JobError: max_value is not positive.

    Paper: Mikolov, "Statistical Language Models based on Neural Networks", PhD thesis, Brno 2012; compared with the norm in
    Pascanu et al. 2013, arXiv:1211.5063.

    >>> weight = torch.zeros(2, requires_grad=True); weight.grad = torch.tensor([3.0, -0.25])
    >>> measured = ClipValue(max_value=0.5)([weight])
    >>> weight.grad.tolist(), measured["clipped"].item()
    ([0.5, -0.25], 0.5)
    """

    max_value: float = 0.5

    def __post_init__(self) -> None:
        fix = "0.5 is usual; to train without it, leave it out"
        require(self.max_value > 0, "clip_value.max_value", self.max_value, "a number above 0", fix)

    def __call__(self, gradients: Gradients | Iterable[Tensor]) -> dict[str, Tensor]:
        gradients = Gradients.of(gradients)
        norm = gradients.norm()
        return {"grad_norm": norm, "clipped": clip_value_(gradients, max_value=self.max_value)}
