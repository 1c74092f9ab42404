"""Exponential decay: the rate shrinks by the same share in equal times."""

from __future__ import annotations

import math
from collections.abc import Callable

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between, require_target
from stepwell.core.clock import Horizon
from stepwell.core.duration import Duration
from stepwell.core.slots import ClockSchedule, Drive

__all__ = ["Exponential", "exponential"]


def exponential(peak: float, *, every: float, gamma: float) -> Callable[[float], float]:
    """A function of what is completed: peak * gamma ** (done / every), smooth between multiples of `every`.

    Args:
        peak: the value at the start.
        every: the time in which the value falls to `gamma` of what it was, in the unit of `done`, > 0.
        gamma: in (0, 1].

    >>> [exponential(8.0, every=2, gamma=0.25)(done) for done in (0, 1, 2, 4)]
    [8.0, 4.0, 2.0, 0.5]
    """

    def value(done: float) -> float:
        return peak * math.pow(gamma, done / every)

    return value


@technique(
    id="exponential",
    slot="schedule",
    paper="torch.optim.lr_scheduler.ExponentialLR; Szegedy et al. 2015, arXiv:1512.00567",
    search={"gamma": (0.9, 0.99, "linear")},
)
class Exponential:
    """Let the rate shrink by the same share in equal times.

    What: gamma ** (done / every) times the configured value, smooth; for the same in stairs, as torch's scheduler gives it
    when called once an epoch, use step with this `every` and `gamma`. Why: no end has to be known where `every` is in
    epochs or steps, and no drop disturbs the moments of an adaptive optimizer. When not: the rate falls fastest at the
    start, where a high one still helps; a cosine spends longer at useful rates.

    Args:
        every: the time in which the rate falls to `gamma` of what it was, a duration > 0, at most the budget. "1%" with
            gamma 0.95 ends at 0.006 of the peak, as one epoch of 100 does.
        gamma: in (0, 1]; 1 changes nothing.
        drives: what it moves, "optimizer.lr" or "ID.FIELD" of any technique in the recipe.

    Raises:
        JobError: a value outside its range, a duration without a unit or longer than the budget.

    Paper: Szegedy et al., "Rethinking the Inception Architecture", 2015, arXiv:1512.00567, section 8 (0.94 every two epochs).

    >>> schedule = Exponential(every="10 steps", gamma=0.5)(Horizon.of("100 steps"))
    >>> [schedule.drives[0].value(done) for done in (0, 10, 30)]
    [1.0, 0.5, 0.125]
    """

    every: str = "1%"
    gamma: float = 0.95
    drives: str = "optimizer.lr"

    def __post_init__(self) -> None:
        every = Duration.parse(self.every, name="exponential.every")
        require(every.amount > 0, "exponential.every", self.every, "a duration above 0", 'Write e.g. "1 epochs"')
        require_between("exponential.gamma", self.gamma, 0, 1, "Try 0.95, or 1 for no decay", ends="(]")
        require_target("exponential.drives", self.drives)

    def __call__(self, horizon: Horizon) -> ClockSchedule:
        every = horizon.amount_within(self.every, name="exponential.every", example="1%")
        return ClockSchedule((Drive(self.drives, exponential(1.0, every=every, gamma=self.gamma)),))
