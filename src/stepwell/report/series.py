"""Arithmetic on logged columns before they are drawn: smoothing, thinning, extremes. No pictures here."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stepwell.report.tables import Columns
from stepwell.report.text import number

__all__ = ["Band", "Series", "band", "clean", "smooth", "spans_decades", "thin"]

Values = NDArray[np.float64]
_BINS = 800  # a picture's drawing area is about 1200 pixels wide


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One logged column over steps, (rows,) each. False where there is nothing to draw or tell."""

    steps: Values
    values: Values

    @staticmethod
    def of(columns: Columns, name: str) -> Series:
        """A column of a table, without the rows that logged nothing under this name."""
        steps, values = columns.get("step"), columns.get(name)
        if steps is None or values is None:
            return Series(np.empty(0), np.empty(0))
        there = ~np.isnan(values)
        return Series(steps[there], values[there])

    def __bool__(self) -> bool:
        return len(self.values) > 0

    @property
    def broken(self) -> Values:
        """Steps whose value is not a finite number."""
        return self.steps[~np.isfinite(self.values)]

    def words(self, name: str) -> str:
        """The course of the series in a sentence.

        >>> Series(np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, np.nan])).words("loss")
        'loss: 2 at step 1, 1 at step 2, lowest 1, highest 2, not finite at 1 of 3 logged steps'
        """
        good = np.isfinite(self.values)
        bad = f"not finite at {int((~good).sum())} of {len(good)} logged steps"
        if not good.any():
            return f"{name}: {bad}"
        steps, values = self.steps[good], self.values[good]
        text = f"{name}: {number(float(values[0]))} at step {int(steps[0]):,}"
        if len(values) > 1:
            text += f", {number(float(values[-1]))} at step {int(steps[-1]):,}"
            text += f", lowest {number(float(values.min()))}, highest {number(float(values.max()))}"
        return text if good.all() else f"{text}, {bad}"


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """Lowest and highest value per stretch of steps, (bins,) each; NaN where a stretch has no finite value."""

    steps: Values
    low: Values
    high: Values


def clean(values: Values) -> Values:
    """The finite ones."""
    return values[np.isfinite(values)]


def smooth(series: Series) -> Series:
    """The running mean of the middle half of 4 % of the rows, at up to 800 places; NaN where the value itself is not finite.

    Of the middle half, because one spike of 1e12 must not move the line around it. Short series (under 30 rows) come
    back as they are: there is nothing to smooth, and a mean would hide the points.

    >>> smooth(Series(np.arange(50.0), np.r_[np.ones(25), 1e12, np.ones(24)])).values.max()
    np.float64(1.0)
    """
    rows = len(series.values)
    values = np.where(np.isfinite(series.values), series.values, np.nan)
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
    values = np.where(np.isfinite(series.values), series.values, np.nan)
    rows = len(values)
    if rows <= 2 * _BINS:
        return series.steps, values
    edges = np.linspace(0, rows, _BINS + 1).astype(int)
    keep = {0, rows - 1}
    for start, stop in itertools.pairwise(edges):
        part = values[start:stop]
        if np.isnan(part).all():
            keep.add(int(start))
            continue
        keep |= {int(start + np.nanargmin(part)), int(start + np.nanargmax(part))}
    rows_kept = np.array(sorted(keep))
    return series.steps[rows_kept], values[rows_kept]


def band(series: Series) -> Band:
    """The extremes of every stretch of steps.

    >>> edges = band(Series(np.arange(8000.0), np.tile([1.0, 5.0], 4000)))
    >>> float(edges.low.min()), float(edges.high.max()), len(edges.steps)
    (1.0, 5.0, 800)
    """
    rows = len(series.values)
    bins = min(_BINS, rows)
    edges = np.linspace(0, rows, bins + 1).astype(int)[:-1]
    good = np.isfinite(series.values)
    low = np.minimum.reduceat(np.where(good, series.values, np.inf), edges)
    high = np.maximum.reduceat(np.where(good, series.values, -np.inf), edges)
    return Band(series.steps[edges], np.where(np.isfinite(low), low, np.nan), np.where(np.isfinite(high), high, np.nan))


def spans_decades(values: Values, decades: float) -> bool:
    """Whether values are all positive and spread over more than so many powers of ten: a log axis reads better then."""
    if len(values) < 2 or bool((values <= 0).any()):
        return False
    return bool(np.log10(values.max() / values.min()) > decades)
