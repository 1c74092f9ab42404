"""Training curves as pictures: loss, learning rate, gradient norm and what was measured on the validation part."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stepwell.report.series import Series, band, clean, smooth, spans_decades, thin
from stepwell.report.tables import RunTables
from stepwell.report.text import metric, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DARK", "LIGHT", "Picture", "Theme", "pictures", "png"]

_MOST_PANELS = 6
_RAW_POINTS = 1200  # above this, the drawn line is as wide as a pixel: draw the band between extremes instead


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a picture. The two line colours are told apart by every kind of colour vision, and by lightness.

    Okabe and Ito 2008, "Color Universal Design", for the hues.
    """

    background: str
    text: str
    muted: str
    grid: str
    train: str
    validation: str
    alarm: str


LIGHT = Theme("#ffffff", "#1c2127", "#5f6b76", "#e4e8ec", "#0072b2", "#c2500a", "#b3261e")
DARK = Theme("#171b20", "#e6e9ec", "#98a3ad", "#2b323a", "#56b4e9", "#f0a03c", "#ff8a80")


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a run.

    Args:
        name: its file's name without the ending.
        title: what it shows.
        description: the same in words, for those who can't see it.
        note: what a reader must know to read it right, or "".
        draw: puts it on an empty figure.
    """

    name: str
    title: str
    description: str
    note: str
    draw: Callable[[Figure, Theme], None]


def pictures(run: RunTables) -> list[Picture]:
    """The pictures that a run has data for, in reading order."""
    made = [_loss(run), _metrics(run), _column(run, "lr"), _column(run, "grad_norm")]
    return [picture for picture in made if picture is not None]


def png(picture: Picture, theme: Theme = LIGHT) -> bytes:
    """A picture as a PNG file's bytes, 1360 pixels wide."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name in a script that the font lacks is drawn as boxes
        figure = Figure(figsize=(6.8, 3.6), dpi=200, facecolor=theme.background, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr, call-arg]
        FigureCanvasAgg(figure)
        picture.draw(figure, theme)
        file = io.BytesIO()
        figure.savefig(file, format="png", facecolor=theme.background, metadata={"Software": None})
    return file.getvalue()


def _loss(run: RunTables) -> Picture | None:
    train, validation = Series.of(run.train, "loss"), Series.of(run.validation, "loss")
    if not train and not validation:
        return None
    best, middle = run.best, smooth(train)

    def draw(figure: Figure, theme: Theme) -> None:
        axes = _axes(figure, theme, "Loss")
        # the first steps of a run may be far above the rest; a few of them must not flatten everything else
        drawn = np.concatenate([clean(middle.values), clean(validation.values)])
        log = spans_decades(drawn, 1.0)
        axes.set_yscale("log" if log else "linear")
        _draw_train(axes, theme, train, middle)
        _draw_validation(axes, theme, validation)
        _limits(axes, drawn, log)
        _mark_non_finite(axes, theme, [train, validation])
        if best is not None:
            _mark_step(axes, theme, best.step)
            _label_step(axes, theme, best.step, f"best {best.metric} at step {best.step:,}")
        _finish(axes, theme, legend=bool(train) and bool(validation))

    words = [series.words(name) for name, series in (("train loss", train), ("validation loss", validation)) if series]
    note = ""
    if train and validation:
        note = (
            "The training loss is measured while training, with dropout, mixing and smoothing where the recipe has them; "
            "the validation loss is measured on clean data. Compare each with itself, not one with the other."
        )
    return Picture("loss", "Loss", "; ".join(words) + ".", note, draw)


def _metrics(run: RunTables) -> Picture | None:
    named = {name: Series.of(run.validation, name) for name in run.metric_names if name != "loss"}
    named = {name: series for name, series in named.items() if series}
    shown = dict(list(named.items())[:_MOST_PANELS])
    if not shown:
        return None
    best = run.best

    def draw(figure: Figure, theme: Theme) -> None:
        columns = 1 if len(shown) == 1 else 2 if len(shown) <= 4 else 3
        rows = math.ceil(len(shown) / columns)
        if rows > 1:
            figure.set_size_inches(6.8, 2.3 * rows + 0.2)
        for place, (name, series) in enumerate(shown.items()):
            axes = _axes(figure, theme, f"Validation {name}", place=(rows, columns, place + 1))
            _draw_validation(axes, theme, series)
            _limits(axes, clean(series.values), log=False, from_zero=False)
            _mark_non_finite(axes, theme, [series])
            axes.yaxis.set_major_formatter(partial(_tick, name))
            if best is not None:
                _mark_step(axes, theme, best.step)
            if best is not None and best.metric == name and math.isfinite(best.value):
                label = ("", "best {value} at step {step:,}", "best {value}", "")[columns]
                _mark_best(axes, theme, best.step, best.value, label.format(value=metric(name, best.value), step=best.step))
            _finish(axes, theme, ticks=(0, 7, 5, 4)[columns])

    words = [series.words(f"validation {name}") for name, series in shown.items()]
    left = len(named) - len(shown)
    note = f"{left} more in metrics/validation.csv." if left > 0 else ""
    return Picture("validation", "Validation metrics", "; ".join(words) + ".", note, draw)


def _column(run: RunTables, name: Literal["lr", "grad_norm"]) -> Picture | None:
    series = Series.of(run.train, name)
    if not series:
        return None
    title = {"lr": "Learning rate", "grad_norm": "Gradient norm"}[name]
    file = {"lr": "learning_rate", "grad_norm": "gradient_norm"}[name]
    middle = smooth(series)
    note = {"lr": "", "grad_norm": "Global L2 norm of the gradient, before any clipping."}[name]

    def draw(figure: Figure, theme: Theme) -> None:
        axes = _axes(figure, theme, title)
        if name == "lr":
            axes.plot(*thin(series), color=theme.train, linewidth=2.2, **_dot(series))
            axes.set_ylim(0, float(clean(series.high).max(initial=0.0)) * 1.1 or 1.0)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        else:
            log = spans_decades(clean(series.values), 1.3)
            axes.set_yscale("log" if log else "linear")
            _draw_train(axes, theme, series, middle)
            _limits(axes, clean(series.values), log)
            if not log:
                axes.set_ylim(bottom=0)
            _mark_non_finite(axes, theme, [series])
        _finish(axes, theme)

    return Picture(file, title, series.words(title.lower()) + ".", note, draw)


def _axes(figure: Figure, theme: Theme, title: str, place: tuple[int, int, int] = (1, 1, 1)) -> Axes:
    axes: Axes = figure.add_subplot(*place)
    axes.set_facecolor(theme.background)
    axes.set_title(plain(title), loc="left", fontsize=12.5, fontweight="bold", color=theme.text, pad=12, parse_math=False)
    axes.grid(axis="y", color=theme.grid, linewidth=0.9)
    axes.set_axisbelow(True)
    axes.margins(x=0.025)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.muted)
    axes.tick_params(colors=theme.muted, labelsize=9.5, length=0, which="both", pad=6)
    axes.tick_params(axis="x", length=3.5)
    return axes


def _finish(axes: Axes, theme: Theme, *, legend: bool = False, ticks: int = 7) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator

    axes.set_xlabel("step", color=theme.muted, fontsize=9.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=ticks, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(lambda value, _: _step(value))
    if axes.get_yscale() == "log":
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        axes.yaxis.set_minor_locator(LogLocator(base=10, subs=(), numticks=12))
    if legend:
        legend_above(axes, theme)


def legend_above(axes: Axes, theme: Theme) -> None:
    """The legend in one line above the right end of a picture."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=2,
        frameon=False,
        fontsize=10,
        labelcolor=theme.text,
        borderaxespad=0.2,
        handlelength=1.8,
    )


def _draw_train(axes: Axes, theme: Theme, series: Series, middle: Series) -> None:
    """The smoothed course in full colour over the raw one, which for long runs is the band between its extremes."""
    if not series:
        return
    if len(series.steps) > _RAW_POINTS:
        edges = band(series)
        axes.fill_between(edges.steps, edges.low, edges.high, color=theme.train, alpha=0.22, linewidth=0)
    elif len(series.steps) >= 30:
        axes.plot(series.steps, series.values, color=theme.train, alpha=0.38, linewidth=0.9)
    axes.plot(middle.steps, middle.values, color=theme.train, linewidth=2.2, label="training", **_dot(series))


def _draw_validation(axes: Axes, theme: Theme, series: Series) -> None:
    if not series:
        return
    few = len(series.steps) <= 60
    style: dict[str, Any] = {"marker": "o", "markersize": 4.2} if few else {}
    axes.plot(*thin(series), color=theme.validation, linewidth=2.0, label="validation", **style)


def _dot(series: Series) -> dict[str, Any]:
    # a line through one finite point, or through points with gaps between them, would be invisible
    lonely = len(series.steps) < 4 or np.isfinite(series.values).sum() < 4
    return {"marker": "o", "markersize": 5} if lonely else {}


def _limits(axes: Axes, values: NDArray[np.float64], log: bool, *, from_zero: bool = True) -> None:
    if log:
        values = values[values > 0]
    if not len(values):
        return
    low, high = float(values.min()), float(np.quantile(values, 0.995)) if len(values) > 200 else float(values.max())
    if log:
        axes.set_ylim(low / 1.25, max(high, low * 1.01) * 1.35)
        return
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    axes.set_ylim(0.0 if from_zero and 0 <= low < 0.35 * high else low - room, high + 1.6 * room)


def _mark_step(axes: Axes, theme: Theme, step: int) -> None:
    axes.axvline(step, color=theme.muted, linewidth=1.1, linestyle=(0, (2, 2.5)), zorder=1.5)


def _label_step(axes: Axes, theme: Theme, step: int, label: str) -> None:
    left, right = axes.get_xlim()
    on_right_half = step > left + 0.55 * (right - left)
    axes.annotate(
        plain(label),
        (step, 0.975),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-6 if on_right_half else 6, 0),
        textcoords="offset points",
        ha="right" if on_right_half else "left",
        va="top",
        fontsize=9,
        color=theme.text,
        parse_math=False,
        bbox={"facecolor": theme.background, "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
    )


def _mark_best(axes: Axes, theme: Theme, step: int, value: float, label: str) -> None:
    axes.plot([step], [value], "o", markersize=9.5, markerfacecolor="none", markeredgecolor=theme.text, markeredgewidth=1.7)
    axes.set_title(plain(label), loc="right", fontsize=9.5, color=theme.text, pad=12, parse_math=False)


def _mark_non_finite(axes: Axes, theme: Theme, shown: list[Series]) -> None:
    """Where a value was not a number there is no line: say so instead of leaving a gap to be overlooked."""
    steps = np.unique(np.concatenate([series.broken for series in shown if series] or [np.empty(0)]))
    if not len(steps):
        return
    few = steps[np.linspace(0, len(steps) - 1, min(len(steps), 200)).astype(int)]
    axes.plot(few, np.full(len(few), 0.02), "x", color=theme.alarm, transform=axes.get_xaxis_transform(), markersize=6)
    whole = all(series.stretches is None for series in shown)
    count = len(steps) if whole else sum(series.num_broken for series in shown)
    label = f"x  not finite at {count:,} logged step" + ("" if count == 1 else "s")
    axes.annotate(
        label, (0.0, 0.0), xycoords="axes fraction", xytext=(4, 12), textcoords="offset points", fontsize=9, color=theme.alarm
    )


def _step(value: float) -> str:
    """2,000 but 20k and 1.5M: ticks must fit side by side in a narrow panel."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size or (unit == "M" and abs(value) >= size):
            return f"{value / size:g}{unit}"
    return f"{value:,.0f}"


def _tick(name: str, value: float, place: int | None = None) -> str:
    return f"{100 * value:.4g} %" if name.lower().endswith("accuracy") else f"{value:.4g}"
