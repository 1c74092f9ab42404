"""What a sweep's curve says about the learning rate: four rules, and the reasons for which there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Literal

from stepwell.core.check import require, require_one_of
from stepwell.doctor.lr_sweep import Curve

Rule = Literal["steepest", "valley", "divergence", "minimum"]
RULES: tuple[Rule, ...] = ("steepest", "valley", "divergence", "minimum")
MINIMUM_SHARE = 0.2  # between the 1/10 and the 1/3 of the usual advice
_HALF_WINDOW = 2  # steps on either side that are averaged
_BEGUN = 0.05  # of the whole fall: where the valley begins
_RISEN = 0.25  # of the whole fall: where the loss has begun to rise
LEAST_FALL = 0.01  # of the loss at the start: less isn't worth a training
LEAST_CERTAINTY = 4.0  # standard errors, for the best of some dozen places
SURE_FALL = 0.05  # of the loss at the start, in every repeat: pure noise reached 0.016 in batches of 32


@dataclass(frozen=True)
class Reading:
    """A curve without the differences from batch to batch, and its marks.

    Args:
        rates, losses: the curve; losses are the mean loss before training less what training has gained at each rate.
        bottom: rate of the lowest loss.
        steepest: rate at which the loss falls fastest per factor of the rate.
        valley: geometric middle of the stretch from where 5 % of the fall are behind to the bottom.
        rises: the first rate above the bottom at which a quarter of the fall is lost again; the last rate where none is.
        fall: from the start to the lowest loss.
    """

    rates: list[float]
    losses: list[float]
    bottom: float
    steepest: float
    valley: float
    rises: float
    fall: float


def gains(curve: Curve) -> list[float]:
    """How much lower each step's loss was than with the weights from before the sweep."""
    return [still - loss for still, loss in zip(curve.still, curve.losses, strict=True)]


def smoothed(values: Sequence[float]) -> list[float]:
    """Averages over five neighbours, weighted 1 2 3 2 1; at the ends over those that are there.

    >>> smoothed([0.0, 0.0, 9.0, 0.0, 0.0])[2]
    3.0
    """
    found = []
    for place in range(len(values)):
        near = range(max(place - _HALF_WINDOW, 0), min(place + _HALF_WINDOW + 1, len(values)))
        weights = [_HALF_WINDOW + 1 - abs(other - place) for other in near]
        found.append(sum(weight * values[other] for weight, other in zip(weights, near, strict=True)) / sum(weights))
    return found


def reading_of(curve: Curve) -> Reading:
    """Find a curve's marks.

    Args:
        curve: of three steps at least.
    """
    start = fmean(curve.still)
    losses = [start - gain for gain in smoothed(gains(curve))]
    bottom = min(range(len(losses)), key=losses.__getitem__)
    fall = losses[0] - losses[bottom]
    # Rates grow by one factor: differences of the loss from step to step are slopes over the rate's logarithm.
    slopes = [losses[min(at + 1, bottom)] - losses[max(at - 1, 0)] for at in range(bottom + 1)]
    steepest = min(range(bottom + 1), key=slopes.__getitem__)
    begun = next(at for at, loss in enumerate(losses) if losses[0] - loss >= _BEGUN * fall)
    above = range(bottom, len(losses))
    rises = next((at for at in above if losses[at] - losses[bottom] > _RISEN * fall), len(losses) - 1)
    rates = curve.rates
    valley = math.sqrt(rates[begun] * rates[bottom])
    return Reading(rates, losses, rates[bottom], rates[steepest], valley, rates[rises], fall)


def suggested(reading: Reading, rule: Rule, *, minimum_share: float = MINIMUM_SHARE) -> float:
    """The learning rate that a rule takes from a curve.

    Args:
        rule: "steepest" and "valley" take these marks; "divergence" a tenth of where the loss begins to rise; "minimum"
            `minimum_share` of the rate of the lowest loss.
        minimum_share: in [0.1, 1/3].

    Raises:
        JobError: an unknown rule, or a share outside its range.

    Paper: Smith 2017, arXiv:1506.01186 (the test and its first readings).
    """
    require_one_of("rule", rule, RULES)
    good = 0.1 <= minimum_share <= 1 / 3 + 1e-9
    require(good, "minimum_share", minimum_share, "a number from 0.1 to 1/3", f"The default is {MINIMUM_SHARE}")
    if rule == "divergence":
        return reading.rises / 10
    if rule == "minimum":
        return reading.bottom * minimum_share
    return reading.steepest if rule == "steepest" else reading.valley


@dataclass(frozen=True)
class Refusal:
    """Why no learning rate will do.

    Args:
        reason: in words.
        final: whether it is beyond doubt; else longer trainings may tell.
    """

    reason: str
    final: bool = True


def refusal(curves: Sequence[Curve]) -> Refusal | None:
    """Why no learning rate will do, or None.

    Args:
        curves: of the repeats, all of one sweep.
    """
    short = [curve for curve in curves if len(curve.rates) < 2 * _HALF_WINDOW + 1]
    if 2 * len(short) > len(curves):
        return Refusal("the loss or its gradient isn't finite from the first steps on, at rates too small to change anything")
    curves = [curve for curve in curves if curve not in short]
    if all(norm == 0.0 for curve in curves for norm in curve.grad_norms):
        return Refusal("the gradient is exactly 0 in every step: nothing that is trained has any effect on the loss")
    start = fmean(value for curve in curves for value in curve.still)
    all_gains = [gains(curve) for curve in curves]
    falls = [max(smoothed(values)) for values in all_gains]
    fall, sure = median(falls), min(falls) >= SURE_FALL * abs(start)
    told = f"at best to {max(fall, 0.0) / abs(start) if start else 0.0:.1%} below its start, {start:.4g}"
    if fall < LEAST_FALL * abs(start) or fall <= 0:
        return Refusal(f"the loss never falls: {told}, which is chance or too little to matter")
    if not sure and _certainty(all_gains) < LEAST_CERTAINTY:
        return Refusal(f"the loss never falls by more than chance explains: {told}", final=False)
    return None


def _certainty(all_gains: Sequence[Sequence[float]]) -> float:
    """How many standard errors the mean gain of five neighbouring rates, over all repeats, is above 0 where it is largest."""
    found, largest = 0.0, 0.0
    for place in range(min(map(len, all_gains)) - 2 * _HALF_WINDOW):
        window = [value for values in all_gains for value in values[place : place + 2 * _HALF_WINDOW + 1]]
        mean, error = fmean(window), stdev(window) / math.sqrt(len(window))
        if mean > largest:
            found, largest = mean / error if error else math.inf, mean
    return found
