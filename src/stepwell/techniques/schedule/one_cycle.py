"""One cycle: the rate rises and falls once over the run, the momentum the other way round."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between, require_target
from stepwell.core.clock import Horizon
from stepwell.core.duration import Duration
from stepwell.core.slots import ClockSchedule, Drive

__all__ = ["Knot", "OneCycle", "anneal_through", "one_cycle"]

Anneal = Literal["cos", "linear"]


@dataclass(frozen=True, slots=True)
class Knot:
    """A value that is reached when `done` is completed."""

    done: float
    value: float


def anneal_through(knots: Sequence[Knot], *, anneal: Anneal = "cos") -> Callable[[float], float]:
    """A function of what is completed that passes through the knots, and stays at the last one beyond it.

    Args:
        knots: at least two, in order of `done`.
        anneal: between two knots, half a cosine or a straight line.

    >>> [anneal_through([Knot(0, 1.0), Knot(4, 3.0)], anneal="linear")(done) for done in (0, 2, 4, 9)]
    [1.0, 2.0, 3.0, 3.0]
    """
    pairs = list(pairwise(knots))

    def value(done: float) -> float:
        begin, end = next((pair for pair in pairs if done <= pair[1].done), pairs[-1])
        width = end.done - begin.done
        fraction = min((done - begin.done) / width, 1.0) if width > 0 else 1.0
        if anneal == "linear":
            return begin.value + (end.value - begin.value) * fraction
        return end.value + (begin.value - end.value) * 0.5 * (1.0 + math.cos(math.pi * fraction))

    return value


def one_cycle(
    *,
    total: float,
    warmup: float,
    start: float,
    peak: float,
    end: float,
    per_step: float = 1.0,
    anneal: Anneal = "cos",
    phases: Literal["two", "three"] = "two",
) -> Callable[[float], float]:
    """One cycle of any quantity: start -> peak -> end, or start -> peak -> start -> end in three phases.

    The first step gets `start`, the last of the warmup `peak`, the last of the run `end`. In three phases the way
    back to `start` is as long as the warmup.

    Args:
        total: length of the run, in the unit of `done`.
        warmup: length of the first phase, in the same unit; at most total, in three phases at most total / 2.
        start, peak, end: the values at the knots.
        per_step: what one step adds to `done`.
        anneal: half cosines or straight lines.

    >>> rate = one_cycle(total=11, warmup=6, start=0.0, peak=10.0, end=0.0, anneal="linear")
    >>> [rate(done) for done in (0, 1, 5, 6, 10)]
    [0.0, 2.0, 10.0, 8.0, 0.0]
    """
    top, last = warmup - per_step, total - per_step
    knots = [Knot(0.0, start), Knot(top, peak), Knot(last, end)]
    if phases == "three":
        knots.insert(2, Knot(2 * top, start))
    return anneal_through(knots, anneal=anneal)


@technique(
    id="one_cycle",
    slot="schedule",
    paper="Smith & Topin 2019, arXiv:1708.07120",
    search={"warmup": ("10%", "30%", "45%"), "div_factor": (5.0, 50.0, "log")},
)
class OneCycle:
    """Raise the rate to its peak and bring it far below its start, while the momentum does the opposite.

    What: rate peak/div_factor -> peak -> (peak/div_factor)/final_div_factor; momentum high -> low -> high. The peak is
    the configured value. The final rate counts from the *initial* rate, as in torch (with the defaults peak / 250,000);
    texts that say peak/1e4 mean final_div_factor=400. Momentum is SGD's `momentum` or beta1 of the Adam family.
    Why: the high middle regularises, the low end settles, often in a fraction of the epochs. When not: runs that will
    be prolonged or cut short, since the cycle is tied to the budget.

    Args:
        warmup: length of the rise, a duration; at most the budget, in three phases at most half of it.
        div_factor: peak / initial rate, >= 1.
        final_div_factor: initial / final rate, > 0.
        anneal: "cos" or "linear".
        phases: "two" falls straight to the final rate; "three" returns to the initial rate first, as in the paper.
        momentum: "cycle", or "keep" to leave it alone. Only cycled where the schedule drives optimizer.lr.
        momentum_low: at the peak, in [0, 1). momentum_high: at both ends, in [momentum_low, 1).
        drives: what it moves, "optimizer.lr" or "ID.FIELD" of any technique in the recipe.

    Raises:
        JobError: a value outside its range, a warmup that doesn't fit the budget.

    Paper: Smith & Topin, "Super-Convergence", 2019, arXiv:1708.07120.

    >>> schedule = OneCycle()(Horizon.of("100 steps"))
    >>> rate, momentum = schedule.drives
    >>> [round(rate.value(done), 4) for done in (0, 29, 99)], momentum.value(29)
    ([0.04, 1.0, 0.0], 0.85)
    """

    warmup: str = "30%"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    anneal: Literal["cos", "linear"] = "cos"
    phases: Literal["two", "three"] = "two"
    momentum: Literal["cycle", "keep"] = "cycle"
    momentum_low: float = 0.85
    momentum_high: float = 0.95
    drives: str = "optimizer.lr"

    def __post_init__(self) -> None:
        Duration.parse(self.warmup, name="one_cycle.warmup")
        require(self.div_factor >= 1, "one_cycle.div_factor", self.div_factor, "a number of at least 1", "torch's default is 25")
        factor = self.final_div_factor
        require(factor > 0, "one_cycle.final_div_factor", factor, "a number above 0", "torch's default is 10000")
        choices = {"anneal": ("cos", "linear"), "phases": ("two", "three"), "momentum": ("cycle", "keep")}
        for name, known in choices.items():
            value = getattr(self, name)
            require(value in known, f"one_cycle.{name}", value, " or ".join(map(repr, known)), f"Write {known[0]!r}")
        require_between("one_cycle.momentum_low", self.momentum_low, 0, 1, "The paper uses 0.85", ends="[)")
        low, high = self.momentum_low, self.momentum_high
        require(
            low <= high < 1, "one_cycle.momentum_high", high, f"a number in [momentum_low = {low:g}, 1)", "The paper uses 0.95"
        )
        require_target("one_cycle.drives", self.drives)

    def __call__(self, horizon: Horizon) -> ClockSchedule:
        total, per_step = horizon.total, horizon.per_step
        warmup = horizon.amount(self.warmup, name="one_cycle.warmup")
        limit = total / 2 if self.phases == "three" else total
        expected = f"at most {limit:g} {horizon.unit} of the budget's {total:g}"
        require(warmup <= limit, "one_cycle.warmup", self.warmup, expected, 'Write it in %, e.g. "30%", or train longer')
        start = 1.0 / self.div_factor

        def cycle(start: float, peak: float, end: float) -> Callable[[float], float]:
            return one_cycle(
                total=total,
                warmup=warmup,
                start=start,
                peak=peak,
                end=end,
                per_step=per_step,
                anneal=self.anneal,
                phases=self.phases,
            )

        drives = [Drive(self.drives, cycle(start, 1.0, start / self.final_div_factor))]
        if self.momentum == "cycle" and self.drives == "optimizer.lr":
            high = self.momentum_high
            drives.append(Drive("optimizer.momentum", cycle(high, self.momentum_low, high), mode="set"))
        return ClockSchedule(tuple(drives))
