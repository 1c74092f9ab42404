"""Noam: the rate of the original transformer, from its width and a warmup alone."""

from __future__ import annotations

import math
from collections.abc import Callable

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_target
from stepwell.core.clock import Horizon
from stepwell.core.duration import Duration
from stepwell.core.slots import ClockSchedule, Drive

__all__ = ["Noam", "noam"]


def noam(d_model: int, *, warmup: float, scale: float = 1.0, per_step: float = 1.0) -> Callable[[float], float]:
    """A function of what is completed before a step: scale * d_model^-0.5 * min(t^-0.5, t * w^-1.5).

    t counts steps from 1 (the step that follows), w is the warmup in steps; both arms meet at t = w, where the rate is
    highest: scale / sqrt(d_model * w).

    Args:
        d_model: width of the model, >= 1.
        warmup: length of the rise, in the unit of `done`; less than one step counts as one.
        scale: multiplies the whole, > 0.
        per_step: what one step adds to `done`.

    Paper: Vaswani et al. 2017, arXiv:1706.03762 (eq. 3).

    >>> rate = noam(4, warmup=4)
    >>> [rate(done) for done in (0, 3, 15)]
    [0.0625, 0.25, 0.125]
    """
    num_rising = max(warmup / per_step, 1.0)

    def value(done: float) -> float:
        count = done / per_step + 1.0
        return scale / math.sqrt(d_model) * min(1.0 / math.sqrt(count), count / math.pow(num_rising, 1.5))

    return value


@technique(
    id="noam",
    slot="schedule",
    paper="Vaswani et al. 2017, arXiv:1706.03762",
    search={"warmup": ("2%", "5%", "10%", "20%"), "scale": (0.1, 4.0, "log")},
)
class Noam:
    """Set the rate of the original transformer: a linear rise, then the inverse square root of the step.

    What: see `noam`. It *sets* the rate: the optimizer's own `lr` is not read, `scale` is what is tuned instead. Why: to
    repeat published transformer recipes (Adam, betas 0.9 and 0.98, 4,000 steps of warmup). When not: with a rate of your
    own; the same curve with a peak that you choose, and no width in it, is inverse_sqrt.

    Args:
        d_model: width of the model (of its residual stream), an int >= 1. The schedule can't see the model, so it has
            to be said.
        warmup: length of the rise, a duration > 0, at most the budget. The paper's is "4000 steps" of 100,000.
        scale: multiplies the rate, a finite number > 0; 1 is the paper's.
        drives: what it sets, "optimizer.lr" or "ID.FIELD" of any technique in the recipe.

    Raises:
        JobError: a value outside its range, a duration without a unit, a warmup longer than the budget.

    Paper: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762, section 5.3.

    >>> schedule = Noam(d_model=512, warmup="4000 steps")(Horizon.of("100k steps"))
    >>> [round(schedule.drives[0].value(done), 8) for done in (0, 3999, 99_999)]
    [1.7e-07, 0.00069877, 0.00013975]
    """

    d_model: int
    warmup: str = "5%"
    scale: float = 1.0
    drives: str = "optimizer.lr"

    def __post_init__(self) -> None:
        whole = isinstance(self.d_model, int) and self.d_model >= 1
        require(whole, "noam.d_model", self.d_model, "the width of the model, a whole number of at least 1", "Write e.g. 512")
        warmup = Duration.parse(self.warmup, name="noam.warmup")
        require(warmup.amount > 0, "noam.warmup", self.warmup, "a duration above 0", 'Write e.g. "4000 steps"')
        require(0 < self.scale < math.inf, "noam.scale", self.scale, "a finite number above 0", "The paper's is 1")
        require_target("noam.drives", self.drives)

    def __call__(self, horizon: Horizon) -> ClockSchedule:
        warmup = horizon.amount_within(self.warmup, name="noam.warmup")
        value = noam(self.d_model, warmup=warmup, scale=self.scale, per_step=horizon.per_step)
        return ClockSchedule((Drive(self.drives, value, mode="set"),))
