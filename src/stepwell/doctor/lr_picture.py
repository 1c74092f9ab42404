"""The finder's sweeps and trials as a picture."""

from __future__ import annotations

import io
import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell.core.errors import RunFolderError
from stepwell.doctor.lr_suggestion import gains, smoothed
from stepwell.engine.records.storage import write_bytes

if TYPE_CHECKING:
    from stepwell.doctor.lr_finder import LrFound
    from stepwell.doctor.lr_trials import Trial

_BACKGROUND, _TEXT, _MUTED, _GRID = "#ffffff", "#1c2127", "#5f6b76", "#e4e8ec"
_SWEEP, _FOUND = "#0072b2", "#c2500a"  # told apart by every kind of colour vision


def write_lr_picture(path: Path, found: LrFound, *, title: str) -> None:
    """Write `lr_png` to a file.

    Raises:
        RunFolderError: it can't be written there.
    """
    content = lr_png(found, title=title)
    try:
        write_bytes(path, content)
    except (OSError, RunFolderError) as error:
        reason = error.what if isinstance(error, RunFolderError) else f"{path} can't be written: {error.strerror or error}"
        raise RunFolderError(reason, expected="a place that can be written", fix="Give another path") from error


def lr_png(found: LrFound, *, title: str) -> bytes:
    """The sweeps, below them what trial trainings ended with, and the rate: a PNG file's bytes, 1360 pixels wide."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    swept = [curve for curve in found.curves if len(curve.rates) >= 3]
    ended = [trial for trial in found.trials if math.isfinite(trial.loss) and trial.kind == "trial"]
    num_panels = 2 if ended else 1
    figure = Figure(figsize=(8.5, 0.9 + 2.9 * num_panels), dpi=160, facecolor=_BACKGROUND, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=_TEXT, fontsize=12, x=0.012, ha="left")
    panels = figure.subplots(num_panels, 1, squeeze=False, sharex=True)[:, 0]
    for axes in panels:
        _plain(axes)
    _sweeps(panels[0], found, swept)
    if ended:
        _trials(panels[1], ended)
    if found.rate is not None:
        for axes in panels:
            axes.axvline(found.rate, color=_FOUND, linewidth=1.8)
        low, high = panels[0].get_xlim()
        right = math.log(found.rate / low) < 0.75 * math.log(high / low)  # of the line, unless it would leave the picture
        panels[0].annotate(
            f"{found.rate:.3g}",
            (found.rate, 0.97),
            (5 if right else -5, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=_FOUND,
            fontsize=11,
            fontweight="bold",
            ha="left" if right else "right",
            va="top",
        )
    panels[-1].set_xlabel("learning rate", color=_MUTED, fontsize=10)
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor=_BACKGROUND)
    return file.getvalue()


def _plain(axes: Any) -> None:
    axes.set_facecolor(_BACKGROUND)
    axes.set_xscale("log")
    axes.grid(color=_GRID, linewidth=0.8)
    axes.tick_params(colors=_MUTED, labelsize=9, length=0, which="both")
    for side in axes.spines.values():
        side.set_visible(False)


def _sweeps(axes: Any, found: LrFound, swept: list[Any]) -> None:
    told = f"{len(swept)} sweeps, one line each: the loss without the differences between batches"
    if found.rate is None:
        told = "no usable learning rate: " + found.reason
    axes.set_title("\n".join(textwrap.wrap(told, 100)), color=_MUTED, fontsize=10, loc="left")
    axes.set_ylabel("training loss", color=_MUTED, fontsize=10)
    if not swept:
        axes.tick_params(labelbottom=False, labelleft=False, which="both")
        axes.grid(visible=False)
        axes.text(0.5, 0.5, "no step with a finite loss", color=_MUTED, ha="center", transform=axes.transAxes)
        return
    start = sum(sum(curve.still) for curve in swept) / sum(len(curve.still) for curve in swept)
    lines = [(curve.rates, [start - gain for gain in smoothed(gains(curve))]) for curve in swept]
    for rates, losses in lines:
        axes.plot(rates, losses, color=_SWEEP, linewidth=1.6, alpha=0.75, solid_capstyle="round")
    low = min(min(losses) for _, losses in lines)
    room = (start - low) or abs(start) or 1.0
    axes.set_ylim(low - 0.12 * room, start + 0.6 * room)  # how high it climbs when it diverges says nothing


def _trials(axes: Any, trials: list[Trial]) -> None:
    losses = [trial.loss for trial in trials]
    axes.plot([trial.rate for trial in trials], losses, "o", color=_SWEEP, markersize=5.5, linestyle="none")
    room = (max(losses) - min(losses)) or abs(losses[0]) or 1.0
    axes.set_ylim(min(losses) - 0.1 * room, max(losses) + 0.1 * room)
    axes.set_ylabel("loss at the end", color=_MUTED, fontsize=10)
    told = f"{len(trials)} trial trainings of {trials[0].num_steps} steps that didn't diverge, one dot each"
    axes.set_title(told, color=_MUTED, fontsize=10, loc="left")
