"""Bars: what was promised, beside what was measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Side = Literal["at least", "at most"]


@dataclass(frozen=True)
class Bar:
    """A promise about one number.

    Args:
        name: what is promised.
        side: on which side of the limit the number must be; the limit itself is good.
        limit: the number promised.
        value: the number measured, or None where it was not.
        reason: why it was not measured.
    """

    name: str
    side: Side
    limit: float
    value: float | None
    reason: str = ""

    @property
    def verdict(self) -> Literal["met", "not met", "skipped"]:
        """Something that was not measured is skipped, never met; so is no number at all (NaN): not met.

        >>> Bar("accuracy", "at least", 0.97, 0.97).verdict, Bar("accuracy", "at least", 0.97, None).verdict
        ('met', 'skipped')
        """
        if self.value is None:
            return "skipped"
        good = self.value >= self.limit if self.side == "at least" else self.value <= self.limit
        return "met" if good else "not met"

    @property
    def line(self) -> str:
        """One line of the list that ends a benchmark."""
        value = self.reason or "not measured" if self.value is None else f"{self.value:.4g}"
        return f"{self.verdict.upper():8s} {self.name}: {value} (bar: {self.side} {self.limit:g})"

    def to_dict(self) -> dict[str, object]:
        """For the JSON file."""
        return {
            "name": self.name,
            "side": self.side,
            "limit": self.limit,
            "value": self.value,
            "verdict": self.verdict,
            "reason": self.reason,
        }


def summary(bars: Iterable[Bar]) -> str:
    """Every bar on its line, then how many were met."""
    bars = list(bars)
    counts = {verdict: sum(bar.verdict == verdict for bar in bars) for verdict in ("met", "not met", "skipped")}
    total = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return "\n".join([bar.line for bar in bars] + [total])
