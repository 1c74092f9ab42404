"""Multistep decay: multiply the rate by a factor at each of several places."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between, require_target
from stepwell.core.clock import Horizon
from stepwell.core.duration import Duration
from stepwell.core.slots import ClockSchedule, Drive

__all__ = ["Multistep", "multistep"]


def multistep(peak: float, *, milestones: Sequence[float], gamma: float = 0.1) -> Callable[[float], float]:
    """A function of what is completed: peak * gamma ** (number of milestones at or before it).

    Args:
        peak: the value before the first milestone.
        milestones: places of the drops, in the unit of `done`, in any order; one that is there twice drops twice.
        gamma: what each drop multiplies by, in (0, 1].

    >>> [round(multistep(1.0, milestones=[30, 60, 80])(epoch), 6) for epoch in (29, 30, 60, 79, 80)]
    [1.0, 0.1, 0.01, 0.01, 0.001]
    """
    places = sorted(milestones)

    def value(done: float) -> float:
        return peak * gamma ** bisect_right(places, done)

    return value


@technique(
    id="multistep",
    slot="schedule",
    paper="He et al. 2016, arXiv:1512.03385; torch.optim.lr_scheduler.MultiStepLR",
    search={"gamma": (0.05, 0.5, "log")},
)
class Multistep:
    """Multiply the rate by a factor at each of several places.

    What: gamma ** (number of milestones passed) times the configured value. Why: published recipes of residual networks
    are written like this, and drops can be put where a loss curve has flattened. When not: where nobody knows such
    places: a cosine needs none, plateau finds them.

    Args:
        milestones: places of the drops, durations, each at most the budget; at least one.
        gamma: what each drop multiplies by, in (0, 1]; 1 changes nothing.
        drives: what it moves, "optimizer.lr" or "ID.FIELD" of any technique in the recipe.

    Raises:
        JobError: a value outside its range, a duration without a unit, a milestone beyond the budget.

    Paper: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385, section 4.2.

    >>> schedule = Multistep(milestones=("50%", "75 steps"), gamma=0.5)(Horizon.of("100 steps"))
    >>> [schedule.drives[0].value(done) for done in (0, 49, 50, 74, 75)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    milestones: tuple[str, ...] = ("30%", "60%", "80%")
    gamma: float = 0.1
    drives: str = "optimizer.lr"

    def __post_init__(self) -> None:
        good = isinstance(self.milestones, (list, tuple)) and len(self.milestones) > 0
        require(good, "multistep.milestones", self.milestones, "a list of durations", 'Write e.g. ["50%", "75%"]')
        for milestone in self.milestones:
            Duration.parse(milestone, name="multistep.milestones")
        require_between("multistep.gamma", self.gamma, 0, 1, "Try 0.1, or 1 for no drops", ends="(]")
        require_target("multistep.drives", self.drives)

    def __call__(self, horizon: Horizon) -> ClockSchedule:
        name = "multistep.milestones"
        places = [horizon.amount_within(milestone, name=name, example="75%") for milestone in self.milestones]
        return ClockSchedule((Drive(self.drives, multistep(1.0, milestones=places, gamma=self.gamma)),))
