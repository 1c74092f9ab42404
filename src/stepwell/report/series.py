"""Arithmetic on logged columns before they are drawn: smoothing, thinning, extremes. No pictures here."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from stepwell.engine.records.metric_curve import Curve
from stepwell.report.tables import Columns, Stretches
from stepwell.report.text import number

__all__ = ["Band", "Series", "band", "clean", "smooth", "spans_decades", "thin"]

Values = NDArray[np.float64]
_BINS = 800  # a picture's drawing area is about 1200 pixels wide


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One logged column over steps, (points,) each. False where there is nothing to draw or tell.

    Args:
        steps: of each row; where points stand for stretches of rows, of a stretch's last row.
        values: of each row; of a stretch its last finite one.
        stretches: what the points stand for, or None where each is one row.
    """

    steps: Values
    values: Values
    stretches: Curve | None = None

    @staticmethod
    def of(columns: Columns, name: str) -> Series:
        """A column of a table, without the rows that logged nothing under this name."""
        steps, values = columns.get("step"), columns.get(name)
        if steps is None or values is None:
            return Series(np.empty(0), np.empty(0))
        there = ~np.isnan(values)
        if not isinstance(columns, Stretches):
            return Series(steps[there], values[there])
        whole = columns.curves[name]
        return Series(steps[there], values[there], Curve(*(getattr(whole, part.name)[there] for part in fields(Curve))))

    def __bool__(self) -> bool:
        return len(self.values) > 0

    @property
    def low(self) -> Values:
        """Lowest finite value of each point, NaN where there is none."""
        return _finite(self.values) if self.stretches is None else self.stretches.low

    @property
    def high(self) -> Values:
        """Highest finite value of each point, NaN where there is none."""
        return _finite(self.values) if self.stretches is None else self.stretches.high

    @property
    def broken(self) -> Values:
        """Steps of the points that have a value that is not a finite number."""
        return self.steps[~np.isfinite(self.values) if self.stretches is None else self.stretches.num_nonfinite > 0]

    @property
    def num_broken(self) -> int:
        """Logged values that are not finite numbers."""
        return len(self.broken) if self.stretches is None else int(self.stretches.num_nonfinite.sum())

    @property
    def num_logged(self) -> int:
        """Logged values."""
        return len(self.values) if self.stretches is None else int(self.stretches.num_finite.sum()) + self.num_broken

    def words(self, name: str) -> str:
        """The course of the series in a sentence.

        >>> Series(np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, np.nan])).words("loss")
        'loss: 2 at step 1, 1 at step 2, lowest 1, highest 2, not finite at 1 of 3 logged steps'
        """
        good = np.isfinite(self.values)
        bad = f"not finite at {self.num_broken:,} of {self.num_logged:,} logged steps"
        if not good.any():
            return f"{name}: {bad}"
        steps, values = self.steps[good], self.values[good]
        text = f"{name}: {number(float(values[0]))} at step {int(steps[0]):,}"
        if len(values) > 1:
            text += f", {number(float(values[-1]))} at step {int(steps[-1]):,}"
            text += f", lowest {number(float(np.nanmin(self.low)))}, highest {number(float(np.nanmax(self.high)))}"
        return f"{text}, {bad}" if self.num_broken else text


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """Lowest and highest value per stretch of steps, (bins,) each; NaN where a stretch has no finite value."""

    steps: Values
    low: Values
    high: Values


def clean(values: Values) -> Values:
    """The finite ones."""
    return values[np.isfinite(values)]


def _finite(values: Values) -> Values:
    """The same with NaN for what is not finite."""
    return np.where(np.isfinite(values), values, np.nan)


def smooth(series: Series) -> Series:
    """The running mean of the middle half of 4 % of the rows, at up to 800 places; NaN where the value itself is not finite.

    Of the middle half, because one spike of 1e12 must not move the line around it. Short series (under 30 rows) come
    back as they are: there is nothing to smooth, and a mean would hide the points.

    >>> smooth(Series(np.arange(50.0), np.r_[np.ones(25), 1e12, np.ones(24)])).values.max()
    np.float64(1.0)
    """
    rows = len(series.values)
    values = _finite(series.values)
    if rows < 30:
        return Series(series.steps, values)
    half = max(rows // 50, 2)
    places = np.unique(np.linspace(0, rows - 1, min(rows, _BINS)).astype(int))
    middle = np.full(len(places), np.nan)
    for index, place in enumerate(places):
        # towards both ends the window shrinks evenly on both sides, so that ends are not drawn towards the middle,
        # but not to nothing, so that they are not left to a single noisy row
        reach = max(min(place, rows - 1 - place, half), half // 3)
        window = np.sort(clean(values[max(place - reach, 0) : place + reach + 1]))
        if len(window) and not np.isnan(values[place]):
            cut = len(window) // 4
            middle[index] = window[cut : len(window) - cut].mean()
    return Series(series.steps[places], middle)


def thin(series: Series) -> tuple[Values, Values]:
    """Steps and values of at most about 1,600 points that look the same: both extremes of every stretch are kept.

    >>> steps, values = thin(Series(np.arange(100_000.0), np.zeros(100_000)))
    >>> len(steps) <= 1602
    True
    """
    values, low, high = _finite(series.values), series.low, series.high
    rows = len(values)
    if rows <= 2 * _BINS and series.stretches is None:
        return series.steps, values
    edges = np.linspace(0, rows, min(_BINS, rows) + 1).astype(int)
    keep = {(0, float(values[0])), (rows - 1, float(values[-1]))}
    for start, stop in itertools.pairwise(edges):
        if np.isnan(low[start:stop]).all():
            keep.add((int(start), math.nan))
            continue
        lowest, highest = int(start + np.nanargmin(low[start:stop])), int(start + np.nanargmax(high[start:stop]))
        keep |= {(lowest, float(low[lowest])), (highest, float(high[highest]))}
    kept = sorted(keep)
    return series.steps[[row for row, _ in kept]], np.array([value for _, value in kept])


def band(series: Series) -> Band:
    """The extremes of every stretch of steps.

    >>> edges = band(Series(np.arange(8000.0), np.tile([1.0, 5.0], 4000)))
    >>> float(edges.low.min()), float(edges.high.max()), len(edges.steps)
    (1.0, 5.0, 800)
    """
    rows = len(series.values)
    bins = min(_BINS, rows)
    edges = np.linspace(0, rows, bins + 1).astype(int)[:-1]
    return Band(series.steps[edges], np.fmin.reduceat(series.low, edges), np.fmax.reduceat(series.high, edges))


def spans_decades(values: Values, decades: float) -> bool:
    """Whether values are all positive and spread over more than so many powers of ten: a log axis reads better then."""
    if len(values) < 2 or bool((values <= 0).any()):
        return False
    return bool(np.log10(values.max() / values.min()) > decades)
