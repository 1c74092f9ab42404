"""Means over seeds with the interval that belongs to them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.bars import Bar, Side


class AbsentError(Exception):
    """Something a target needs is not on this machine; the message says how to get it. The target is skipped."""


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided 95 % t-interval.

    Args:
        mean: of the values.
        low, high: ends of the interval; infinite where one value alone tells nothing about the spread.
        sd: standard deviation (n - 1); NaN for one value.
        num_values: how many.
    """

    mean: float
    low: float
    high: float
    sd: float
    num_values: int

    @staticmethod
    def of(values: Sequence[float]) -> Interval:
        """mean +- t(0.975, n - 1) * sd / sqrt(n).

        Raises:
            ValueError: there are no values.
        """
        if not values:
            raise ValueError("no values; an interval needs at least one")
        mean = statistics.fmean(values)
        if len(values) == 1:
            return Interval(mean, -math.inf, math.inf, math.nan, 1)
        from scipy.stats import t

        sd = statistics.stdev(values)
        half = float(t.ppf(0.975, len(values) - 1)) * sd / math.sqrt(len(values))
        return Interval(mean, mean - half, mean + half, sd, len(values))


@dataclass(frozen=True)
class Finding:
    """What a target measured: one value per seed, beside a bar for their mean.

    Args:
        name: what the values are.
        values: one per seed.
        side, limit: the bar.
        protocol: how they came about, in a sentence or two.
        beside: other numbers of the same runs, one per seed each, for the record.
    """

    name: str
    values: list[float]
    side: Side
    limit: float
    protocol: str
    beside: dict[str, list[float]] = field(default_factory=dict)

    @property
    def interval(self) -> Interval:
        """Mean and interval of the values."""
        return Interval.of(self.values)

    @property
    def bar(self) -> Bar:
        """The mean against the limit."""
        return Bar(self.name, self.side, self.limit, self.interval.mean)

    @property
    def clear(self) -> bool:
        """Whether the whole interval lies on the good side, not only the mean."""
        its = self.interval
        return its.low >= self.limit if self.side == "at least" else its.high <= self.limit

    @property
    def text(self) -> str:
        """A paragraph for the terminal."""
        its = self.interval
        values = " ".join(f"{value:.4f}" for value in self.values)
        where = "the whole interval is on the good side" if self.clear else "the interval is not wholly on the good side"
        lines = [f"{self.name}: {self.bar.verdict.upper()}, mean {its.mean:.4f}, 95 % interval {its.low:.4f} to {its.high:.4f}"]
        lines.append(f"  bar: {self.side} {self.limit:g}; {where}; sd {its.sd:.4f}, {its.num_values} seeds: {values}")
        lines += [f"  {name}: mean {statistics.fmean(numbers):.4f}" for name, numbers in self.beside.items()]
        return "\n".join([*lines, f"  {self.protocol}"])

    def to_dict(self) -> dict[str, object]:
        """For the JSON file, where infinity and NaN are null."""
        its = self.interval
        numbers = {"mean": its.mean, "low": its.low, "high": its.high, "sd": its.sd}
        finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        more = {"values": self.values, "beside": self.beside, "clear": self.clear, "protocol": self.protocol}
        return self.bar.to_dict() | finite | more
