"""Clip by global norm: shrink the gradient where it is longer than a limit, keeping its direction."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.updates.gradients import Gradients

__all__ = ["ClipNorm", "clip_norm_"]


def clip_norm_(parameters: Gradients | Iterable[Tensor], *, max_norm: float) -> Tensor:
    """Scale gradients in place to a global L2 norm of at most `max_norm`; gives the norm before.

    g <- g * min(1, max_norm / (|g| + 1e-6)), |g| over all tensors; the 1e-6 is torch's, so that the bits are the same.

    Args:
        parameters: any iterable of parameters (those without a gradient are left out), or the step's Gradients.
        max_norm: the limit, > 0.

    >>> weight = torch.zeros(2, requires_grad=True); weight.grad = torch.tensor([3.0, 4.0])
    >>> clip_norm_([weight], max_norm=1.0).item()
    5.0
    """
    return Gradients.of(parameters).clip_(max_norm)


_FLAGS = (torch.zeros(()), torch.ones(()))


def _exceeds(norm: Tensor, max_norm: float) -> Tensor:
    # In host memory there is nothing to wait for, and a look costs a tenth of a comparison and a conversion.
    if norm.device.type == "cpu":
        return _FLAGS[norm.item() > max_norm]
    return (norm > max_norm).to(torch.float32)


@technique(id="clip_norm", slot="grad", paper="Pascanu et al. 2013, arXiv:1211.5063", search={"max_norm": (0.1, 10.0, "log")})
class ClipNorm:
    """Shrink the whole gradient to a maximal length, keeping its direction.

    What: g <- g * min(1, max_norm / |g|), |g| over all parameters, after accumulation. Why: a rare steep batch can't
    throw the weights far away; recurrent nets and transformers need it. When not: as a cure for a rate that is too
    high: if most steps are clipped, lower the rate. Penalties listed before it are clipped with the rest.

    Args:
        max_norm: the largest L2 norm that is left alone, > 0; no unit. 1.0 is usual, inf only measures.

    Measured: grad_norm, the norm before clipping; clipped, 1 where it was above max_norm, else 0. Device scalars.

    Raises:
        JobError: max_norm is not positive.

    Paper: Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks", ICML 2013,
    arXiv:1211.5063.

    >>> weight = torch.zeros(2, requires_grad=True); weight.grad = torch.tensor([3.0, 4.0])
    >>> measured = ClipNorm(max_norm=1.0)([weight])
    >>> measured["grad_norm"].item(), measured["clipped"].item(), round(weight.grad.norm().item(), 4)
    (5.0, 1.0, 1.0)
    """

    max_norm: float = 1.0

    def __post_init__(self) -> None:
        require(
            self.max_norm > 0,
            "clip_norm.max_norm",
            self.max_norm,
            "a number above 0",
            "1.0 is usual; to train without it, leave it out",
        )

    def __call__(self, gradients: Gradients | Iterable[Tensor]) -> dict[str, Tensor]:
        norm = clip_norm_(gradients, max_norm=self.max_norm)
        return {"grad_norm": norm, "clipped": _exceeds(norm, self.max_norm)}
