"""Warmup and cosine: a linear rise to the peak, then half a cosine down to a floor."""

from __future__ import annotations

import math
from collections.abc import Callable

from stepwell.core.catalog import technique
from stepwell.core.check import require_between, require_target
from stepwell.core.clock import Horizon
from stepwell.core.duration import Duration
from stepwell.core.rise import after_rise, share_after
from stepwell.core.slots import ClockSchedule, Drive

__all__ = ["WarmupCosine", "warmup_cosine"]


def warmup_cosine(
    peak: float, *, warmup: float, total: float, floor: float = 0.0, per_step: float = 1.0
) -> Callable[[float], float]:
    """A function of what is completed before a step: the value for that step.

    Done < warmup: peak * (done + per_step) / warmup, so the first step gets peak / warmup (in steps) and never 0.
    Then floor + (peak - floor) / 2 * (1 + cos(pi * (done - warmup) / (total - warmup))), and `floor` beyond `total`.

    Args:
        peak: the highest value.
        warmup: length of the rise, in the unit of `done`, 0 <= warmup <= total; 0 for none.
        total: length of the run, in the same unit.
        floor: the value that is reached when `total` is completed, in the unit of `peak`.
        per_step: what one step adds to `done`.

    Paper: Loshchilov & Hutter 2017, arXiv:1608.03983 (eq. 5); warmup: Goyal et al. 2017, arXiv:1706.02677.

    >>> rate = warmup_cosine(0.1, warmup=5, total=105)
    >>> [round(rate(done), 6) for done in (0, 4, 5, 55, 105)]
    [0.02, 0.1, 0.1, 0.05, 0.0]
    """

    def fall(done: float) -> float:
        progress = share_after(done, start=warmup, total=total)
        return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return after_rise(peak, fall, warmup=warmup, per_step=per_step)


@technique(
    id="warmup_cosine",
    slot="schedule",
    paper="Loshchilov & Hutter 2017, arXiv:1608.03983; Goyal et al. 2017, arXiv:1706.02677",
    search={"warmup": ("1%", "5%", "10%"), "floor": (0.001, 0.1, "log")},
)
class WarmupCosine:
    """Rise linearly to the peak, then follow half a cosine down to a floor.

    What: see `warmup_cosine`; the peak is the configured value, so it is a factor. Why: the warmup keeps early, noisy
    gradients from large steps (adaptive optimizers and transformers need it), the cosine spends long at useful rates
    and ends low. When not: runs whose length isn't known, or that will be prolonged: the decay is tied to the budget.

    Args:
        warmup: length of the rise, a duration, at most the budget. 1-10 % is usual.
        floor: where the cosine ends, as a fraction of the peak, in [0, 1]. 0.01 keeps the last steps from being wasted.
        drives: what it moves, "optimizer.lr" or "ID.FIELD" of any technique in the recipe.

    Raises:
        JobError: a floor outside [0, 1], a duration without a unit, a warmup longer than the budget.

    Paper: Loshchilov & Hutter, "SGDR", ICLR 2017, arXiv:1608.03983; Goyal et al. 2017, arXiv:1706.02677 (warmup).

    >>> schedule = WarmupCosine(warmup="10%", floor=0.0)(Horizon.of("100 steps"))
    >>> [round(schedule.drives[0].value(done), 3) for done in (0, 9, 10, 55, 100)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """

    warmup: str = "5%"
    floor: float = 0.01
    drives: str = "optimizer.lr"

    def __post_init__(self) -> None:
        Duration.parse(self.warmup, name="warmup_cosine.warmup")
        require_between("warmup_cosine.floor", self.floor, 0, 1, "Give it as a fraction of the peak, e.g. 0.01")
        require_target("warmup_cosine.drives", self.drives)

    def __call__(self, horizon: Horizon) -> ClockSchedule:
        warmup = horizon.amount_within(self.warmup, name="warmup_cosine.warmup")
        value = warmup_cosine(1.0, warmup=warmup, total=horizon.total, floor=self.floor, per_step=horizon.per_step)
        return ClockSchedule((Drive(self.drives, value),))
