"""Adaptive gradient clipping: a unit's gradient is cut where it is long beside the unit's own weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.updates.gradients import Gradients

__all__ = ["AdaptiveClip", "adaptive_clip_"]


@torch.no_grad()
def adaptive_clip_(parameters: Gradients | Iterable[Tensor], *, clipping: float = 0.01, eps: float = 1e-3) -> Tensor:
    """Scale every unit's gradient to at most clipping * max(|w|, eps), in place; gives the share of units that were longer.

    A unit is a row of a tensor with 2 dimensions and more (the weights of one output), else the whole tensor.

    Args:
        parameters: any iterable of parameters (those without a gradient are left out), or the step's Gradients.
        clipping: longest gradient that is left alone, as a multiple of the unit's norm, > 0.
        eps: norm that smaller weights are taken to have, > 0.

    >>> weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    >>> weight.grad = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    >>> adaptive_clip_([weight], clipping=0.1).item(), weight.grad.tolist()
    (0.5, [[0.0, 0.5], [0.0, 0.0]])
    """
    gradients = Gradients.of(parameters)
    slopes = gradients.tensors
    if not slopes:
        return torch.zeros(())
    # All units of the model in one row: the arithmetic takes as many calls for a hundred layers as for one.
    lengths = torch.cat([_unit_norms(slope) for slope in slopes])
    limits = torch.cat([_unit_norms(parameter) for parameter in gradients]).clamp(min=eps) * clipping
    longer = lengths > limits
    factors = torch.where(longer, limits / lengths, torch.ones_like(lengths))
    sizes = [slope.shape[0] if slope.ndim > 1 else 1 for slope in slopes]
    shaped = [
        part.view(-1, *(1,) * (slope.ndim - 1)) if slope.ndim > 1 else part.view(())
        for part, slope in zip(torch.split(factors, sizes), slopes)
    ]
    torch._foreach_mul_(slopes, shaped)
    gradients.changed()
    return longer.float().mean()


def _unit_norms(tensor: Tensor) -> Tensor:
    """L2 norm of every unit, (units,)."""
    norms: Tensor = torch.linalg.vector_norm(tensor.flatten(1) if tensor.ndim > 1 else tensor.reshape(1, -1), dim=1)
    return norms


@technique(
    id="adaptive_clip",
    slot="grad",
    paper="Brock et al. 2021, arXiv:2102.06171",
    search={"clipping": (0.002, 0.2, "log")},
)
class AdaptiveClip:
    """Shrink a unit's gradient where it is long beside the unit's own weights.

    What: for every unit i (a row of a matrix, a filter of a convolution; a bias or norm scale is one unit)
    G_i <- G_i * min(1, clipping * max(|W_i|, eps) / |G_i|), after accumulation. Why: no single step changes a unit by
    more than a share of itself, which lets nets without batch norm train in large batches. When not: optimizers that
    normalise by themselves (LARS, LAMB) do it already. The paper leaves the last layer unclipped; here every
    parameter that trains is clipped, so a head that starts at zero moves slowly at first.

    Args:
        clipping: longest gradient that is left alone, as a multiple of the unit's norm, > 0. Paper: 0.01 at batch 4096,
            more (0.08, 0.16) for smaller batches. inf only measures.
        eps: norm that smaller weights are taken to have, > 0. Paper: 1e-3.

    Measured: grad_norm, the global L2 norm before; clipped, the share of units that were shrunk. Device scalars.

    Raises:
        JobError: clipping or eps is not positive.

    Paper: Brock, De, Smith & Simonyan, "High-Performance Large-Scale Image Recognition Without Normalization", ICML 2021,
    arXiv:2102.06171, equation 3.

    >>> weight = torch.tensor([[3.0, 4.0], [0.6, 0.8]], requires_grad=True)
    >>> weight.grad = torch.tensor([[0.0, 1.0], [0.0, 0.05]])
    >>> AdaptiveClip(clipping=0.1)([weight])["clipped"].item(), weight.grad[0].tolist()
    (0.5, [0.0, 0.5])
    """

    clipping: float = 0.01
    eps: float = 1e-3

    def __post_init__(self) -> None:
        fix = "The paper uses {} at batch 4096; to train without it, leave it out"
        require(self.clipping > 0, "adaptive_clip.clipping", self.clipping, "a number above 0", fix.format("0.01"))
        require(self.eps > 0, "adaptive_clip.eps", self.eps, "a number above 0", "The paper uses 0.001")

    def __call__(self, gradients: Gradients | Iterable[Tensor]) -> dict[str, Tensor]:
        gradients = Gradients.of(gradients)
        norm = gradients.norm()
        return {"grad_norm": norm, "clipped": adaptive_clip_(gradients, clipping=self.clipping, eps=self.eps)}
