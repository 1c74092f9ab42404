"""LARS: momentum SGD whose rate is scaled, layer by layer, to the size of the weights."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between, require_one_of
from stepwell.core.updates.elementwise import ElementwiseOptimizer, Lane
from stepwell.core.updates.kernels import sgd_kernel_
from stepwell.core.updates.replicas import replicated
from stepwell.core.updates.trust import Adapt, adapts, mark_exempt, norm, norms_of, picked, ratio_or_one

__all__ = ["Lars", "LarsOptimizer", "lars_"]


@replicated
def lars_(
    values: list[Tensor],
    gradients: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float | Tensor,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    trust_coefficient: float = 1e-3,
    adapt: Adapt = "matrices",
    skip: Tensor | None = None,
    replicas: int | None = None,
) -> None:
    """One LARS update in place, tensor by tensor.

    trust = trust_coefficient * |w| / (|g| + weight_decay * |w|), or 1 where |w| or |g| is 0 or the tensor is left out;
    b <- momentum * b + lr * trust * (g + weight_decay * w);  w <- w - b.

    The rate is inside the buffer, as in the paper's algorithm 1; torch's momentum has it outside, which is the same
    only while rate and trust are constant.

    Args:
        momentum_buffers: b, as long as `values`; ignored where momentum is 0.
        lr: a number, a scalar tensor, or a tensor of one value per replica.
        adapt: which tensors have a ratio: those of two dimensions or more, all, or none.
        skip: fp32 scalar on the device; where it is 1, nothing changes. None always updates.
        replicas: K where tensors are stacked (K, ...): norms are then taken per replica, which gives the bits of K runs.

    >>> w, g, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2)
    >>> lars_([w], [g], [b], lr=1.0, trust_coefficient=0.1)  # trust = 0.1 * 5 / 2
    >>> b.tolist(), w.tolist()
    ([[0.0, 0.5]], [[3.0, 3.5]])
    """
    flags = [adapts(value, adapt) for value in values]
    free = [picked(tensors, flags, False) for tensors in (values, gradients, momentum_buffers)]
    settings: dict[str, Any] = {"momentum": momentum, "weight_decay": weight_decay, "skip": skip}
    if free[0]:
        _descend_(*free, rate=lr, **settings)
    bound = [picked(tensors, flags, True) for tensors in (values, gradients, momentum_buffers)]
    if not bound[0]:
        return
    if not bound[0][0].is_cpu:
        _descend_by_tensors_(*bound, lr=lr, trust_coefficient=trust_coefficient, **settings)
        return
    for w, g, b in zip(*bound, strict=True):
        # Reading a norm on CPU waits for nothing; as a number it goes into the fused kernel.
        w_norm, g_norm = float(norm(w)), float(norm(g))
        trust = ratio_or_one(trust_coefficient * w_norm, g_norm + weight_decay * w_norm, w_norm, g_norm)
        _descend_([w], [g], [b], rate=float(lr) * trust, **settings)


def _descend_(
    values: list[Tensor],
    gradients: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    rate: float | Tensor,
    momentum: float,
    weight_decay: float,
    skip: Tensor | None,
) -> None:
    """b <- momentum b + rate (g + weight_decay w);  w <- w - b, by torch's fused kernel: the rate is 1 - dampening."""
    if not momentum:
        sgd_kernel_(values, gradients, lr=rate, weight_decay=weight_decay, skip=skip)
        return
    settings: dict[str, Any] = {"momentum": momentum, "weight_decay": weight_decay, "skip": skip}
    sgd_kernel_(values, gradients, momentum_buffers, lr=1.0, dampening=1.0 - float(rate), **settings)


def _descend_by_tensors_(
    values: list[Tensor],
    gradients: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float | Tensor,
    momentum: float,
    weight_decay: float,
    trust_coefficient: float,
    skip: Tensor | None,
) -> None:
    """The same for accelerators: norms and rates stay on the device, nothing waits for them."""
    w_norms, g_norms = norms_of(values), norms_of(gradients)
    trust = ratio_or_one(trust_coefficient * w_norms, g_norms + weight_decay * w_norms, w_norms, g_norms)
    scaled = torch._foreach_add(gradients, values, alpha=weight_decay)
    torch._foreach_mul_(scaled, list((lr * trust).unbind()))
    _descend_(values, list(scaled), momentum_buffers, rate=1.0, momentum=momentum, weight_decay=0.0, skip=skip)


class LarsOptimizer(ElementwiseOptimizer):
    """The optimizer that the Lars technique makes; state: step, momentum_buffer."""

    buffers = ("momentum_buffer",)
    per_tensor = True

    def __init__(self, groups: Any, defaults: dict[str, Any]) -> None:
        super().__init__(groups, defaults)
        mark_exempt(self.param_groups, defaults["weight_decay"])

    def rule_(self, lane: Lane) -> None:
        group = lane.group
        lars_(
            lane.values,
            lane.gradients,
            lane.state["momentum_buffer"],
            lr=group["lr"],
            momentum=group["momentum"],
            weight_decay=group["weight_decay"],
            trust_coefficient=group["trust_coefficient"],
            adapt="none" if group.get("exempt") and group["adapt"] != "all" else group["adapt"],
            skip=self.skip,
        )


@technique(
    id="lars",
    slot="optimizer",
    role="base",
    paper="You et al. 2017, arXiv:1708.03888",
    provides=("momentum", "l2_decay", "layerwise_trust"),
    search={"lr": (0.1, 50.0, "log"), "trust_coefficient": (1e-4, 1e-1, "log"), "weight_decay": (1e-6, 1e-3, "log")},
)
class Lars:
    """Momentum SGD for very large batches: each layer moves in proportion to the size of its weights.

    What: see `lars_`. A layer's step is about lr * trust_coefficient * |w|, whatever the size of its gradient. Biases
    and norms get the plain rate, as in the ResNet codes for large batches: tensors with fewer than two dimensions, and
    those that `decay_groups` exempts from weight decay (norms of any shape, declared roles). Why: with batches of
    thousands, one rate for all layers is too large for some and too small for others. When not: ordinary batches,
    where sgd does the same with less to tune.

    Args:
        lr: peak learning rate, >= 0. With a trust coefficient of 1e-3 it is large: 1 to 30.
        momentum: in [0, 1). The rate is inside the buffer, see `lars_`.
        weight_decay: >= 0, L2 (coupled), part of the gradient and of the trust ratio.
        trust_coefficient: >= 0; share of its norm that a layer may move per unit of lr. Texts without one, lr * |w| /
            (|g| + weight_decay * |w|), mean 1.
        adapt: "matrices" leaves biases and norms out, "all" gives them a ratio too, "none" is momentum SGD.

    Raises:
        JobError: a value outside its range.

    Paper: You, Gitman & Ginsburg, "Large Batch Training of Convolutional Networks", 2017, arXiv:1708.03888.

    >>> layer = torch.nn.Linear(2, 1)
    >>> optimizer = Lars(layer.parameters(), lr=2.0)
    >>> layer(torch.ones(1, 2)).sum().backward(); optimizer.step()
    """

    lr: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 0.0
    trust_coefficient: float = 1e-3
    adapt: Literal["matrices", "all", "none"] = "matrices"

    def __post_init__(self) -> None:
        require(self.lr >= 0, "lars.lr", self.lr, "a number of at least 0", "Try 1")
        require_between("lars.momentum", self.momentum, 0, 1, "Try 0.9, or 0 for none", ends="[)")
        require(self.weight_decay >= 0, "lars.weight_decay", self.weight_decay, "a number of at least 0", "Try 1e-4")
        require(
            self.trust_coefficient >= 0, "lars.trust_coefficient", self.trust_coefficient, "a number of at least 0", "Try 1e-3"
        )
        require_one_of("lars.adapt", self.adapt, ("matrices", "all", "none"))

    def __call__(self, groups: Any) -> Optimizer:
        names = ("lr", "momentum", "weight_decay", "trust_coefficient", "adapt")
        return LarsOptimizer(groups, {name: getattr(self, name) for name in names})
