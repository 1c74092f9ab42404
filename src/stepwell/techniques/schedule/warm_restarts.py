"""Warm restarts (SGDR): a cosine that starts again at the peak, each cycle as long as or longer than the last."""

from __future__ import annotations

import math
from collections.abc import Callable

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between, require_target
from stepwell.core.clock import Horizon
from stepwell.core.duration import Duration
from stepwell.core.slots import ClockSchedule, Drive

__all__ = ["WarmRestarts", "warm_restarts"]


def warm_restarts(peak: float, *, first_cycle: float, growth: int = 1, floor: float = 0.0) -> Callable[[float], float]:
    """A function of what is completed: half a cosine from peak to floor in every cycle, the peak again at each restart.

    Args:
        peak: the value at the start of each cycle.
        first_cycle: length of the first cycle (T_0), in the unit of `done`, > 0.
        growth: how many times as long each cycle is as the one before (T_mult), an int >= 1.
        floor: what a cycle falls towards; the restart comes in its place.

    Paper: Loshchilov & Hutter 2017, arXiv:1608.03983 (eq. 5).

    >>> rate = warm_restarts(1.0, first_cycle=10, growth=2)
    >>> [round(rate(done), 3) for done in (0, 5, 10, 20, 30)]
    [1.0, 0.5, 1.0, 0.5, 1.0]
    """

    def value(done: float) -> float:
        start, length = 0.0, first_cycle
        if growth == 1:
            start = math.floor(done / first_cycle) * first_cycle
        else:
            while done >= start + length:
                start, length = start + length, length * growth
        return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * (done - start) / length))

    return value


@technique(
    id="warm_restarts",
    slot="schedule",
    paper="Loshchilov & Hutter 2017, arXiv:1608.03983",
    search={"first_cycle": ("10%", "20%", "25%", "50%"), "floor": (0.001, 0.1, "log")},
)
class WarmRestarts:
    """Restart a cosine decay at the peak, each cycle as long as or longer than the last.

    What: see `warm_restarts`; the peak is the configured value. Why: each restart can leave a poor basin, the end of every
    cycle is a usable model, and the points there average well (swa). When not: for the best single model at the end of a
    known budget, where one long cosine usually wins; a run that ends inside a cycle ends at a high rate, so choose cycles
    that fill the budget (with growth 2: 1, 3, 7 or 15 times the first).

    Args:
        first_cycle: length of the first cycle (T_0), a duration > 0, at most the budget.
        growth: how many times as long each cycle is as the one before (T_mult), an int >= 1.
        floor: what a cycle falls towards, as a fraction of the peak, in [0, 1]; 1 changes nothing.
        drives: what it moves, "optimizer.lr" or "ID.FIELD" of any technique in the recipe.

    Raises:
        JobError: a value outside its range, a duration without a unit, a first cycle longer than the budget.

    Paper: Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, arXiv:1608.03983.

    >>> schedule = WarmRestarts(first_cycle="10 epochs", growth=2)(Horizon.of("30 epochs", steps_per_epoch=2))
    >>> [round(schedule.drives[0].value(done), 3) for done in (0, 19, 20, 40)]
    [1.0, 0.016, 1.0, 0.505]
    """

    first_cycle: str = "25%"
    growth: int = 1
    floor: float = 0.01
    drives: str = "optimizer.lr"

    def __post_init__(self) -> None:
        first = Duration.parse(self.first_cycle, name="warm_restarts.first_cycle")
        require(first.amount > 0, "warm_restarts.first_cycle", self.first_cycle, "a duration above 0", 'Write e.g. "25%"')
        whole = isinstance(self.growth, int) and self.growth >= 1
        require(whole, "warm_restarts.growth", self.growth, "a whole number of at least 1", "Try 1 or 2")
        require_between("warm_restarts.floor", self.floor, 0, 1, "Give it as a fraction of the peak, e.g. 0.01")
        require_target("warm_restarts.drives", self.drives)

    def __call__(self, horizon: Horizon) -> ClockSchedule:
        first = horizon.amount_within(self.first_cycle, name="warm_restarts.first_cycle", example="25%")
        value = warm_restarts(1.0, first_cycle=first, growth=self.growth, floor=self.floor)
        return ClockSchedule((Drive(self.drives, value),))
