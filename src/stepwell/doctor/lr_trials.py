"""Trial trainings: which learning rate the job itself ends best with, searched from where the sweeps point."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

SCOUT_SHARE = 8  # a scout trains for this part of a trial
LEAST_SCOUT_STEPS = 20
_SCOUT_FACTOR = math.sqrt(10)
_STEP = 2.0  # between neighbouring trials
MOST_TRIALS = 10  # of one seed, before the refinement
CONTENDERS = 4  # where seeds differ by 5 to 10 % in the loss, the best of one seed alone is often a neighbour of the best


@dataclass(frozen=True)
class Trial:
    """One training with one learning rate.

    Args:
        rate: the learning rate.
        num_steps: optimizer steps.
        seed: of the training.
        loss: what it ended with, on validation data where there are some; infinite where it diverged.
        kind: a "scout" is short and shows where to look; a "trial" decides.
    """

    rate: float
    num_steps: int
    seed: int
    loss: float
    kind: Literal["scout", "trial"] = "trial"


Run = Callable[[float, int, int], float]  # (rate, num_steps, number of the repeat) -> loss at the end


@dataclass(frozen=True)
class Bounds:
    """Between which rates trials look, and where they begin.

    Args:
        low, high: of the scouts.
        ceiling: of all trials.
        num_steps: of a trial.
    """

    low: float
    high: float
    ceiling: float
    num_steps: int


def scouted(run: Run, bounds: Bounds) -> list[Trial]:
    """Short trainings over the whole range, from the highest rate down, each a half decade below the last."""
    num_steps = max(bounds.num_steps // SCOUT_SHARE, LEAST_SCOUT_STEPS)
    count = 1 + max(round(math.log(bounds.high / bounds.low) / math.log(_SCOUT_FACTOR)), 1)
    rates = [bounds.high / _SCOUT_FACTOR**place for place in range(count)]
    return [Trial(rate, num_steps, 0, run(rate, num_steps, 0), "scout") for rate in rates]


def longer(rate: float, *, before: int, now: int) -> float:
    """A rate for a longer training than the one it was best in: it falls with the square root of the length.

    Measured on the development jobs of benchmarks/lr_finder.py: trainings of an eighth of the length take 2.5 times the rate.

    >>> longer(0.8, before=100, now=400)
    0.4
    """
    return rate * math.sqrt(before / now)


def climbed(run: Run, start: float, bounds: Bounds) -> list[Trial]:
    """Trials around a rate, each twice its neighbour's, until the best one has both neighbours; then two between."""
    losses: dict[int, float] = {}

    def rate_at(place: float) -> float:
        return float(min(start * _STEP**place, bounds.ceiling))

    def tried(place: int) -> float:
        if place not in losses:
            losses[place] = run(rate_at(place), bounds.num_steps, 0)
        return losses[place]

    for place in (0, 1, -1):
        tried(place)
    while len(losses) < MOST_TRIALS:
        at = min(losses, key=losses.__getitem__)
        if math.isinf(losses[at]):  # all diverged
            at = min(losses)
        leap = 1 if len(losses) < 4 else 2  # far from the best: it is filled in afterwards
        wanted = [at + leap] if at == max(losses) else [at - leap] if at == min(losses) else [at - 1, at + 1]
        wanted = [place for place in wanted if place not in losses and rate_at(place) not in map(rate_at, losses)]
        if not wanted:
            break
        tried(wanted[0])
    trials = [Trial(rate_at(place), bounds.num_steps, 0, loss) for place, loss in losses.items()]
    at, best = min(losses.items(), key=lambda pair: pair[1])
    if math.isfinite(best):
        for rate in sorted({rate_at(at - 0.5), rate_at(at + 0.5)} - {trial.rate for trial in trials}):
            trials.append(Trial(rate, bounds.num_steps, 0, run(rate, bounds.num_steps, 0)))
    return trials


def contested(run: Run, trials: list[Trial], *, repeats: int) -> list[Trial]:
    """The best few rates again, with the other repeats' seeds."""
    ranked = sorted((trial for trial in trials if math.isfinite(trial.loss)), key=lambda trial: trial.loss)
    rates = list(dict.fromkeys(trial.rate for trial in ranked))[:CONTENDERS]
    steps = trials[0].num_steps
    return [Trial(rate, steps, repeat, run(rate, steps, repeat)) for repeat in range(1, repeats) for rate in rates]


def winner(trials: list[Trial]) -> float | None:
    """The rate with the lowest mean loss, of those that were tried with the most seeds; None where all diverged."""
    losses: dict[float, list[float]] = {}
    for trial in trials:
        losses.setdefault(trial.rate, []).append(trial.loss)
    most = max(map(len, losses.values()))
    means = {rate: fmean(values) for rate, values in losses.items() if len(values) == most}
    best = min(means, key=means.__getitem__)
    return best if math.isfinite(means[best]) else None
