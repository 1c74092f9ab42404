"""Range checks for technique settings, one line each, with the three parts of an error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from stepwell.core.errors import JobError


def require(holds: bool, name: str, value: Any, expected: str, fix: str) -> None:
    """Refuse a setting.

    Args:
        holds: whether the setting is good.
        name: "mixup.alpha".
        value: what it is.
        expected: "a number above 0".
        fix: what to do instead.

    Raises:
        JobError: it is not good.
    """
    if not holds:
        raise JobError(f"{name} is {value!r}", expected=expected, fix=fix)


def require_between(name: str, value: float, low: float, high: float, fix: str, *, ends: str = "[]") -> None:
    """Refuse a number outside an interval; `ends` says which ends belong to it, as in "[)"."""
    above = value >= low if ends[0] == "[" else value > low
    below = value <= high if ends[1] == "]" else value < high
    require(above and below, name, value, f"a number in {ends[0]}{low:g}, {high:g}{ends[1]}", fix)


def require_one_of(name: str, value: Any, known: Sequence[str], fix: str = "") -> None:
    """Refuse a word that isn't one of a few; without a fix, the first of them is proposed."""
    expected = " or ".join([", ".join(map(repr, known[:-1])), repr(known[-1])])
    require(value in known, name, value, expected, fix or f"Write {known[0]!r}")


def require_target(name: str, value: str) -> None:
    """Refuse a schedule's target that isn't written "ID.FIELD"."""
    good = re.fullmatch(r"\w+\.\w+", value) is not None
    require(good, name, value, 'a field written "ID.FIELD"', 'Write for example "optimizer.lr"')
