"""torch's fused update kernels, with the arguments that our rules use. Each is one pass over memory and knows `skip`."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor


def sgd_kernel_(
    values: list[Tensor],
    gradients: list[Tensor],
    momentum_buffers: list[Tensor] | None = None,
    *,
    lr: float | Tensor,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    first: bool = False,
    skip: Tensor | None = None,
) -> None:
    """g <- g + weight_decay w;  with momentum above 0: b <- momentum b + (1 - dampening) g, g <- b;  w <- w - lr g.

    `first` puts g itself into the buffer; `nesterov` goes on with g + momentum b in place of b.

    >>> w = torch.tensor([1.0])
    >>> sgd_kernel_([w], [torch.tensor([0.5])], lr=0.5, weight_decay=0.5)
    >>> w
    tensor([0.5000])
    """
    buffers = (momentum_buffers or []) if momentum else []
    if values[0].is_cpu and values[0].dtype in (torch.bfloat16, torch.float16):
        # torch's CPU kernel leaves most 16-bit values as they are (pytorch/pytorch#191763): go through fp32.
        lists = (values, gradients, buffers)
        full = [[tensor.float() for tensor in tensors] for tensors in lists]
        decays: dict[str, Any] = {"momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        sgd_kernel_(*full, lr=lr, nesterov=nesterov, first=first, skip=skip, **decays)
        torch._foreach_copy_(values, full[0])
        if buffers:
            torch._foreach_copy_(buffers, full[2])
        return
    torch._fused_sgd_(
        values,
        gradients,
        buffers,
        lr=lr,  # type: ignore[arg-type]
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=nesterov,
        maximize=False,
        is_first_step=first,
        found_inf=skip,
    )


def adam_kernel_(
    values: list[Tensor],
    gradients: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float | Tensor,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float = 0.0,
    decay: Literal["l2", "decoupled"] = "l2",
    skip: Tensor | None = None,
) -> None:
    """Adam, with L2 decay (g <- g + weight_decay w before the moments) or decoupled decay (w <- w - lr weight_decay w).

    From values of 0 at a rate of -1 and without decay, it leaves the quotient of the moments in them.

    >>> w, g, m, v = (torch.tensor([x]) for x in (0.0, -3.0, 0.0, 0.0))
    >>> adam_kernel_([w], [g], [m], [v], [torch.tensor(1.0)], lr=0.1, betas=(0.9, 0.999), eps=1e-8)
    >>> round(w.item(), 4)
    0.1
    """
    kernel = torch._fused_adamw_ if decay == "decoupled" else torch._fused_adam_
    kernel(
        values,
        gradients,
        exp_avgs,
        exp_avg_sqs,
        [],
        steps,
        lr=lr,  # type: ignore[arg-type]
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=weight_decay,
        eps=eps,
        amsgrad=False,
        maximize=False,
        found_inf=skip,
    )
