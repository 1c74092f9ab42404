"""What the rules of Adam's kind share: two moments as state, the settings that move them, and the ranges of these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from stepwell.core.check import require, require_between
from stepwell.core.updates.elementwise import ElementwiseOptimizer, Lane


class MomentsOptimizer(ElementwiseOptimizer):
    """Base of optimizers whose state is step, exp_avg and exp_avg_sq, as in torch.

    A subclass names its rule, `update = staticmethod(adam_)`: a function of values, gradients, both moments and steps, and of
    lr, betas, eps, weight_decay and skip by name.
    """

    buffers = ("exp_avg", "exp_avg_sq")
    update: ClassVar[Callable[..., None]]

    def rule_(self, lane: Lane) -> None:
        group, state = lane.group, lane.state
        type(self).update(
            lane.values,
            lane.gradients,
            state["exp_avg"],
            state["exp_avg_sq"],
            lane.steps,
            lr=group["lr"],
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            skip=self.skip,
            **self.more(lane),
        )

    def more(self, lane: Lane) -> dict[str, Any]:
        """What the rule takes beside that."""
        return {}


def require_moments(technique: str, settings: Any, *, lr: str, eps: str, weight_decay: str) -> None:
    """Refuse settings outside their ranges: lr and weight_decay >= 0, betas in [0, 1), eps > 0.

    Args:
        technique: its id, for the messages.
        settings: has these four.
        lr, eps, weight_decay: the fix that each message proposes.

    Raises:
        JobError: one is outside.
    """
    require(settings.lr >= 0, f"{technique}.lr", settings.lr, "a number of at least 0", lr)
    for beta in settings.betas:
        require_between(f"{technique}.betas", beta, 0, 1, "Try [0.9, 0.999]", ends="[)")
    require(settings.eps > 0, f"{technique}.eps", settings.eps, "a number above 0", eps)
    decay = settings.weight_decay
    require(decay >= 0, f"{technique}.weight_decay", decay, "a number of at least 0", weight_decay)
