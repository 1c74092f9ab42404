"""Counts that a suite prints at the end of the test run and asserts, so that a skipped half can't look like a pass.

A test calls `report("T1 random kills", floors={"trials": 200}, trials=212, in_save=40)`; lines of one name are added up
over the tests (and over the processes of a parallel run) and written under "resilience counts", also under -q.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PROPERTY = "resilience counts"
_item: Any = None


def working_on(item: Any) -> None:
    """The test that the next reports belong to; None when it has ended."""
    global _item
    _item = item


def report(name: str, *, floors: Mapping[str, int] | None = None, **counts: int) -> None:
    """Put counts on record, then assert their floors.

    Args:
        name: of the suite, e.g. "T3 corruptions".
        floors: the least that a count must be.
        counts: what happened how often.
    """
    assert _item is not None, "report() is for a running test under tests/resilience"
    _item.user_properties.append((PROPERTY, [name, counts]))
    short = {key: (counts.get(key, 0), least) for key, least in (floors or {}).items() if counts.get(key, 0) < least}
    assert not short, f"{name}: fewer than the floor (count, floor): {short}"


def added_up(properties: list[tuple[str, Any]]) -> dict[str, dict[str, int]]:
    """The counts of each name, summed over all tests."""
    total: dict[str, dict[str, int]] = {}
    for key, value in properties:
        if key == PROPERTY:
            name, counts = value
            sums = total.setdefault(name, {})
            for what, count in counts.items():
                sums[what] = sums.get(what, 0) + count
    return total


def line(name: str, counts: Mapping[str, int]) -> str:
    """One line of the summary.

    >>> line("T3 corruptions", {"trials": 300, "noticed": 300})
    'T3 corruptions: trials 300, noticed 300'
    """
    return f"{name}: " + ", ".join(f"{what.replace('_', ' ')} {count}" for what, count in counts.items())
