"""Warmup: a linear rise at the start that multiplies whatever else moves the value."""

from __future__ import annotations

from collections.abc import Callable

from stepwell.core.catalog import technique
from stepwell.core.check import require_between, require_target
from stepwell.core.clock import Horizon
from stepwell.core.duration import Duration
from stepwell.core.slots import ClockSchedule, Drive

__all__ = ["Warmup", "warmup"]


def warmup(*, length: float, start: float = 0.0, per_step: float = 1.0) -> Callable[[float], float]:
    """A factor: start + (1 - start) * (done + per_step) / length while done < length, then 1.

    Args:
        length: of the rise, in the unit of `done`, >= 0; 0 for none.
        start: where the rise begins, in [0, 1]. The first step already gets one step's share more, so it is never 0.
        per_step: what one step adds to `done`.

    Paper: Goyal et al. 2017, arXiv:1706.02677 (section 2.2).

    >>> [warmup(length=4)(done) for done in range(6)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    >>> [warmup(length=4, start=0.5)(done) for done in range(5)]
    [0.625, 0.75, 0.875, 1.0, 1.0]
    """

    def value(done: float) -> float:
        return start + (1.0 - start) * min((done + per_step) / length, 1.0) if done < length else 1.0

    return value


@technique(
    id="warmup",
    slot="schedule",
    role="factor",
    paper="Goyal et al. 2017, arXiv:1706.02677",
    search={"length": ("1%", "5%", "10%")},
)
class Warmup:
    """Rise linearly at the start, on top of any other schedule.

    What: a factor from `start` to 1 over `length`; it multiplies the schedule that stands beside it (step, plateau, noam,
    ...), or the configured value where there is none. Why: early gradients are large and noisy, an adaptive optimizer
    divides by moments that are estimated from a few of them, and a rate scaled up for large batches needs time. When
    not: beside a schedule that has a rise of its own (warmup_cosine, warmup_linear, one_cycle, noam): the two multiply.

    Args:
        length: of the rise, a duration, at most the budget; "0 steps" for none. 5 epochs (the paper), 1-10 %, or 4000
            steps are usual.
        start: the factor from which it rises, in [0, 1], for a warmup that doesn't start near zero; 1 changes nothing.
            The first step gets start + (1 - start) / length (in steps), never 0.
        drives: what it moves, "optimizer.lr" or "ID.FIELD" of any technique in the recipe.

    Raises:
        JobError: a start outside [0, 1], a duration without a unit, a rise longer than the budget.

    Paper: Goyal et al., "Accurate, Large Minibatch SGD", 2017, arXiv:1706.02677, section 2.2.

    >>> schedule = Warmup(length="10%", start=0.1)(Horizon.of("100 steps"))
    >>> [round(schedule.drives[0].value(done), 3) for done in (0, 4, 9, 10, 99)]
    [0.19, 0.55, 1.0, 1.0, 1.0]
    """

    length: str = "5%"
    start: float = 0.0
    drives: str = "optimizer.lr"

    def __post_init__(self) -> None:
        Duration.parse(self.length, name="warmup.length")
        require_between("warmup.start", self.start, 0, 1, "Give it as a fraction of the peak, e.g. 0.1")
        require_target("warmup.drives", self.drives)

    def __call__(self, horizon: Horizon) -> ClockSchedule:
        length = horizon.amount_within(self.length, name="warmup.length")
        return ClockSchedule((Drive(self.drives, warmup(length=length, start=self.start, per_step=horizon.per_step)),))
