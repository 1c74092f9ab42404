"""The course of every scheduled value, as a picture."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

from stepwell.core.errors import JobError, RunFolderError
from stepwell.engine.records.storage import write_bytes
from stepwell.recipe.explaining.schedule_view import Course, summary
from stepwell.report.curves import LIGHT, Theme

__all__ = ["require_picture_path", "schedule_png", "write_schedule"]


def require_picture_path(path: Path) -> None:
    """Refuse a place where no picture can be written, before anything is computed.

    Raises:
        JobError: the name doesn't end in .png, its folder isn't there, it is a folder itself, or it may not be written.
    """
    folder = path.parent
    if path.is_dir():
        fix = f"Give a file in it, for example --png {path / 'schedule.png'}"
        raise JobError(f"{path} is a folder", expected="the path of a .png file to write", fix=fix)
    if path.suffix.lower() != ".png":
        ends = f"ends in {path.suffix}" if path.suffix else "has no ending"
        raise JobError(
            f"{path.name!r} {ends}", expected="a name that ends in .png", fix=f"Write --png {path.with_suffix('.png')}"
        )
    if not folder.is_dir():
        told = f"{folder} is a file, not a folder" if folder.exists() else f"there is no folder {folder}"
        raise JobError(told, expected="a path in a folder that exists", fix="Make the folder first, or give another --png")
    if not os.access(folder, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.W_OK)):
        expected = "a folder, and a file if it is there, that you may write"
        raise JobError(f"no permission to write {path}", expected=expected, fix="Give another --png, or change the permissions")


def write_schedule(path: Path, courses: Sequence[Course], *, title: str) -> None:
    """Write `schedule_png` to a file.

    Raises:
        JobError: see `require_picture_path`.
        RunFolderError: it can't be written there for another reason.
    """
    require_picture_path(path)
    content = schedule_png(courses, title=title)
    try:
        write_bytes(path, content)
    except (OSError, RunFolderError) as error:
        reason = error.what if isinstance(error, RunFolderError) else f"{path} can't be written: {error.strerror or error}"
        raise RunFolderError(reason, expected="a place that can be written", fix="Give another path to --png") from error


def schedule_png(courses: Sequence[Course], *, title: str, theme: Theme = LIGHT) -> bytes:
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
        axes.set_title(summary(course), color=theme.muted, fontsize=10, loc="left")
        axes.margins(x=0.01)
        axes.grid(color=theme.grid, linewidth=0.8)
        axes.tick_params(colors=theme.muted, labelsize=9, length=0)
        for side in axes.spines.values():
            side.set_visible(False)
    panels[-1].set_xlabel("optimizer step", color=theme.muted, fontsize=10)
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor=theme.background)
    return file.getvalue()
