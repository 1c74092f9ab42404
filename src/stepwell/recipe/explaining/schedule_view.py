"""The values that schedules will give, before anything is trained: as numbers, and as a small picture in text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stepwell.core.catalog import record_of
from stepwell.core.clock import Horizon
from stepwell.core.slots import Drive
from stepwell.recipe.run import Assembly

__all__ = ["Course", "constant_rate", "courses", "drawn", "summary"]


@dataclass(frozen=True, slots=True)
class Course:
    """The values of one field over a run.

    Args:
        target: "optimizer.lr", or "ID.FIELD" of a technique.
        steps: numbers of optimizer steps, from 1, increasing.
        values: what each of those steps is taken with.
        learns: whether reports can change it (plateau): then this is its course as long as they don't.
    """

    target: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    learns: bool = False


def courses(assembly: Assembly, *, points: int = 400) -> list[Course]:
    """What every scheduled value will be, at `points` steps or all of them. Nothing is written, no step is taken."""
    horizon, parts = assembly.resolved.horizon, assembly.step.parts
    steps = _shown(horizon, points)
    learning = {drive.target for item in parts.schedules.values() if hasattr(item, "watches") for drive in item.drives}
    return [_course(drive, steps, horizon, assembly, drive.target in learning) for drive in parts.values]


def constant_rate(assembly: Assembly, *, points: int = 400) -> Course:
    """The learning rate of a recipe without a schedule: one value for the whole run."""
    rate = _configured("optimizer.lr", assembly)
    steps = tuple(_shown(assembly.resolved.horizon, points))
    return Course("optimizer.lr", steps, (rate,) * len(steps))


def _shown(horizon: Horizon, points: int) -> list[int]:
    """Steps from the first to the last, evenly spread."""
    total = max(horizon.total_steps, 1)
    return sorted({1 + round(place * (total - 1) / max(points - 1, 1)) for place in range(points)}) if total > 1 else [1]


def summary(course: Course) -> str:
    """A course in one line.

    >>> summary(Course("optimizer.momentum", (1, 2, 3), (0.95, 0.85, 0.95)))
    'optimizer.momentum: first 0.95, lowest 0.85 at step 2, last 0.95'
    >>> summary(Course("optimizer.lr", (1, 2), (0.1, 0.1)))
    'optimizer.lr: 0.1 at every step'
    """
    values = course.values
    first, last, low, high = values[0], values[-1], min(values), max(values)
    if low == high:
        told = f"{first:.3g} at every step"
    else:
        # An end that is the lowest or the highest says so by itself.
        between = [
            f"{word} {value:.3g} at step {course.steps[values.index(value)]:,}"
            for word, value in (("lowest", low), ("highest", high))
            if value not in (first, last)
        ]
        told = ", ".join([f"first {first:.3g}", *between, f"last {last:.3g}"])
    return f"{course.target}: {told}" + (", unless evaluations change it" if course.learns else "")


def _course(drive: Drive, steps: Sequence[int], horizon: Horizon, assembly: Assembly, learns: bool) -> Course:
    base = 1.0 if drive.mode == "set" else _configured(drive.target, assembly)
    return Course(drive.target, tuple(steps), tuple(base * drive.value((step - 1) * horizon.per_step) for step in steps), learns)


def _configured(target: str, assembly: Assembly) -> float:
    """What a recipe says about a field: schedules are factors on it."""
    owner, _, name = target.partition(".")
    resolved = assembly.resolved
    holders = [resolved.optimizer] if owner == "optimizer" else resolved.techniques
    for item in holders:
        record = record_of(item)
        if owner == "optimizer" or (record is not None and record.id == owner):
            if hasattr(item, name):
                return float(getattr(item, name))
            if name == "momentum" and hasattr(item, "betas"):
                return float(item.betas[0])
    group: dict[str, Any] = assembly.step.optimizer.param_groups[0]  # of an optimizer that is no technique
    return float(group["betas"][0] if name == "momentum" and "betas" in group else group[name])


def drawn(course: Course, *, width: int = 64, height: int = 6) -> str:
    """A course as a picture of plain characters.

    >>> print(drawn(Course("optimizer.lr", (1, 2, 3, 4, 5), (1.0, 2.0, 3.0, 2.0, 1.0)), width=5, height=3))
    optimizer.lr: first 1, highest 3 at step 3, last 1
            3 |  *
              | * *
            1 |*   *
              +-----
               1  5 steps
    """
    values = course.values
    low, high = min(values), max(values)
    columns = [values[round(place * (len(values) - 1) / max(width - 1, 1))] for place in range(min(width, max(len(values), 2)))]
    span = high - low
    levels = [round((value - low) / span * (height - 1)) if span else 0 for value in columns]
    lines = [summary(course)]
    for level in range(height - 1 if span else 0, -1, -1):
        label = f"{high:.3g}" if level == height - 1 or not span else f"{low:.3g}" if level == 0 else ""
        row = "".join("*" if at == level else " " for at in levels)
        lines.append(f"{label:>9} |{row}".rstrip())
    last = f"{course.steps[-1]:,} steps"
    lines += [f"{'':>9} +{'-' * len(columns)}", f"{'':>11}1{last.rjust(max(len(columns) - 1, len(last) + 2))}"]
    return "\n".join(lines)
