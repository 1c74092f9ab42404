"""Step decay: multiply the rate by a factor at equal distances."""

from __future__ import annotations

import math
from collections.abc import Callable

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between, require_target
from stepwell.core.clock import Horizon
from stepwell.core.duration import Duration
from stepwell.core.slots import ClockSchedule, Drive

__all__ = ["Step", "step"]


def step(peak: float, *, every: float, gamma: float = 0.1) -> Callable[[float], float]:
    """A function of what is completed: peak * gamma ** floor(done / every).

    Args:
        peak: the value at the start.
        every: distance between two drops, in the unit of `done`, > 0.
        gamma: what each drop multiplies by, in (0, 1].

    >>> [round(step(0.1, every=30)(epoch), 6) for epoch in (1, 29, 30, 59, 60)]
    [0.1, 0.1, 0.01, 0.01, 0.001]
    """

    def value(done: float) -> float:
        return peak * gamma ** math.floor(done / every)

    return value


@technique(
    id="step",
    slot="schedule",
    paper="He et al. 2016, arXiv:1512.03385 (a tenth at fixed epochs); torch.optim.lr_scheduler.StepLR",
    search={"every": ("20%", "25%", "30%", "34%"), "gamma": (0.05, 0.5, "log")},
)
class Step:
    """Multiply the rate by a factor at equal distances.

    What: gamma ** floor(done / every) times the configured value. Why: simple and predictable, and the long stretches
    at one rate are easy to read in a loss curve; long the recipe of residual networks. When not: where a smooth decay
    does as well without its abrupt drops (cosine, warmup_cosine), which is nearly everywhere. For drops at places of
    your own: multistep.

    Args:
        every: distance between two drops, a duration > 0, at most the budget. "30%" drops at 30, 60 and 90 %, as
            "30 epochs" does in 100.
        gamma: what each drop multiplies by, in (0, 1]; 1 changes nothing.
        drives: what it moves, "optimizer.lr" or "ID.FIELD" of any technique in the recipe.

    Raises:
        JobError: a value outside its range, a duration without a unit, a distance longer than the budget.

    Paper: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385, section 4.2.

    >>> schedule = Step(every="30 epochs")(Horizon.of("90 epochs", steps_per_epoch=10))
    >>> [round(schedule.drives[0].value(done), 6) for done in (0, 299, 300, 600)]
    [1.0, 1.0, 0.1, 0.01]
    """

    every: str = "30%"
    gamma: float = 0.1
    drives: str = "optimizer.lr"

    def __post_init__(self) -> None:
        every = Duration.parse(self.every, name="step.every")
        require(every.amount > 0, "step.every", self.every, "a duration above 0", 'Write e.g. "30%"')
        require_between("step.gamma", self.gamma, 0, 1, "Try 0.1, or 1 for no drops", ends="(]")
        require_target("step.drives", self.drives)

    def __call__(self, horizon: Horizon) -> ClockSchedule:
        every = horizon.amount_within(self.every, name="step.every", example="30%")
        return ClockSchedule((Drive(self.drives, step(1.0, every=every, gamma=self.gamma)),))
