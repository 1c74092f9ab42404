"""Adagrad: each weight's rate falls with the squared gradients that it has seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.updates.elementwise import ElementwiseOptimizer, Lane
from stepwell.core.updates.replicas import replicated

__all__ = ["Adagrad", "AdagradOptimizer", "adagrad_"]


@replicated
def adagrad_(
    values: list[Tensor],
    gradients: list[Tensor],
    sums: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float | Tensor,
    lr_decay: float = 0.0,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    skip: Tensor | None = None,
    replicas: int | None = None,
) -> None:
    """One Adagrad update in place, by torch's fused kernel.

    g <- g + weight_decay * w;  s <- s + g^2;  w <- w - lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps).

    Args:
        sums: s, the accumulated squares.
        steps: fp32 scalars holding t, this step included.
        lr: a number, a scalar tensor, or a tensor of one value per replica.
        eps: outside the square root, as torch has it.
        skip: fp32 scalar on the device; where it is 1, nothing changes. None always updates.
        replicas: K where tensors are stacked (K, ...) and each replica must get the bits of its own single run.

    >>> w, g, s, t = (torch.tensor([x]) for x in (1.0, 3.0, 16.0, 1.0))
    >>> adagrad_([w], [g], [s], [t[0]], lr=0.5)
    >>> round(s.item(), 4), round(w.item(), 4)  # 16 + 9; 1 - 0.5 * 3 / 5
    (25.0, 0.7)
    """
    torch._fused_adagrad_(
        values,
        gradients,
        sums,
        steps,
        lr=lr,  # type: ignore[arg-type]
        lr_decay=lr_decay,
        weight_decay=weight_decay,
        eps=eps,
        maximize=False,
        found_inf=skip,
    )


class AdagradOptimizer(ElementwiseOptimizer):
    """The optimizer that the Adagrad technique makes; state: step, sum, as in torch."""

    buffers = ("sum",)

    def initial_value(self, name: str, group: dict[str, Any]) -> float:
        return float(group["initial_accumulator"])

    def rule_(self, lane: Lane) -> None:
        group = lane.group
        adagrad_(
            lane.values,
            lane.gradients,
            lane.state["sum"],
            lane.steps,
            lr=group["lr"],
            lr_decay=group["lr_decay"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            skip=self.skip,
        )


@technique(
    id="adagrad",
    slot="optimizer",
    role="base",
    paper="Duchi et al. 2011, JMLR 12",
    provides=("l2_decay", "adaptive"),
    search={"lr": (1e-3, 1.0, "log"), "initial_accumulator": (0.0, 0.1, 1.0)},
)
class Adagrad:
    """A rate for each weight that falls with the sum of its squared gradients.

    What: see `adagrad_`. Why: rare features keep a high rate, frequent ones settle: sparse inputs, embeddings of ids,
    click prediction. When not: long training of deep networks, since the sum only grows and the rate goes to zero
    (rmsprop forgets instead).

    Args:
        lr: learning rate, >= 0.
        lr_decay: >= 0; the rate is also divided by 1 + (t - 1) * lr_decay.
        initial_accumulator: what the sum of squares starts from, >= 0; above 0 it tames the first steps.
        eps: added outside the square root, > 0. The default is 1e-8; torch's own is 1e-10.
        weight_decay: >= 0, L2: multiplied by the weight and added to its gradient.

    Raises:
        JobError: a value outside its range.

    Paper: Duchi, Hazan & Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization",
    JMLR 12, 2011.

    >>> layer = torch.nn.Linear(2, 1)
    >>> optimizer = Adagrad(layer.parameters(), lr=0.05)
    >>> layer(torch.ones(1, 2)).sum().backward(); optimizer.step()
    """

    lr: float = 0.01
    lr_decay: float = 0.0
    initial_accumulator: float = 0.0
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name, fix in {
            "lr": "Try 0.01",
            "lr_decay": "Try 0, and let a schedule lower the rate",
            "initial_accumulator": "Try 0, or 0.1",
            "weight_decay": "Try 0, or 1e-6",
        }.items():
            value = getattr(self, name)
            require(value >= 0, f"adagrad.{name}", value, "a number of at least 0", fix)
        require(self.eps > 0, "adagrad.eps", self.eps, "a number above 0", "Try 1e-8")

    def __call__(self, groups: Any) -> Optimizer:
        names = ("lr", "lr_decay", "initial_accumulator", "eps", "weight_decay")
        return AdagradOptimizer(groups, {name: getattr(self, name) for name in names})
