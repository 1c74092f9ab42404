"""AdamW: Adam with decoupled weight decay."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from stepwell.core.catalog import technique
from stepwell.core.updates.kernels import adam_kernel_
from stepwell.core.updates.moments import MomentsOptimizer, require_moments
from stepwell.core.updates.replicas import replicated

__all__ = ["AdamW", "AdamWOptimizer", "adamw_"]


@replicated
def adamw_(
    values: list[Tensor],
    gradients: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float | Tensor,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    skip: Tensor | None = None,
    replicas: int | None = None,
) -> None:
    """One AdamW update in place, by torch's fused kernel.

    w <- w - lr * weight_decay * w;  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
    w <- w - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps), with eps outside the root.

    Args:
        steps: fp32 scalars holding t, this step included.
        lr: a number, a scalar tensor, or a tensor of one value per replica.
        skip: fp32 scalar on the device; where it is 1, nothing changes. None always updates.
        replicas: K where tensors are stacked (K, ...), see `adam_`.

    >>> import torch
    >>> w, g, m, v, t = (torch.tensor([x]) for x in (1.0, 0.5, 0.0, 0.0, 1.0))
    >>> adamw_([w], [g], [m], [v], [t[0]], lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    >>> round(w.item(), 6)  # 1 - 0.1 * 0.1 * 1 - 0.1 * 0.5 / 0.5
    0.89
    """
    adam_kernel_(
        values,
        gradients,
        exp_avgs,
        exp_avg_sqs,
        steps,
        lr=lr,
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        decay="decoupled",
        skip=skip,
    )


class AdamWOptimizer(MomentsOptimizer):
    """The optimizer that the AdamW technique makes; state: step, exp_avg, exp_avg_sq, as in torch."""

    update = staticmethod(adamw_)


@technique(
    id="adamw",
    slot="optimizer",
    role="base",
    paper="Loshchilov & Hutter 2019, arXiv:1711.05101",
    provides=("momentum", "decoupled_decay", "adaptive"),
    search={"lr": (1e-4, 1e-2, "log"), "weight_decay": (1e-3, 0.3, "log")},
)
class AdamW:
    """Adaptive moments with weight decay apart from the gradient: the default for most models.

    What: see `adamw_`. The decay shrinks a weight by lr * weight_decay per step (torch's rule), so it follows the
    schedule. Why: works over a wide range of models with one learning rate. When not: plain convnets with a good
    schedule, where SGD with momentum often generalises as well at half the state.

    Args:
        lr: peak learning rate, >= 0.
        betas: decay of the first and second moment, each in [0, 1).
        eps: added outside the square root, > 0.
        weight_decay: >= 0, multiplied by the learning rate.

    Raises:
        JobError: a value outside its range.

    Paper: Loshchilov & Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, arXiv:1711.05101.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 1)
    >>> optimizer = AdamW(layer.parameters(), lr=1e-3)
    >>> layer(torch.ones(1, 2)).sum().backward(); optimizer.step()
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        require_moments("adamw", self, lr="Try 1e-3", eps="Try 1e-8", weight_decay="Try 0.01, or 0 for none")

    def __call__(self, groups: Any) -> Optimizer:
        defaults = {"lr": self.lr, "betas": tuple(self.betas), "eps": self.eps, "weight_decay": self.weight_decay}
        return AdamWOptimizer(groups, defaults)
