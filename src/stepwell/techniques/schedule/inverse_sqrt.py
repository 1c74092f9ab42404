"""Inverse square root: a linear rise to the peak, then 1 / sqrt of the step."""

from __future__ import annotations

import math
from collections.abc import Callable

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_target
from stepwell.core.clock import Horizon
from stepwell.core.duration import Duration
from stepwell.core.slots import ClockSchedule, Drive

__all__ = ["InverseSqrt", "inverse_sqrt"]


def inverse_sqrt(peak: float, *, warmup: float, per_step: float = 1.0) -> Callable[[float], float]:
    """A function of what is completed before a step: peak * min(t / w, sqrt(w / t)), with t = done + per_step.

    Args:
        peak: the highest value, reached by the last step of the warmup (t = w).
        warmup: w, length of the rise, in the unit of `done`; less than one step counts as one.
        per_step: what one step adds to `done`.

    Paper: the curve of Vaswani et al. 2017, arXiv:1706.03762, with its peak set freely.

    >>> [inverse_sqrt(8.0, warmup=4)(done) for done in (0, 1, 3, 15, 63)]
    [2.0, 4.0, 8.0, 4.0, 2.0]
    """
    rise = max(warmup, per_step)

    def value(done: float) -> float:
        place = (done + per_step) / rise
        return peak * min(place, 1.0 / math.sqrt(place))

    return value


@technique(
    id="inverse_sqrt",
    slot="schedule",
    paper="Vaswani et al. 2017, arXiv:1706.03762; Ott et al. 2019, arXiv:1904.01038 (fairseq)",
    search={"warmup": ("1%", "2%", "5%", "10%")},
)
class InverseSqrt:
    """Rise linearly to the peak, then fall with the inverse square root of the step.

    What: see `inverse_sqrt`; the peak is the configured value and no width of a model comes in. Why: the end of the run
    need not be known: the rate halves whenever the step count is four times as high, so a run can be prolonged. When
    not: for the best result at the end of a fixed budget: there it never gets low (warmup_cosine, warmup_stable_decay).

    Args:
        warmup: length of the rise, a duration > 0, at most the budget; it also sets how fast the rate falls. "4000 steps"
            is usual for translation models.
        drives: what it moves, "optimizer.lr" or "ID.FIELD" of any technique in the recipe.

    Raises:
        JobError: a duration without a unit, or 0, or longer than the budget.

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 5.3; in this form Ott et al., "fairseq", 2019, arXiv:1904.01038.

    >>> schedule = InverseSqrt(warmup="4 steps")(Horizon.of("100 steps"))
    >>> [schedule.drives[0].value(done) for done in (0, 3, 15, 99)]
    [0.25, 1.0, 0.5, 0.2]
    """

    warmup: str = "5%"
    drives: str = "optimizer.lr"

    def __post_init__(self) -> None:
        warmup = Duration.parse(self.warmup, name="inverse_sqrt.warmup")
        require(warmup.amount > 0, "inverse_sqrt.warmup", self.warmup, "a duration above 0", 'Write e.g. "4000 steps"')
        require_target("inverse_sqrt.drives", self.drives)

    def __call__(self, horizon: Horizon) -> ClockSchedule:
        warmup = horizon.amount_within(self.warmup, name="inverse_sqrt.warmup")
        return ClockSchedule((Drive(self.drives, inverse_sqrt(1.0, warmup=warmup, per_step=horizon.per_step)),))
