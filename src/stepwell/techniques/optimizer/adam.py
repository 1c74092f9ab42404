"""Adam, whose weight decay is L2: part of the gradient, and so of both moments."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from stepwell.core.catalog import technique
from stepwell.core.updates.kernels import adam_kernel_
from stepwell.core.updates.moments import MomentsOptimizer, require_moments
from stepwell.core.updates.replicas import replicated

__all__ = ["Adam", "AdamOptimizer", "adam_"]


@replicated
def adam_(
    values: list[Tensor],
    gradients: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float | Tensor,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    skip: Tensor | None = None,
    replicas: int | None = None,
) -> None:
    """One Adam update in place, by torch's fused kernel.

    g <- g + weight_decay * w;  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
    w <- w - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps), with eps outside the root.

    Args:
        steps: fp32 scalars holding t, this step included.
        lr: a number, a scalar tensor, or a tensor of one value per replica.
        skip: fp32 scalar on the device; where it is 1, nothing changes. None always updates.
        replicas: K where tensors are stacked (K, ...) and each replica must get the bits of its own single run; stacked
            tensors need it only for that and for a rate each, since the rule is the same for every element.

    >>> import torch
    >>> w, g, m, v, t = (torch.tensor([x]) for x in (1.0, 0.4, 0.0, 0.0, 1.0))
    >>> adam_([w], [g], [m], [v], [t[0]], lr=0.1, weight_decay=0.1)
    >>> round(m.item(), 6), round(w.item(), 6)  # the decay is in the moment: 0.1 * (0.4 + 0.1 * 1); 1 - 0.1 * 0.5 / 0.5
    (0.05, 0.9)
    """
    adam_kernel_(
        values, gradients, exp_avgs, exp_avg_sqs, steps, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, skip=skip
    )


class AdamOptimizer(MomentsOptimizer):
    """The optimizer that the Adam technique makes; state: step, exp_avg, exp_avg_sq, as in torch."""

    update = staticmethod(adam_)


@technique(
    id="adam",
    slot="optimizer",
    role="base",
    paper="Kingma & Ba 2015, arXiv:1412.6980",
    provides=("momentum", "l2_decay", "adaptive"),
    search={"lr": (1e-5, 1e-2, "log"), "weight_decay": (1e-6, 1e-2, "log")},
)
class Adam:
    """Adaptive moments; its weight decay is L2, added to the gradient before the moments.

    What: see `adam_`. The decay passes through both moments, so a weight with large gradients decays less: that is L2
    and not the decay of `adamw`, which shrinks every weight by lr * weight_decay. Why: the paper's rule, for comparing
    with runs that used it, and for models that need no decay. When not: with weight decay, where adamw is better
    understood and tuned; where momentum SGD generalises as well at half the state.

    Args:
        lr: peak learning rate, >= 0.
        betas: decay of the first and second moment, each in [0, 1). Transformers often take (0.9, 0.98).
        eps: added outside the square root, as in torch, > 0.
        weight_decay: >= 0, L2: multiplied by the weight and added to its gradient.

    Raises:
        JobError: a value outside its range.

    Paper: Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, arXiv:1412.6980.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 1)
    >>> optimizer = Adam(layer.parameters(), lr=1e-3)
    >>> layer(torch.ones(1, 2)).sum().backward(); optimizer.step()
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        require_moments("adam", self, lr="Try 1e-3", eps="Try 1e-8", weight_decay="Try 0, or use adamw")

    def __call__(self, groups: Any) -> Optimizer:
        defaults = {"lr": self.lr, "betas": tuple(self.betas), "eps": self.eps, "weight_decay": self.weight_decay}
        return AdamOptimizer(groups, defaults)
