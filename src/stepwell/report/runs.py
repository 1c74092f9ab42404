"""Lists of runs, and what cleaning them would remove, as text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime

from stepwell.recipe.archive.cleaning import Cleaning
from stepwell.recipe.archive.runs import RunEntry
from stepwell.report.text import aligned, amount, metric, number, plain

__all__ = ["cleaning_text", "runs_table", "size"]

_HEADER = ("run", "state", "model", "task", "metric", "steps", "started", "size")


def size(num_bytes: int) -> str:
    """A size on disk.

    >>> size(17), size(1606760), size(5 * 2**30)
    ('17 B', '1.5 MiB', '5.0 GiB')
    """
    value, unit = float(num_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def runs_table(entries: Sequence[RunEntry], *, most: int | None = None) -> str:
    """One line per run; what is damaged is said below the table.

    Args:
        most: how many lines at most; how many more there are is said.
    """
    if not entries:
        return "no runs"
    shown = entries if most is None else entries[:most]
    lines = [aligned([_row(entry) for entry in shown], header=_HEADER)]
    if len(shown) < len(entries):
        lines.append(f"{len(entries) - len(shown)} more; without --limit all are shown")
    lines += [f"{plain(entry.name)} is damaged: {plain(entry.problem)}" for entry in shown if entry.problem]
    return "\n".join(lines)


def _row(entry: RunEntry) -> list[str]:
    value = "" if entry.metric is None or entry.value is None else f"{entry.metric} {metric(entry.metric, entry.value)}"
    told = "" if not value or entry.part == "test" else f" ({entry.part})"
    return [
        *(entry.name, entry.state, entry.model or "", entry.task or "", value + told),
        *(number(entry.steps), _moment(entry.started), size(entry.num_bytes)),
    ]


def _moment(started: str | None) -> str:
    """In the reader's own time, to the minute."""
    try:
        return "" if started is None else datetime.fromisoformat(started).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError):
        return started or ""


def cleaning_text(cleaning: Cleaning, *, done: str, root: str | os.PathLike[str]) -> str:
    """What goes or went, and how much that frees.

    Args:
        done: "planned" or "removed".
        root: that paths are shown from.
    """
    lines = [f"left alone: {plain(os.path.relpath(run, root))} ({plain(why)})" for run, why in cleaning.spared.items()]
    if not cleaning.removals:
        return "\n".join(["nothing to remove", *lines])
    rows = [[os.path.relpath(item.path, root), size(item.num_bytes), item.why] for item in cleaning.removals]
    total = f"{amount(len(rows), 'item')}, {size(cleaning.num_bytes)}"
    last = f"removed {total}" if done == "removed" else f"would remove {total}; add --yes to do it"
    return "\n".join([aligned(rows), *lines, last])
