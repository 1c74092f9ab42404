"""Lengths of training in a unit that can't be mistaken: "5%", "3 epochs", "500 steps", "2M tokens", "90 s"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stepwell.core.errors import JobError

UNITS = {
    "%": "%",
    "percent": "%",
    "step": "steps",
    "steps": "steps",
    "epoch": "epochs",
    "epochs": "epochs",
    "sample": "samples",
    "samples": "samples",
    "token": "tokens",
    "tokens": "tokens",
    "s": "seconds",
    "second": "seconds",
    "seconds": "seconds",
    "min": "minutes",
    "minute": "minutes",
    "minutes": "minutes",
    "h": "hours",
    "hour": "hours",
    "hours": "hours",
}
_SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0}
_THOUSANDS = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9}
_PATTERN = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][0-9]+)?)\s*([kMB]?)\s*(%|[A-Za-z]+)\s*")


@dataclass(frozen=True, slots=True)
class Duration:
    """An amount with its unit: %, steps, epochs, samples, tokens or seconds. Steps are always optimizer steps.

    >>> Duration.parse("2M tokens")
    Duration(amount=2000000.0, unit='tokens')
    >>> str(Duration.parse("3 epochs")), str(Duration.parse("5%"))
    ('3 epochs', '5%')
    """

    amount: float
    unit: str

    @staticmethod
    def parse(text: str | Duration, *, name: str = "duration") -> Duration:
        """Read a duration.

        Raises:
            JobError: no unit, an unknown one, or a negative amount.
        """
        if isinstance(text, Duration):
            return text
        match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
        unit = UNITS.get(match[3]) if match else None
        if match is None or unit is None:
            raise JobError(
                f"{name} is {text!r}",
                expected='a number with its unit, such as "5%", "3 epochs", "500 steps", "2M tokens" or "10 minutes"',
                fix=f'Write for example {name}: "{text} steps"' if isinstance(text, (int, float)) else f"Give {name} a unit",
            )
        amount = float(match[1].replace("_", "")) * _THOUSANDS[match[2]]
        if unit in _SECONDS:
            return Duration(amount * _SECONDS[unit], "seconds")
        return Duration(amount, unit)

    def __str__(self) -> str:
        number = f"{self.amount:.12g}"
        return f"{number}%" if self.unit == "%" else f"{number} {self.unit}"
