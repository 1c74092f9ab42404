"""Warmup, stable, decay: a rise, a long plateau at the peak, a decay at the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between, require_one_of, require_target
from stepwell.core.clock import Horizon
from stepwell.core.duration import Duration
from stepwell.core.rise import after_rise
from stepwell.core.slots import ClockSchedule, Drive

__all__ = ["WarmupStableDecay", "warmup_stable_decay"]

Shape = Literal["sqrt", "linear", "cosine"]
_SHAPES: dict[str, Callable[[float], float]] = {
    "sqrt": lambda progress: 1.0 - math.sqrt(progress),
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}


def warmup_stable_decay(
    peak: float,
    *,
    warmup: float,
    decay: float,
    total: float,
    floor: float = 0.0,
    shape: Shape = "sqrt",
    per_step: float = 1.0,
) -> Callable[[float], float]:
    """A function of what is completed before a step: the value for that step.

    Done < warmup: peak * (done + per_step) / warmup. Then the peak until total - decay. Then, with p the share of the decay
    that is completed, floor + (peak - floor) * f(p): f is 1 - sqrt(p), 1 - p, or (1 + cos(pi p)) / 2; `floor` beyond
    `total`.

    Args:
        peak: the highest value.
        warmup: length of the rise, in the unit of `done`, >= 0.
        decay: length of the decay at the end, in the same unit, >= 0; warmup + decay <= total.
        total: length of the run.
        floor: the value that is reached when `total` is completed, in the unit of `peak`.
        per_step: what one step adds to `done`.

    Paper: Hägele et al. 2024, arXiv:2405.18392 (1 - sqrt); Hu et al. 2024, arXiv:2404.06395 (WSD).

    >>> rate = warmup_stable_decay(8.0, warmup=2, decay=4, total=10)
    >>> [rate(done) for done in (0, 1, 2, 6, 7, 10)]
    [4.0, 8.0, 8.0, 8.0, 4.0, 0.0]
    """
    start, falling = total - decay, _SHAPES[shape]

    def then(done: float) -> float:
        return peak if done <= start else floor + (peak - floor) * falling(min((done - start) / decay, 1.0))

    return after_rise(peak, then, warmup=warmup, per_step=per_step)


@technique(
    id="warmup_stable_decay",
    slot="schedule",
    paper="Hägele et al. 2024, arXiv:2405.18392; Hu et al. 2024, arXiv:2404.06395",
    search={"decay": ("10%", "20%", "40%"), "warmup": ("1%", "2%", "5%")},
)
class WarmupStableDecay:
    """Rise to the peak, stay there, and decay at the end.

    What: see `warmup_stable_decay`; the peak is the configured value. Why: matches a cosine of the same length, and until
    the decay begins nothing depends on the length: a checkpoint of the stable part can be prolonged, or cooled down at
    several lengths. When not: very short runs, where the plateau has no time to pay off.

    Args:
        warmup: length of the rise, a duration; "0 steps" for none.
        decay: length of the decay at the end, a duration; warmup and decay together fit into the budget. 10-20 % is
            usual. "0 steps" never decays.
        shape: of the decay: "sqrt" is 1 - sqrt(p) (the paper's best), "linear" 1 - p, "cosine" half a cosine.
        floor: where the decay ends, as a fraction of the peak, in [0, 1].
        drives: what it moves, "optimizer.lr" or "ID.FIELD" of any technique in the recipe.

    Raises:
        JobError: a value outside its range, a duration without a unit, a warmup and a decay longer than the budget.

    Paper: Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", NeurIPS 2024,
    arXiv:2405.18392; the name: Hu et al., "MiniCPM", 2024, arXiv:2404.06395.

    >>> schedule = WarmupStableDecay(warmup="10%", shape="linear")(Horizon.of("100 steps"))
    >>> [round(schedule.drives[0].value(done), 3) for done in (0, 10, 80, 90, 100)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """

    warmup: str = "5%"
    decay: str = "20%"
    shape: Shape = "sqrt"
    floor: float = 0.0
    drives: str = "optimizer.lr"

    def __post_init__(self) -> None:
        Duration.parse(self.warmup, name="warmup_stable_decay.warmup")
        Duration.parse(self.decay, name="warmup_stable_decay.decay")
        require_one_of("warmup_stable_decay.shape", self.shape, tuple(_SHAPES))
        require_between("warmup_stable_decay.floor", self.floor, 0, 1, "Give it as a fraction of the peak, e.g. 0.01")
        require_target("warmup_stable_decay.drives", self.drives)

    def __call__(self, horizon: Horizon) -> ClockSchedule:
        warmup = horizon.amount(self.warmup, name="warmup_stable_decay.warmup")
        decay = horizon.amount(self.decay, name="warmup_stable_decay.decay")
        total = horizon.total
        fix = 'Write it in %, e.g. "5%", or train longer'
        expected = f"at most the budget, {total:g} {horizon.unit}"
        require(warmup <= total, "warmup_stable_decay.warmup", self.warmup, expected, fix)
        expected = f"at most what the warmup leaves of the budget, {total - warmup:g} {horizon.unit}"
        # Two shares that add up to the budget may exceed it by rounding.
        require(decay <= (total - warmup) * (1 + 1e-12), "warmup_stable_decay.decay", self.decay, expected, fix)
        value = warmup_stable_decay(
            1.0, warmup=warmup, decay=decay, total=total, floor=self.floor, shape=self.shape, per_step=horizon.per_step
        )
        return ClockSchedule((Drive(self.drives, value),))
