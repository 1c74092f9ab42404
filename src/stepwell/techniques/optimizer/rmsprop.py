"""RMSprop: gradients divided by a running root mean square, with momentum and centering as options."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.errors import JobError
from stepwell.core.updates.elementwise import ElementwiseOptimizer, Lane
from stepwell.core.updates.kernels import adam_kernel_, sgd_kernel_
from stepwell.core.updates.pieces import PIECE, pieces
from stepwell.core.updates.replicas import replicated

__all__ = ["RMSprop", "RMSpropOptimizer", "rmsprop_"]


@replicated
def rmsprop_(
    values: list[Tensor],
    gradients: list[Tensor],
    square_avgs: list[Tensor],
    *,
    lr: float | Tensor,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    momentum_buffers: list[Tensor] | None = None,
    grad_avgs: list[Tensor] | None = None,
    skip: Tensor | None = None,
    replicas: int | None = None,
    scratch: Tensor | None = None,
) -> None:
    """One RMSprop update in place, by torch's rule.

    g <- g + weight_decay * w;  v <- alpha v + (1 - alpha) g^2;  with `grad_avgs`: a <- alpha a + (1 - alpha) g and
    u = g / (sqrt(max(v - a^2, 0)) + eps), else u = g / (sqrt(v) + eps);  b <- momentum b + u;  w <- w - lr * b.
    torch has no max(..., 0): where rounding makes v - a^2 negative, its weights become NaN. Plain RMSprop is one pass
    over memory, the options go piece by piece. Gradients come out as they went in.

    Args:
        square_avgs: v. grad_avgs: a, makes the rule centered. momentum_buffers: b, needed where momentum is above 0.
        lr: a number, a scalar tensor, or a tensor of one value per replica.
        skip: fp32 scalar on the device; where it is 1, nothing changes. None always updates.
        replicas: K where tensors are stacked (K, ...) and each replica must get the bits of its own single run.
        scratch: memory for temporary values, 2 * PIECE at most; None takes new memory.

    >>> w, g, v = (torch.tensor([x]) for x in (1.0, 3.0, 7.0))
    >>> rmsprop_([w], [g], [v], lr=0.1, alpha=0.0)
    >>> round(v.item(), 4), round(w.item(), 4)  # 9; 1 - 0.1 * 3 / 3
    (9.0, 0.9)
    """
    rule: dict[str, Any] = {"alpha": alpha, "eps": eps, "skip": skip}
    if not momentum and not weight_decay and grad_avgs is None:
        _descend_(values, gradients, square_avgs, lr=lr, **rule)
        return
    more = [buffers for buffers in (grad_avgs, momentum_buffers if momentum else None) if buffers is not None]
    for piece in pieces([values, gradients, square_avgs, *more], num_scratch=2, scratch=scratch):
        (w, g, v, *rest), (update, decayed) = piece.tensors, piece.scratch
        if weight_decay or grad_avgs is not None:
            torch._foreach_copy_(decayed, g)
            if weight_decay:
                torch._foreach_add_(decayed, w, alpha=weight_decay)
        else:
            decayed = g
        if not momentum and grad_avgs is None:
            _descend_(w, decayed, v, lr=lr, **rule)
            continue
        torch._foreach_zero_(update)
        if grad_avgs is None:
            _descend_(update, decayed, v, lr=-1.0, **rule)  # from zero, upwards: leaves the quotient itself
        else:
            _centered_(decayed, v, rest[0], update, **rule)
            update = decayed
        sgd_kernel_(w, update, rest[-1] if momentum else None, lr=lr, momentum=momentum, skip=skip)


def _descend_(
    values: list[Tensor],
    gradients: list[Tensor],
    square_avgs: list[Tensor],
    *,
    lr: float | Tensor,
    alpha: float,
    eps: float,
    skip: Tensor | None,
) -> None:
    """w <- w - lr * g / (sqrt(v) + eps) in one kernel: Adam's with beta1 = 0, whose first moment is the gradient.

    So the gradients stand in for the first moments, and are written back with the values they had.
    """
    steps = _many_steps(values)
    adam_kernel_(values, gradients, gradients, square_avgs, steps, lr=lr, betas=(0.0, alpha), eps=eps, skip=skip)


def _centered_(
    gradients: list[Tensor],
    square_avgs: list[Tensor],
    grad_avgs: list[Tensor],
    zeros: list[Tensor],
    *,
    alpha: float,
    eps: float,
    skip: Tensor | None,
) -> None:
    """Both averages by Adam's kernel at a rate of 0, then the gradients are divided in place; `zeros` is used up."""
    steps = _many_steps(zeros)
    adam_kernel_(zeros, gradients, grad_avgs, square_avgs, steps, lr=0.0, betas=(alpha, alpha), eps=1.0, skip=skip)
    deviations = zeros
    torch._foreach_copy_(deviations, square_avgs)
    torch._foreach_addcmul_(deviations, grad_avgs, grad_avgs, value=-1.0)
    torch._foreach_clamp_min_(deviations, 0.0)
    torch._foreach_sqrt_(deviations)
    torch._foreach_add_(deviations, eps)
    torch._foreach_div_(gradients, deviations)


def _many_steps(values: list[Tensor]) -> list[Tensor]:
    """A step count after which Adam's kernel corrects no bias any more."""
    return [torch.full((), 1e30, device=values[0].device)] * len(values)


class RMSpropOptimizer(ElementwiseOptimizer):
    """The optimizer that the RMSprop technique makes; state: step, square_avg, and grad_avg and momentum_buffer where used."""

    def __init__(self, groups: Any, defaults: dict[str, Any]) -> None:
        super().__init__(groups, defaults)
        momentum = any(group["momentum"] for group in self.param_groups)
        centered = any(group["centered"] for group in self.param_groups)
        self.buffers = ("square_avg", *["grad_avg"] * centered, *["momentum_buffer"] * momentum)

    def rule_(self, lane: Lane) -> None:
        group = lane.group
        if group["momentum"] and "momentum_buffer" not in lane.state:
            raise JobError(
                f"rmsprop.momentum became {group['momentum']:g}, but it was 0 when the optimizer was made",
                expected="a momentum above 0 from the start, where something drives it",
                fix="Set momentum: 0.9",
            )
        rmsprop_(
            lane.values,
            lane.gradients,
            lane.state["square_avg"],
            lr=group["lr"],
            alpha=group["alpha"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            momentum_buffers=lane.state.get("momentum_buffer"),
            grad_avgs=lane.state["grad_avg"] if group["centered"] else None,
            skip=self.skip,
            scratch=self.scratch(lane.values[0], 2 * PIECE),
        )


@technique(
    id="rmsprop",
    slot="optimizer",
    role="base",
    paper="Tieleman & Hinton 2012, Coursera lecture 6.5; centered and with momentum: Graves 2013, arXiv:1308.0850",
    provides=("momentum", "l2_decay", "adaptive"),
    search={"lr": (1e-5, 1e-2, "log"), "alpha": (0.9, 0.99, 0.999), "momentum": (0.0, 0.95, "linear")},
)
class RMSprop:
    """Gradients divided by a running root mean square of themselves.

    What: see `rmsprop_`; alpha is what other texts call rho. Why: per-weight rates that forget, unlike adagrad's, at
    one buffer of state; recurrent networks and reinforcement learning use it. When not: where a bias-corrected start
    matters (adam); centered, where gradients hardly vary, since its denominator goes to eps.

    Args:
        lr: learning rate, >= 0. torch's default is 0.01; 1e-3 is the lecture's and the usual start.
        alpha: decay of the squared average, in [0, 1).
        eps: added outside the square root, as in torch, > 0. Texts that write sqrt(v + eps) put it inside.
        weight_decay: >= 0, L2: multiplied by the weight and added to its gradient.
        momentum: in [0, 1), of the divided gradients; the learning rate stays outside the buffer.
        centered: also track the mean gradient, and divide by the standard deviation.

    Raises:
        JobError: a value outside its range.

    Paper: Tieleman & Hinton, "Lecture 6.5: rmsprop", Coursera 2012; with momentum and centered: Graves, "Generating
    Sequences With Recurrent Neural Networks", 2013, arXiv:1308.0850.

    >>> layer = torch.nn.Linear(2, 1)
    >>> optimizer = RMSprop(layer.parameters(), lr=1e-3, momentum=0.9)
    >>> layer(torch.ones(1, 2)).sum().backward(); optimizer.step()
    """

    lr: float = 1e-3
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    def __post_init__(self) -> None:
        require(self.lr >= 0, "rmsprop.lr", self.lr, "a number of at least 0", "Try 1e-3")
        require_between("rmsprop.alpha", self.alpha, 0, 1, "Try 0.99", ends="[)")
        require(self.eps > 0, "rmsprop.eps", self.eps, "a number above 0", "Try 1e-8")
        require(self.weight_decay >= 0, "rmsprop.weight_decay", self.weight_decay, "a number of at least 0", "Try 0")
        require_between("rmsprop.momentum", self.momentum, 0, 1, "Try 0.9, or 0 for none", ends="[)")

    def __call__(self, groups: Any) -> Optimizer:
        names = ("lr", "alpha", "eps", "weight_decay", "momentum", "centered")
        return RMSpropOptimizer(groups, {name: getattr(self, name) for name in names})
