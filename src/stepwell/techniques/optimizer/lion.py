"""Lion: the sign of an interpolated momentum, with one buffer of state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.updates.elementwise import ElementwiseOptimizer, Lane
from stepwell.core.updates.kernels import sgd_kernel_
from stepwell.core.updates.pieces import PIECE, lerp_into_, pieces
from stepwell.core.updates.replicas import replicated

__all__ = ["Lion", "LionOptimizer", "lion_"]


@replicated
def lion_(
    values: list[Tensor],
    gradients: list[Tensor],
    exp_avgs: list[Tensor],
    *,
    lr: float | Tensor,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    skip: Tensor | None = None,
    replicas: int | None = None,
    scratch: Tensor | None = None,
) -> None:
    """One Lion update in place, piece by piece.

    c = b1 m + (1 - b1) g;  w <- w - lr * (sign(c) + weight_decay * w);  m <- b2 m + (1 - b2) g.

    Args:
        exp_avgs: m.
        lr: a number, a scalar tensor, or a tensor of one value per replica.
        skip: fp32 scalar on the device; where it is 1, nothing changes. None always updates.
        replicas: K where tensors are stacked (K, ...) and each replica must get the bits of its own single run.
        scratch: memory for temporary values, PIECE at most; None takes new memory.

    >>> w, g, m = (torch.tensor([x]) for x in (1.0, -4.0, 0.5))
    >>> lion_([w], [g], [m], lr=0.1, weight_decay=0.1)
    >>> round(w.item(), 4), round(m.item(), 4)  # c = 0.45 - 0.4 > 0: 1 - 0.1 * (1 + 0.1); 0.495 - 0.04
    (0.89, 0.455)
    """
    for piece in pieces([values, gradients, exp_avgs], num_scratch=1, scratch=scratch):
        (w, g, m), (direction,) = piece.tensors, piece.scratch
        lerp_into_(direction, g, m, betas[0])
        torch._foreach_sign_(direction)
        sgd_kernel_(w, direction, lr=lr, weight_decay=weight_decay, skip=skip)
        # m + (1 - b2) (g - m) as descent at a negative rate with a decay of -1: torch's kernel knows `skip`, lerp doesn't.
        sgd_kernel_(m, g, lr=betas[1] - 1.0, weight_decay=-1.0, skip=skip)


class LionOptimizer(ElementwiseOptimizer):
    """The optimizer that the Lion technique makes; state: step, exp_avg."""

    buffers = ("exp_avg",)

    def rule_(self, lane: Lane) -> None:
        group = lane.group
        lion_(
            lane.values,
            lane.gradients,
            lane.state["exp_avg"],
            lr=group["lr"],
            betas=group["betas"],
            weight_decay=group["weight_decay"],
            skip=self.skip,
            scratch=self.scratch(lane.values[0], PIECE),
        )


@technique(
    id="lion",
    slot="optimizer",
    role="base",
    paper="Chen et al. 2023, arXiv:2302.06675",
    provides=("momentum", "decoupled_decay"),
    search={"lr": (1e-5, 1e-3, "log"), "weight_decay": (1e-3, 1.0, "log")},
)
class Lion:
    """The sign of an interpolation between momentum and gradient; half of AdamW's state.

    What: see `lion_`. Every weight moves by lr in every step, whatever the size of its gradient. The decay shrinks a
    weight by lr * weight_decay per step, as in adamw. Why: one buffer instead of two where memory is short, and on par
    with adamw on many large models. When not: small batches (the paper gains from 64 upwards, most at large ones), and
    with adamw's settings: the rate should be 3 to 10 times smaller and the decay 3 to 10 times larger.

    Args:
        lr: peak learning rate, >= 0.
        betas: weight of the momentum in the direction, and decay of the momentum, each in [0, 1). The paper takes
            (0.95, 0.98) where training is unstable.
        weight_decay: >= 0, multiplied by the learning rate.

    Raises:
        JobError: a value outside its range.

    Paper: Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023, arXiv:2302.06675.

    >>> layer = torch.nn.Linear(2, 1)
    >>> optimizer = Lion(layer.parameters(), lr=1e-4)
    >>> layer(torch.ones(1, 2)).sum().backward(); optimizer.step()
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        require(self.lr >= 0, "lion.lr", self.lr, "a number of at least 0", "Try 1e-4, a third to a tenth of adamw's")
        for beta in self.betas:
            require_between("lion.betas", beta, 0, 1, "Try [0.9, 0.99]", ends="[)")
        require(
            self.weight_decay >= 0, "lion.weight_decay", self.weight_decay, "a number of at least 0", "Try 0.1, or 0 for none"
        )

    def __call__(self, groups: Any) -> Optimizer:
        return LionOptimizer(groups, {"lr": self.lr, "betas": tuple(self.betas), "weight_decay": self.weight_decay})
