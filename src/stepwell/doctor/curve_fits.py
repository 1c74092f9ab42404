"""Measures of one logged series that hold for any unit, any noise and any logging density."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Level", "Swing", "certain_fall", "levels", "noise", "swing"]

Values = NDArray[np.float64]
NUM_LEVELS = 40  # of a whole series: enough for a shape, and dozens of rows each where many are logged
SURE = 3.5  # standard deviations: of the dozen places that are looked at, chance passes it in one of several hundred series
_NORMAL = 1.4826  # the median distance from the median, as a standard deviation of normal noise


def levels(steps: Values, values: Values, num: int = NUM_LEVELS) -> tuple[Values, Values]:
    """The medians of equally long stretches of steps: one spike moves none of them, and logging more often changes nothing.

    Args:
        steps, values: (rows,), finite, in order of steps.
        num: of stretches; series of at most so many rows come back as they are.

    >>> levels(np.arange(6.0), np.array([5.0, 5, 99, 1, 1, 1]), 2)[1]
    array([5., 1.])
    """
    if len(values) <= num or steps[-1] <= steps[0]:
        return steps, values
    which = np.minimum(((steps - steps[0]) / (steps[-1] - steps[0]) * num).astype(int), num - 1)
    cuts = np.flatnonzero(np.diff(which)) + 1
    starts, stops = np.r_[0, cuts], np.r_[cuts, len(values)]
    middle = [float(np.median(values[start:stop])) for start, stop in zip(starts, stops, strict=True)]
    return steps[stops - 1], np.array(middle)


def noise(values: Values) -> float:
    """Standard deviation of what differs from row to row; a trend and single spikes don't count.

    Of second differences: of white noise each has the variance 1 + 4 + 1 times its own.

    >>> noise(np.arange(50.0)), noise(np.array([1.0]))
    (0.0, 0.0)
    """
    if len(values) < 4:
        return 0.0
    return _NORMAL * float(np.median(np.abs(np.diff(values, 2)))) / math.sqrt(6.0)


@dataclass(frozen=True, slots=True)
class Level:
    """A series in the few numbers that the patterns are told by.

    Args:
        steps, curve: its levels in order, see `levels`; of a few evaluations, running medians of three.
        start: before anything was learnt, as far as that was logged.
        end: at the end: the mean of the last tenth, which unlike a median isn't too low where few batches are bad.
        low, low_step: the lowest level, and where.
        noise: from row to row.
        num_rows: that were logged.
        fallen: by how much its first rows lie above the rest beyond doubt, see `certain_fall`.
    """

    steps: Values
    curve: Values
    start: float
    end: float
    low: float
    low_step: float
    noise: float
    num_rows: int
    fallen: float

    @staticmethod
    def of(steps: ArrayLike, values: ArrayLike) -> Level | None:
        """The finite rows of a series; None where there are fewer than three.

        >>> found = Level.of(range(100), [2.0] * 50 + [1.0] * 50)
        >>> found.start, found.end, found.low
        (2.0, 1.0, 1.0)
        """
        where, series = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
        good = np.isfinite(series)
        where, series = where[good], series[good]
        if len(series) < 3:
            return None
        first = min(max(len(series) // 100, 1), 5)
        last = max(len(series) // 10, min(3, len(series) // 3), 1)
        at, curve = levels(where, series)
        curve = _calm(curve)
        lowest = int(curve.argmin())
        rough = noise(series)
        return Level(
            steps=at,
            curve=curve,
            start=float(np.median(series[:first])),
            end=_mean(series[-last:]),
            low=float(curve[lowest]),
            low_step=float(at[lowest]),
            noise=rough,
            num_rows=len(series),
            fallen=certain_fall(series, rough),
        )

    @property
    def drop(self) -> float:
        """From the start to the lowest level, >= 0."""
        return max(self.start - self.low, 0.0)

    def since(self, share: float) -> Values:
        """Levels from a share of the steps on."""
        late: Values = self.curve[self.steps >= self.steps[0] + share * (self.steps[-1] - self.steps[0])]
        return late

    def at(self, step: float) -> float:
        """The level at a step."""
        return float(np.interp(step, self.steps, self.curve))

    def fell(self, share: float) -> float:
        """How much it fell from a share of the steps to the end, by the slope that half of all pairs exceed (Theil and Sen)."""
        part = self.since(share)
        return 0.0 if len(part) < 2 else -_slope(part) * (len(part) - 1)


def certain_fall(values: Values, rough: float) -> float:
    """How far the first rows lie above the later half, where that is `SURE` times what noise explains; 0 where it isn't.

    Tried for the first 1, 2, 4, ... rows: a fast fall shows in the first one alone, a slow one only in the mean of many.

    Args:
        rough: the noise of a row.

    >>> certain_fall(np.r_[2.0, np.ones(9)], 0.1), certain_fall(np.r_[1.2, np.ones(9)], 0.1)
    (1.0, 0.0)
    """
    half = len(values) // 2
    if half == 0:
        return 0.0
    later, found, num = float(np.median(values[half:])), 0.0, 1
    while num <= half:
        first = np.sort(values[:num])[: num - num // 4] if num > 3 else values[:num]  # without spikes
        above = float(first.mean()) - later
        if above > SURE * rough * math.sqrt(1.0 / num + 1.5 / (len(values) - half)):
            found = max(found, above)
        num *= 2
    return found


def _mean(values: Values) -> float:
    """The mean, with the largest twentieth taken down to the next: a single spike doesn't move it far."""
    return (
        float(np.minimum(values, np.quantile(values, 0.95, method="lower")).mean())
        if len(values) > 2
        else float(np.median(values))
    )


def _calm(curve: Values) -> Values:
    """Running medians of three; the ends stay, but for a last one that stands alone."""
    if len(curve) < 5:
        return curve
    middle = np.median(np.stack([curve[:-2], curve[1:-1], curve[2:]]), axis=0)
    last = float(np.median([curve[-1], middle[-1], 2 * middle[-1] - middle[-2]]))
    calmed: Values = np.r_[curve[0], middle, last]
    return calmed


def _slope(values: Values) -> float:
    rows, later = np.triu_indices(len(values), 1)
    return float(np.median((values[later] - values[rows]) / (later - rows)))


@dataclass(frozen=True, slots=True)
class Swing:
    """How a series goes up and down around its trend.

    Args:
        size: from its 10 % to its 90 % quantile, of what the trend leaves.
        turns: how often it went from one quarter to the opposite one.
        level: its median.
    """

    size: float
    turns: int
    level: float


def swing(values: Values) -> Swing:
    """The swings of a series, without its straight trend; single spikes don't count.

    >>> swing(np.array([1.0, 3.0] * 10)).turns
    19
    >>> swing(np.arange(20.0)).size
    0.0
    """
    if len(values) < 4:
        return Swing(0.0, 0, float(np.median(values)) if len(values) else math.nan)
    thin = values if len(values) <= 64 else values[np.linspace(0, len(values) - 1, 64).astype(int)]
    trend = _slope(thin) * (len(thin) - 1) / (len(values) - 1)
    rest = values - trend * np.arange(len(values))
    low, quarter, three, high = np.quantile(rest, [0.1, 0.25, 0.75, 0.9])
    side = np.where(rest >= three, 1, np.where(rest <= quarter, -1, 0))
    side = side[side != 0]
    turns = int((np.diff(side) != 0).sum()) if high > low else 0
    return Swing(float(high - low), turns, float(np.median(values)))
