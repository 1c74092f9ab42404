"""Schedule-free AdamW: an average of the iterates takes the place of a decaying learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stepwell.core.batch import Batch
from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.clock import Clock
from stepwell.core.modules.batch_norm import estimate_batch_norm_, estimated_norms
from stepwell.core.slots import Average
from stepwell.core.updates.elementwise import ElementwiseOptimizer, Lane
from stepwell.core.updates.kernels import adam_kernel_, sgd_kernel_
from stepwell.core.updates.pieces import pieces
from stepwell.core.updates.replicas import replicated

__all__ = ["ScheduleFreeAdamW", "ScheduleFreeAdamWOptimizer", "ScheduleFreeAverage", "schedule_free_adamw_"]


@replicated
def schedule_free_adamw_(
    values: list[Tensor],
    gradients: list[Tensor],
    zs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float | Tensor,
    share: float | Tensor,
    interpolation: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    skip: Tensor | None = None,
    replicas: int | None = None,
) -> None:
    """One schedule-free AdamW update in place, piece by piece. `values` hold y, at which the gradients were taken.

    v <- b2 v + (1 - b2) g^2;  z <- z - lr * (g / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * y);
    x <- (1 - share) x + share * z;  y <- b1 x + (1 - b1) z.

    x is kept nowhere: it is found again from y and z, so the state is no larger than AdamW's.

    Args:
        zs, exp_avg_sqs: z and v, as long as `values`. `gradients` are only read.
        steps: fp32 scalars holding t, this step included, the same in all.
        lr: a number, a scalar tensor, or a tensor of one value per replica.
        share: of this z in the average x, in [0, 1].
        interpolation: b1, in (0, 1].
        skip: fp32 scalar on the device; where it is 1, nothing changes. None always updates.
        replicas: K where tensors are stacked (K, ...) and each replica must get the bits of its own single run.

    Paper: Defazio et al. 2024, arXiv:2405.15682 (algorithm 1; bias correction and eps as in AdamW).

    >>> y, g, z, v, t = (torch.tensor([x]) for x in (1.0, 0.5, 1.0, 0.0, 1.0))
    >>> schedule_free_adamw_([y], [g], [z], [v], [t[0]], lr=0.1, share=1.0)
    >>> round(z.item(), 6), round(y.item(), 6)
    (0.9, 0.9)
    """
    decay, moments = weight_decay * (1 - interpolation), (0.0, beta2)
    for piece in pieces([values, gradients, zs, exp_avg_sqs], num_scratch=0):
        y, g, z, v = piece.tensors
        # a + w (b - a) is a step of descent at -w along b with a decay of -1: torch's kernel knows `skip`, lerp doesn't.
        sgd_kernel_(y, z, lr=1 / interpolation - 1, weight_decay=-1.0, skip=skip)  # from y to x
        # With beta1 = 0 the kernel's first moment is the gradient, and writing it over itself changes nothing. Decay is
        # taken at y = b1 x + (1 - b1) z: this kernel takes z's part, the next one x's.
        adam_kernel_(
            z, g, g, v, steps[:1] * len(z), lr=lr, betas=moments, eps=eps, weight_decay=decay, skip=skip, decay="decoupled"
        )
        if weight_decay:
            sgd_kernel_(z, y, lr=lr * weight_decay * interpolation, skip=skip)
        sgd_kernel_(y, z, lr=interpolation * (1 - share) - 1, weight_decay=-1.0, skip=skip)  # from x to y


class ScheduleFreeAdamWOptimizer(ElementwiseOptimizer):
    """The optimizer that the ScheduleFreeAdamW technique makes; state: step, z, exp_avg_sq, and two numbers per group.

    Attributes:
        average: x, which is evaluated and delivered; an average of the average slot.
        interpolation: b1. Not in the groups: y is found back with the b1 that it was made with, so no schedule may move it.
    """

    buffers = ("z", "exp_avg_sq")

    def __init__(self, groups: Any, defaults: dict[str, Any], *, interpolation: float) -> None:
        super().__init__(groups, {**defaults, "largest_lr": 0.0, "weight_sum": 0.0})
        self.interpolation = interpolation
        self.average = ScheduleFreeAverage(self)

    def update_(self) -> None:
        for group in self.param_groups:
            group["largest_lr"] = max(group["lr"], group["largest_lr"])
            weight = group["largest_lr"] ** 2
            # A skipped step goes into no average; whether it is skipped only the device knows.
            group["weight_sum"] = group["weight_sum"] + (weight if self.skip is None else weight * (1 - self.skip))
        super().update_()

    def rule_(self, lane: Lane) -> None:
        group, state = lane.group, lane.state
        if lane.count == 1:
            torch._foreach_copy_(state["z"], lane.values)
        settings = {key: group[key] for key in ("lr", "beta2", "eps", "weight_decay")}
        settings |= {"share": self._share(lane), "interpolation": self.interpolation, "skip": self.skip}
        schedule_free_adamw_(lane.values, lane.gradients, state["z"], state["exp_avg_sq"], lane.steps, **settings)

    def _share(self, lane: Lane) -> float | Tensor:
        """This step's weight over the sum of all weights; of tensors that joined later, over that of as many steps."""
        weight, total = lane.group["largest_lr"] ** 2, lane.group["weight_sum"]
        if weight == 0:
            return 0.0
        if self.skip is None:
            return float(weight / min(float(total), lane.count * weight))
        return torch.div(weight, torch.minimum(total, lane.steps[0].clamp(min=1) * weight))


class ScheduleFreeAverage(Average):
    """x of a schedule-free optimizer. The optimizer's state has all of it, so there is nothing of its own to save."""

    def __init__(self, optimizer: ScheduleFreeAdamWOptimizer) -> None:
        self.optimizer = optimizer
        self._own: list[tuple[Tensor, Tensor]] | None = None  # while swapped in: tensors, and what they held before
        self._estimated: list[tuple[Tensor, Tensor]] = []

    def _updated(self) -> list[tuple[Tensor, Tensor]]:
        states = self.optimizer.state.items()
        return [(p.detach(), state["z"]) for p, state in states if "z" in state and float(state["step"]) > 0]

    def update(self, clock: Clock | None = None) -> None:
        """The optimizer has averaged already; statistics that were estimated for the last average are out of date."""
        self._estimated = []

    @property
    def ready(self) -> bool:
        return bool(self._updated())

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """`with average.swapped():` the model holds x; afterwards y again, to the bit."""
        require(self.ready, "schedule_free_adamw.ready", False, "at least one step before swapping", "Look at `ready` first")
        before, pairs = self._own, self._updated() if self._own is None else []
        self._own = own = [(tensor, tensor.clone()) for tensor, _ in pairs + self._estimated]
        try:
            for parameter, z in pairs:
                parameter.lerp_(z, 1 - 1 / self.optimizer.interpolation)
            for buffer, estimate in self._estimated:
                buffer.copy_(estimate)
            yield
        finally:
            for tensor, kept in reversed(own):
                tensor.copy_(kept)
            self._own = before

    def finalize(self, model: nn.Module, batches: Iterable[Batch]) -> None:
        """Estimate batch-norm statistics of x, and keep them until the next step. Inside and outside of `swapped()`."""
        if not self.ready:
            return
        if self._own is None:
            with self.swapped():
                return self.finalize(model, batches)
        buffers = [buffer for norm in estimated_norms(model) for buffer in norm.buffers(recurse=False)]
        self._own += [(buffer, buffer.clone()) for buffer in buffers]
        estimate_batch_norm_(model, batches)
        self._estimated = [(buffer, buffer.clone()) for buffer in buffers]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._estimated = []


@technique(
    id="schedule_free_adamw",
    slot="optimizer",
    role="base",
    paper="Defazio et al. 2024, arXiv:2405.15682",
    provides=("average", "decoupled_decay", "adaptive"),
    search={"lr": (3e-4, 3e-2, "log"), "interpolation": (0.8, 0.98, "linear"), "weight_decay": (1e-3, 0.3, "log")},
)
class ScheduleFreeAdamW:
    """AdamW that averages its iterates instead of decaying its rate: no end of the run has to be known.

    What: see `schedule_free_adamw_`. Gradients are taken at y, between the fast iterate z and the average x; x is evaluated
    and delivered. A step's share in x is its weight over the sum of all, a weight being the square of the largest rate so
    far: the small steps of a warmup hardly count. Why: near a well-tuned cosine at any time, so a run can be stopped or
    prolonged. When not: with a decaying schedule, which it is meant to replace (a warmup beside it is advised), or another
    average. Its optimal rate is one to ten times AdamW's. Interpolation isn't a momentum that a schedule could cycle.

    Args:
        lr: learning rate, >= 0.
        interpolation: share of x in the point y where gradients are taken, in (0, 1]; beta1 of the paper. Longer runs
            take up to 0.98.
        beta2: decay of the second moment, in [0, 1).
        eps: added outside the square root, > 0.
        weight_decay: >= 0, multiplied by the learning rate, and taken at y.

    Raises: JobError, a value outside its range.

    Paper: Defazio et al., "The Road Less Scheduled", NeurIPS 2024, arXiv:2405.15682.

    >>> layer = nn.Linear(2, 1)
    >>> optimizer = ScheduleFreeAdamW(layer.parameters(), lr=1e-3)
    >>> layer(torch.ones(1, 2)).sum().backward(); optimizer.step()
    >>> with optimizer.average.swapped(): outputs = layer(torch.ones(1, 2))  # with the averaged weights
    """

    lr: float = 2.5e-3
    interpolation: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        name = "schedule_free_adamw"
        require(self.lr >= 0, f"{name}.lr", self.lr, "a number of at least 0", "Try 2.5e-3")
        require_between(f"{name}.interpolation", self.interpolation, 0, 1, "Try 0.9", ends="(]")
        require_between(f"{name}.beta2", self.beta2, 0, 1, "Try 0.999", ends="[)")
        require(self.eps > 0, f"{name}.eps", self.eps, "a number above 0", "Try 1e-8")
        decay = self.weight_decay
        require(decay >= 0, f"{name}.weight_decay", decay, "a number of at least 0", "Try 0.01, or 0 for none")

    def __call__(self, groups: Any) -> Optimizer:
        defaults = {"lr": self.lr, "beta2": self.beta2, "eps": self.eps, "weight_decay": self.weight_decay}
        return ScheduleFreeAdamWOptimizer(groups, defaults, interpolation=self.interpolation)
