"""Cosine: from the peak down to a floor along half a cosine, or along several waves."""

from __future__ import annotations

import math
from collections.abc import Callable

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between, require_target
from stepwell.core.clock import Horizon
from stepwell.core.slots import ClockSchedule, Drive

__all__ = ["Cosine", "cosine"]


def cosine(peak: float, *, total: float, floor: float = 0.0, num_cycles: float = 0.5) -> Callable[[float], float]:
    """A function of what is completed: floor + (peak - floor) / 2 * (1 + cos(2 pi * num_cycles * done / total)).

    Args:
        peak: the value at the start.
        total: length of the run, in the unit of `done`; beyond it the last value stays.
        floor: the lowest value, in the unit of `peak`.
        num_cycles: whole waves over the run, > 0. 0.5 falls once, 1.5 falls, rises and falls again.

    Paper: Loshchilov & Hutter 2017, arXiv:1608.03983 (eq. 5).

    >>> [round(cosine(0.01, total=100, floor=0.0001)(epoch), 6) for epoch in (0, 25, 50, 75, 100)]
    [0.01, 0.00855, 0.00505, 0.00155, 0.0001]
    """

    def value(done: float) -> float:
        progress = min(done / total, 1.0)
        return floor + (peak - floor) * 0.5 * (1.0 + math.cos(2.0 * math.pi * num_cycles * progress))

    return value


@technique(
    id="cosine",
    slot="schedule",
    paper="Loshchilov & Hutter 2017, arXiv:1608.03983",
    search={"floor": (0.001, 0.1, "log")},
)
class Cosine:
    """Follow half a cosine from the peak down to a floor; with `num_cycles`, several waves.

    What: see `cosine`; the peak is the configured value, so it is a factor, and the first step gets the whole of it.
    Why: long at high rates, long at low ones, no abrupt drop, and the length of the run is all that has to be known. When
    not: adaptive optimizers, transformers and large batches want a warmup before it (warmup_cosine, or warmup beside it);
    runs that will be prolonged.

    Args:
        floor: the lowest value, as a fraction of the peak, in [0, 1]: 0.01 is max/100; 1 changes nothing.
        num_cycles: whole waves over the run, > 0: 0.5 falls once, 1.5 falls, rises smoothly and falls again; a whole
            number ends at the peak. For sudden restarts: warm_restarts.
        drives: what it moves, "optimizer.lr" or "ID.FIELD" of any technique in the recipe.

    Raises:
        JobError: a value outside its range.

    Paper: Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, arXiv:1608.03983.

    >>> schedule = Cosine(floor=0.0)(Horizon.of("100 steps"))
    >>> [round(schedule.drives[0].value(done), 3) for done in (0, 25, 50, 100)]
    [1.0, 0.854, 0.5, 0.0]
    """

    floor: float = 0.01
    num_cycles: float = 0.5
    drives: str = "optimizer.lr"

    def __post_init__(self) -> None:
        require_between("cosine.floor", self.floor, 0, 1, "Give it as a fraction of the peak, e.g. 0.01")
        good = 0 < self.num_cycles < math.inf
        require(good, "cosine.num_cycles", self.num_cycles, "a finite number above 0", "Try 0.5, which falls once")
        require_target("cosine.drives", self.drives)

    def __call__(self, horizon: Horizon) -> ClockSchedule:
        value = cosine(1.0, total=horizon.total, floor=self.floor, num_cycles=self.num_cycles)
        return ClockSchedule((Drive(self.drives, value),))
