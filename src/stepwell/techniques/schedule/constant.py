"""Constant: the configured value throughout, after an optional linear warmup."""

from __future__ import annotations

from collections.abc import Callable

from stepwell.core.catalog import technique
from stepwell.core.check import require_target
from stepwell.core.clock import Horizon
from stepwell.core.duration import Duration
from stepwell.core.rise import after_rise
from stepwell.core.slots import ClockSchedule, Drive

__all__ = ["Constant", "constant"]


def constant(peak: float, *, warmup: float = 0.0, per_step: float = 1.0) -> Callable[[float], float]:
    """A function of what is completed: a linear rise over `warmup`, then `peak`.

    Args:
        peak: the value after the warmup.
        warmup: length of the rise, in the unit of `done`, >= 0.
        per_step: what one step adds to `done`; the first step gets peak * per_step / warmup, never 0.

    >>> [constant(8.0, warmup=4)(done) for done in range(6)]
    [2.0, 4.0, 6.0, 8.0, 8.0, 8.0]
    """

    return after_rise(peak, lambda done: peak, warmup=warmup, per_step=per_step)


@technique(
    id="constant", slot="schedule", paper="Goyal et al. 2017, arXiv:1706.02677 (warmup)", search={"warmup": ("0%", "2%", "5%")}
)
class Constant:
    """Keep the configured value, after an optional linear warmup.

    What: a factor of 1, reached linearly where a warmup is given. Why: the plainest baseline, and the right rate for
    averaging (swa, ema) and for plateau-free short fine-tuning. When not: most full runs end better with a decay.

    Args:
        warmup: length of the linear rise, a duration >= 0; "0 steps" for none. The first step gets 1/warmup of the
            value, never 0.
        drives: what it moves, "optimizer.lr" or "ID.FIELD" of any technique in the recipe.

    Raises:
        JobError: a duration without a unit, or a target that is not "ID.FIELD".

    Paper: warmup from Goyal et al., "Accurate, Large Minibatch SGD", 2017, arXiv:1706.02677.

    >>> schedule = Constant(warmup="4 steps")(Horizon.of("10 steps"))
    >>> [schedule.drives[0].value(done) for done in (0, 1, 3, 9)]
    [0.25, 0.5, 1.0, 1.0]
    """

    warmup: str = "0 steps"
    drives: str = "optimizer.lr"

    def __post_init__(self) -> None:
        Duration.parse(self.warmup, name="constant.warmup")
        require_target("constant.drives", self.drives)

    def __call__(self, horizon: Horizon) -> ClockSchedule:
        warmup = horizon.amount(self.warmup, name="constant.warmup")
        return ClockSchedule((Drive(self.drives, constant(1.0, warmup=warmup, per_step=horizon.per_step)),))
