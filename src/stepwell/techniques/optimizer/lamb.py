"""LAMB: Adam's direction, scaled layer by layer to the size of the weights."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_one_of
from stepwell.core.updates.elementwise import Lane
from stepwell.core.updates.kernels import adam_kernel_, sgd_kernel_
from stepwell.core.updates.moments import MomentsOptimizer, require_moments
from stepwell.core.updates.pieces import cut, in_memory_order
from stepwell.core.updates.replicas import replicated
from stepwell.core.updates.trust import Adapt, adapts, mark_exempt, norm, norms_of, picked, ratio_or_one

__all__ = ["Lamb", "LambOptimizer", "lamb_"]


@replicated
def lamb_(
    values: list[Tensor],
    gradients: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float | Tensor,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    weight_decay: float = 0.01,
    max_trust: float | None = None,
    adapt: Adapt = "matrices",
    skip: Tensor | None = None,
    replicas: int | None = None,
    scratch: Tensor | None = None,
) -> None:
    """One LAMB update in place, tensor by tensor.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
    u = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * w;
    trust = min(|w| / |u|, max_trust), or 1 where |w| or |u| is 0 or the tensor is left out;  w <- w - lr * trust * u.

    Args:
        steps: fp32 scalars holding t, this step included.
        lr: a number, a scalar tensor, or a tensor of one value per replica.
        adapt: which tensors have a ratio: those of two dimensions or more, all, or none. Without one, LAMB is AdamW.
        skip: fp32 scalar on the device; where it is 1, nothing changes. None always updates.
        replicas: K where tensors are stacked (K, ...): norms are then taken per replica, which gives the bits of K runs.
        scratch: memory for an update, as large as the largest tensor; None takes new memory.

    >>> w, g, m, v = torch.tensor([[3.0, 4.0]]), torch.tensor([[9.0, -9.0]]), torch.zeros(1, 2), torch.zeros(1, 2)
    >>> lamb_([w], [g], [m], [v], [torch.tensor(1.0)], lr=0.2, weight_decay=0.0)
    >>> [round(x, 4) for x in w[0].tolist()]  # u = [1, -1], trust = 5 / sqrt(2)
    [2.2929, 4.7071]
    """
    flags = [adapts(value, adapt) for value in values]
    lists = (values, gradients, exp_avgs, exp_avg_sqs, steps)
    free, bound = ([picked(tensors, flags, wanted) for tensors in lists] for wanted in (False, True))
    if free[0]:
        adam_kernel_(*free, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, skip=skip, decay="decoupled")
    if not bound[0]:
        return
    moments: dict[str, Any] = {"betas": betas, "eps": eps, "skip": skip}
    if not bound[0][0].is_cpu:
        _descend_by_tensors_(*bound, lr=lr, decay=weight_decay, max_trust=max_trust, moments=moments)
        return
    if scratch is None:
        scratch = torch.empty(max(value.numel() for value in bound[0]), dtype=bound[0][0].dtype)
    for *column, step in zip(*bound, strict=True):
        w, g, m, v = (in_memory_order(tensor) for tensor in column)
        update = scratch[: w.numel()]
        trust = _write_update(update, w, g, m, v, step, decay=weight_decay, moments=moments)
        rate = float(lr) * (trust if max_trust is None else min(trust, max_trust))
        sgd_kernel_([w], [update], lr=rate, skip=skip)


def _write_update(
    out: Tensor, w: Tensor, g: Tensor, m: Tensor, v: Tensor, step: Tensor, *, decay: float, moments: dict[str, Any]
) -> float:
    """Advance the moments, write the update u to `out`, and give |w| / |u|: for CPU, where reading a norm waits for nothing."""
    norms: list[tuple[float, float]] = []
    # In pieces that stay in cache from the kernel to the norms.
    for w_, g_, m_, v_, u_ in cut(w, g, m, v, out):
        torch.mul(w_, decay, out=u_)
        adam_kernel_([u_], [g_], [m_], [v_], [step], lr=-1.0, **moments, decay="decoupled")
        norms.append((float(norm(w_)), float(norm(u_))))
    w_norm, u_norm = (math.hypot(*parts) for parts in zip(*norms, strict=True))
    return ratio_or_one(w_norm, u_norm, w_norm, u_norm)


def _descend_by_tensors_(
    values: list[Tensor],
    gradients: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float | Tensor,
    decay: float,
    max_trust: float | None,
    moments: dict[str, Any],
) -> None:
    """The same for accelerators: norms and ratios stay on the device, nothing waits for them."""
    updates = list(torch._foreach_mul(values, decay))
    adam_kernel_(updates, gradients, exp_avgs, exp_avg_sqs, steps, lr=-1.0, **moments, decay="decoupled")
    w_norms, u_norms = (norms_of(tensors) for tensors in (values, updates))
    trust = ratio_or_one(w_norms, u_norms, w_norms, u_norms)
    torch._foreach_mul_(updates, list((trust if max_trust is None else trust.clamp(max=max_trust)).unbind()))
    sgd_kernel_(values, updates, lr=lr, skip=moments["skip"])


class LambOptimizer(MomentsOptimizer):
    """The optimizer that the Lamb technique makes; state: step, exp_avg, exp_avg_sq."""

    update = staticmethod(lamb_)
    per_tensor = True

    def __init__(self, groups: Any, defaults: dict[str, Any]) -> None:
        super().__init__(groups, defaults)
        mark_exempt(self.param_groups, defaults["weight_decay"])

    def more(self, lane: Lane) -> dict[str, Any]:
        group, values = lane.group, lane.values
        return {
            "max_trust": group["max_trust"],
            "adapt": "none" if group.get("exempt") and group["adapt"] != "all" else group["adapt"],
            "scratch": self.scratch(values[0], max(value.numel() for value in values)) if values[0].is_cpu else None,
        }


@technique(
    id="lamb",
    slot="optimizer",
    role="base",
    paper="You et al. 2020, arXiv:1904.00962",
    provides=("momentum", "decoupled_decay", "adaptive", "layerwise_trust"),
    search={"lr": (1e-4, 3e-2, "log"), "weight_decay": (1e-3, 0.3, "log")},
)
class Lamb:
    """Adam for very large batches: each layer moves in proportion to the size of its weights.

    What: see `lamb_`. A layer's step is lr * |w|; the decay is decoupled and inside the update whose norm is taken.
    Biases and norms get AdamW's update: tensors with fewer than two dimensions, and those that `decay_groups` exempts
    from weight decay (norms of any shape, declared roles). Why: keeps Adam's quality as batches of transformers grow
    to tens of thousands. When not: ordinary batches, where adamw does the same with less work.

    Args:
        lr: peak learning rate, >= 0.
        betas: decay of the first and second moment, each in [0, 1). Both are bias-corrected.
        eps: added outside the square root, > 0; the paper's 1e-6.
        weight_decay: >= 0, part of the update, multiplied by the learning rate and the ratio.
        max_trust: > 0, upper bound of the ratio |w| / |update|; None for none. Implementations take 1 or 10.
        adapt: "matrices" leaves biases and norms out, "all" gives them a ratio too, "none" is AdamW.

    Raises:
        JobError: a value outside its range.

    Paper: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", ICLR 2020,
    arXiv:1904.00962.

    >>> layer = torch.nn.Linear(2, 1)
    >>> optimizer = Lamb(layer.parameters(), lr=2e-3)
    >>> layer(torch.ones(1, 2)).sum().backward(); optimizer.step()
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-6
    weight_decay: float = 0.01
    max_trust: float | None = None
    adapt: Literal["matrices", "all", "none"] = "matrices"

    def __post_init__(self) -> None:
        require_moments("lamb", self, lr="Try 2e-3", eps="Try 1e-6", weight_decay="Try 0.01, or 0 for none")
        bound = self.max_trust
        require(bound is None or bound > 0, "lamb.max_trust", bound, "a number above 0, or none", "Leave it out, or try 10")
        require_one_of("lamb.adapt", self.adapt, ("matrices", "all", "none"))

    def __call__(self, groups: Any) -> Optimizer:
        names = ("lr", "eps", "weight_decay", "max_trust", "adapt")
        return LambOptimizer(groups, {**{name: getattr(self, name) for name in names}, "betas": tuple(self.betas)})
