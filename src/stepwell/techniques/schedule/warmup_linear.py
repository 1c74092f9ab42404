"""Warmup and linear decay: a straight rise to the peak, then a straight fall to a floor."""

from __future__ import annotations

from collections.abc import Callable

from stepwell.core.catalog import technique
from stepwell.core.check import require_between, require_target
from stepwell.core.clock import Horizon
from stepwell.core.duration import Duration
from stepwell.core.rise import after_rise, share_after
from stepwell.core.slots import ClockSchedule, Drive

__all__ = ["WarmupLinear", "warmup_linear"]


def warmup_linear(
    peak: float, *, warmup: float, total: float, floor: float = 0.0, per_step: float = 1.0
) -> Callable[[float], float]:
    """A function of what is completed before a step: the value for that step.

    Done < warmup: peak * (done + per_step) / warmup, so the first step gets peak / warmup (in steps) and never 0.
    Then peak - (peak - floor) * (done - warmup) / (total - warmup), and `floor` beyond `total`.

    Args:
        peak: the highest value.
        warmup: length of the rise, in the unit of `done`, 0 <= warmup <= total; 0 for none.
        total: length of the run, in the same unit.
        floor: the value that is reached when `total` is completed, in the unit of `peak`.
        per_step: what one step adds to `done`.

    Paper: Devlin et al. 2019, arXiv:1810.04805 (appendix A.2).

    >>> rate = warmup_linear(8.0, warmup=4, total=12)
    >>> [rate(done) for done in (0, 3, 4, 6, 8, 12)]
    [2.0, 8.0, 8.0, 6.0, 4.0, 0.0]
    """

    def fall(done: float) -> float:
        progress = share_after(done, start=warmup, total=total)
        return floor + (peak - floor) * (1.0 - progress)

    return after_rise(peak, fall, warmup=warmup, per_step=per_step)


@technique(
    id="warmup_linear",
    slot="schedule",
    paper="Devlin et al. 2019, arXiv:1810.04805; Goyal et al. 2017, arXiv:1706.02677",
    search={"warmup": ("1%", "5%", "10%"), "floor": (0.001, 0.1, "log")},
)
class WarmupLinear:
    """Rise linearly to the peak, then fall linearly to a floor.

    What: see `warmup_linear`; the peak is the configured value, so it is a factor. Why: the usual schedule for fine-tuning
    transformers, and hard to beat for AdamW under a fixed budget. When not: runs whose length isn't known, or that will
    be prolonged: the decay is tied to the budget.

    Args:
        warmup: length of the rise, a duration, at most the budget; "0 steps" for none. 1-10 % is usual.
        floor: where the decay ends, as a fraction of the peak, in [0, 1].
        drives: what it moves, "optimizer.lr" or "ID.FIELD" of any technique in the recipe.

    Raises:
        JobError: a floor outside [0, 1], a duration without a unit, a warmup longer than the budget.

    Paper: Devlin et al., "BERT", NAACL 2019, arXiv:1810.04805; warmup: Goyal et al. 2017, arXiv:1706.02677.

    >>> schedule = WarmupLinear(warmup="10%")(Horizon.of("100 steps"))
    >>> [round(schedule.drives[0].value(done), 3) for done in (0, 9, 10, 55, 100)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """

    warmup: str = "5%"
    floor: float = 0.0
    drives: str = "optimizer.lr"

    def __post_init__(self) -> None:
        Duration.parse(self.warmup, name="warmup_linear.warmup")
        require_between("warmup_linear.floor", self.floor, 0, 1, "Give it as a fraction of the peak, e.g. 0.01")
        require_target("warmup_linear.drives", self.drives)

    def __call__(self, horizon: Horizon) -> ClockSchedule:
        warmup = horizon.amount_within(self.warmup, name="warmup_linear.warmup")
        value = warmup_linear(1.0, warmup=warmup, total=horizon.total, floor=self.floor, per_step=horizon.per_step)
        return ClockSchedule((Drive(self.drives, value),))
