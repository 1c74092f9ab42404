"""The course of every scheduled value, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepwell.engine.storage import explained, write_bytes
from stepwell.report.curves import LIGHT, Theme

__all__ = ["schedule_png", "write_schedule"]


def write_schedule(path: Path, courses: Sequence[Any], *, title: str) -> None:
    """Write `schedule_png` to a file.

    Raises:
        RunFolderError: it can't be written there.
    """
    with explained(path):
        write_bytes(path, schedule_png(courses, title=title))


def schedule_png(courses: Sequence[Any], *, title: str, theme: Theme = LIGHT) -> bytes:
    """One panel for each scheduled value, as a PNG file's bytes, 1360 pixels wide.

    Args:
        courses: what `stepwell.schedule` gives: target, steps and values of each.
        title: of the picture.
        theme: its colours.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 0.7 + 2.3 * len(courses)), dpi=160, facecolor=theme.background, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=theme.text, fontsize=12, x=0.012, ha="left")
    panels = figure.subplots(len(courses), 1, squeeze=False, sharex=True)[:, 0]
    for axes, course in zip(panels, courses, strict=True):
        axes.set_facecolor(theme.background)
        axes.plot(course.steps, course.values, color=theme.train, linewidth=1.8, solid_capstyle="round")
        low, high = min(course.values), max(course.values)
        # Rates are read from zero; a momentum between 0.85 and 0.95 would be a flat line there.
        floor = 0.0 if low < 0.5 * high else low - 0.15 * (high - low or abs(low) or 1.0)
        axes.fill_between(course.steps, course.values, floor, color=theme.train, alpha=0.08, linewidth=0)
        axes.set_ylim(bottom=min(floor, low), top=high + 0.08 * (high - min(floor, low) or 1.0))
        ends = f"first {course.values[0]:.3g}, highest {high:.3g} at step {course.steps[course.values.index(high)]:,}"
        words = f"{course.target}: {ends}, last {course.values[-1]:.3g}" + (
            ", unless evaluations change it" if course.learns else ""
        )
        axes.set_title(words, color=theme.muted, fontsize=10, loc="left")
        axes.margins(x=0.01)
        axes.grid(color=theme.grid, linewidth=0.8)
        axes.tick_params(colors=theme.muted, labelsize=9, length=0)
        for side in axes.spines.values():
            side.set_visible(False)
    panels[-1].set_xlabel("optimizer step", color=theme.muted, fontsize=10)
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor=theme.background)
    return file.getvalue()
