"""SGD, with momentum and Nesterov momentum by torch's rule."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.errors import JobError
from stepwell.core.updates.elementwise import ElementwiseOptimizer, Lane
from stepwell.core.updates.kernels import sgd_kernel_
from stepwell.core.updates.replicas import replicated

__all__ = ["Sgd", "SgdOptimizer", "sgd_"]


@replicated
def sgd_(
    values: list[Tensor],
    gradients: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float | Tensor,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    first: bool = False,
    skip: Tensor | None = None,
    replicas: int | None = None,
) -> None:
    """One SGD update in place, by torch's fused kernel.

    g <- g + weight_decay * w;  b <- momentum * b + (1 - dampening) g (b = g on the first step);
    w <- w - lr * (g + momentum * b if nesterov else b).

    Args:
        momentum_buffers: as long as `values`; ignored where momentum is 0.
        first: whether the buffers hold nothing yet.
        lr: a number, a scalar tensor, or a tensor of one value per replica.
        skip: fp32 scalar on the device; where it is 1, nothing changes. None always updates.
        replicas: K where tensors are stacked (K, ...), see `adam_`.

    >>> import torch
    >>> w, g, b = torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor([1.0])
    >>> sgd_([w], [g], [b], lr=0.1, momentum=0.9)
    >>> round(w.item(), 4), round(b.item(), 4)  # b = 0.9 + 0.5, w = 1 - 0.14
    (0.86, 1.4)
    """
    sgd_kernel_(
        values,
        gradients,
        momentum_buffers,
        lr=lr,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=nesterov,
        first=first,
        skip=skip,
    )


class SgdOptimizer(ElementwiseOptimizer):
    """The optimizer that the Sgd technique makes; state: step, momentum_buffer."""

    buffers = ("momentum_buffer",)

    def rule_(self, lane: Lane) -> None:
        group = lane.group
        sgd_(
            lane.values,
            lane.gradients,
            lane.state["momentum_buffer"],
            lr=group["lr"],
            momentum=group["momentum"],
            dampening=group["dampening"],
            weight_decay=group["weight_decay"],
            nesterov=group["nesterov"],
            first=lane.count == 1,
            skip=self.skip,
        )


@technique(
    id="sgd",
    slot="optimizer",
    role="base",
    paper="Sutskever et al. 2013, ICML (momentum); Robbins & Monro 1951",
    provides=("momentum", "l2_decay"),
    search={"lr": (1e-3, 1.0, "log"), "momentum": (0.0, 0.99, "linear"), "weight_decay": (1e-6, 1e-2, "log")},
)
class Sgd:
    """Stochastic gradient descent with momentum.

    What: see `sgd_`. The buffer sums gradients (torch's rule); the averaging form v = b v + (1 - b) g is
    `dampening=b`. Why: the least state, and still the best choice for many convnets with a one-cycle or step
    schedule. When not: transformers and sparse features, where adaptive methods need less tuning.

    Args:
        lr: peak learning rate, >= 0.
        momentum: in [0, 1).
        dampening: in [0, 1], share of the gradient that is left out of the buffer.
        weight_decay: >= 0, added to the gradient as L2 (coupled: it passes through the momentum).
        nesterov: look ahead; needs momentum and no dampening.

    Raises:
        JobError: a value outside its range.

    Paper: Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 1)
    >>> optimizer = Sgd(layer.parameters(), lr=0.1, momentum=0.9)
    >>> layer(torch.ones(1, 2)).sum().backward(); optimizer.step()
    """

    lr: float = 0.1
    momentum: float = 0.9
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        require(self.lr >= 0, "sgd.lr", self.lr, "a number of at least 0", "Try 0.1")
        require_between("sgd.momentum", self.momentum, 0, 1, "Try 0.9, or 0 for none", ends="[)")
        require_between("sgd.dampening", self.dampening, 0, 1, "Try 0")
        require(
            self.weight_decay >= 0, "sgd.weight_decay", self.weight_decay, "a number of at least 0", "Try 5e-4, or 0 for none"
        )
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise JobError(
                f"sgd.nesterov is on with momentum {self.momentum} and dampening {self.dampening}",
                expected="momentum above 0 and dampening 0",
                fix="Set momentum: 0.9 and dampening: 0, or leave nesterov out",
            )

    def __call__(self, groups: Any) -> Optimizer:
        defaults = {
            "lr": self.lr,
            "momentum": self.momentum,
            "dampening": self.dampening,
            "weight_decay": self.weight_decay,
            "nesterov": self.nesterov,
        }
        return SgdOptimizer(groups, defaults)
