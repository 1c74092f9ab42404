"""Pictures of a diagnosis: curves with their pattern, gradients by layer, activations over time, rates tried, one batch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stepwell.doctor.bench import Bench
from stepwell.doctor.curves import Verdict
from stepwell.doctor.looks import (
    Activations,
    Gradients,
    activations_of,
    gradients_of,
    pattern_of,
    rates_tried,
)
from stepwell.doctor.trials import Course
from stepwell.report.curves import Picture, Theme, legend_above
from stepwell.report.text import number, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = ["EVIDENCE", "pictures"]

logger = logging.getLogger("stepwell.doctor")
MOST_TENSORS = 40

# Which picture shows what a finding is about; for all others the curves do.
EVIDENCE = {
    **dict.fromkeys(("lr_too_high", "lr_too_low", "warmup_too_short", "momentum_too_high"), "rates"),
    **dict.fromkeys(
        ("vanishing_gradient", "exploding_gradient", "init_too_large", "symmetric_init", "detached_graph"), "gradients"
    ),
    **dict.fromkeys(("dead_relu", "saturated_activation", "missing_nonlinearity"), "activations"),
    **dict.fromkeys(("labels_misaligned", "capacity_too_small", "frozen_params", "params_not_in_optimizer"), "one_batch"),
}


def pictures(bench: Bench) -> list[Picture]:
    """All that this setup has something to show for; a setup that crashes at once has nothing."""
    makers: tuple[Callable[[Bench], Picture | None], ...] = (_curves, _rates, _gradients, _activations, _one_batch)
    made = []
    for maker in makers:
        try:
            made.append(maker(bench))
        except Exception:  # what fails here was told as a finding
            logger.debug("%s has nothing to show", maker.__name__, exc_info=True)
    return [picture for picture in made if picture is not None]


def _curves(bench: Bench) -> Picture | None:
    course = bench.own
    if not course.losses:
        return None
    pattern = pattern_of(course)
    words = f"training loss {number(course.losses[0])} in the first step, {number(course.losses[-1])} in the last"
    looks = [look for look in course.looks if math.isfinite(look.val_loss)]
    if looks:
        words += f"; validation loss {number(looks[0].val_loss)} before it, {number(looks[-1].val_loss)} at the end"
    shown = "no known pattern" if pattern.pattern == "none" else f"pattern: {pattern.pattern}"
    note = "Training loss as each step saw it, dropout included; validation loss in evaluation mode."
    return Picture(
        "curves", "The training", f"{words}; {shown}.", note, lambda figure, theme: _draw_curves(figure, theme, course, pattern)
    )


def _draw_curves(figure: Figure, theme: Theme, course: Course, pattern: Verdict) -> None:
    axes = _axes(figure, theme, "The training", "step")
    steps, losses = np.arange(1, len(course.losses) + 1), np.asarray(course.losses)
    marker = {"marker": "o", "markersize": 4} if len(losses) < 30 else {}
    axes.plot(steps, losses, color=theme.train, linewidth=1.2, alpha=0.75, label="training", **marker)  # type: ignore[arg-type]
    looks = [look for look in course.looks if math.isfinite(look.val_loss)]
    if looks:
        axes.plot(
            [look.step for look in looks],
            [look.val_loss for look in looks],
            color=theme.validation,
            linewidth=2.0,
            marker="o",
            markersize=4.2,
            label="validation",
        )
    values = np.concatenate([losses, [look.val_loss for look in looks]])
    _loss_scale(axes, values[np.isfinite(values)])
    if pattern.pattern != "none":
        axes.axvspan(
            pattern.first_step, max(pattern.last_step, pattern.first_step + 1), color=theme.alarm, alpha=0.10, linewidth=0
        )
        _note(axes, theme, pattern.pattern)
    if course.nonfinite is not None:
        axes.plot([course.nonfinite], [0.03], "x", color=theme.alarm, transform=axes.get_xaxis_transform(), markersize=8)
        _note(axes, theme, f"not finite at step {course.nonfinite}")
    _legend(axes, theme)


def _rates(bench: Bench) -> Picture | None:
    tried = [(rate, skill) for rate, skill in rates_tried(bench) if rate > 0]
    if len({rate for rate, _ in tried}) < 2:
        return None
    own = (bench.setup.lr, bench.own.skill())

    def draw(figure: Figure, theme: Theme) -> None:
        axes = _axes(figure, theme, "Learning rates tried", "learning rate")
        axes.set_xscale("log")
        axes.plot(*zip(*tried, strict=True), color=theme.train, linewidth=1.6, marker="o", markersize=6)
        axes.plot(*own, "o", markersize=13, markerfacecolor="none", markeredgecolor=theme.alarm, markeredgewidth=2)
        right = own[0] == max(rate for rate, _ in tried)
        axes.annotate(
            f"in use: {own[0]:.3g}",
            own,
            xytext=(-11 if right else 11, 9),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=9.5,
            color=theme.text,
        )
        axes.margins(x=0.08)
        _decades(axes.xaxis)
        axes.set_ylim(-0.05, 1.08)
        axes.set_ylabel("validation skill at the end", color=theme.muted, fontsize=9.5)

    words = ", ".join(f"{rate:.3g}: {skill:.3f}" for rate, skill in tried)
    note = "Each dot is a whole training from the same start; skill is accuracy, or the share of the variance that is explained."
    return Picture(
        "rates", "Learning rates tried", f"validation skill by learning rate: {words}; {own[0]:.3g} is in use.", note, draw
    )


def _gradients(bench: Bench) -> Picture | None:
    flow = gradients_of(bench)
    if len(flow.names) < 2:
        return None
    known = [value for value in flow.before if math.isfinite(value) and value > 0]
    words = (
        f"{len(flow.names)} tensors, gradient over weight from {number(min(known))} to {number(max(known))} at the start"
        if known
        else "no tensor has a gradient"
    )
    note = "Norm of each weight's gradient over the norm of the weight, in the order of the model. No bar: none, or zero."
    return Picture(
        "gradients", "Gradients by layer", f"{words}.", note, lambda figure, theme: _draw_gradients(figure, theme, flow)
    )


def _draw_gradients(figure: Figure, theme: Theme, flow: Gradients) -> None:
    names, before, after = flow.names[:MOST_TENSORS], flow.before[:MOST_TENSORS], flow.after[:MOST_TENSORS]
    figure.set_size_inches(6.8, max(2.6, 0.9 + 0.34 * len(names)))
    axes = _axes(figure, theme, "Gradients by layer", "gradient norm / weight norm")
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=theme.grid, linewidth=0.9)
    places = np.arange(len(names))
    known = [value for value in (*before, *after) if math.isfinite(value) and value > 0]
    if known:
        low, high = min(known), max(known)
        floor = 10 ** math.floor(math.log10(low) - 0.3)
        axes.set_xscale("log")
        axes.set_xlim(floor, max(high * 2, floor * 100))
        _decades(axes.xaxis)
    for offset, values, colour, label in (
        (-0.19, before, theme.train, "at the start"),
        (0.19, after, theme.validation, "at the end"),
    ):
        widths = [value if math.isfinite(value) and value > 0 else math.nan for value in values]
        axes.barh(places + offset, widths, height=0.34, color=colour, label=label)
    axes.set_yticks(places, [_short(name) for name in names])
    axes.invert_yaxis()
    _legend(axes, theme)


def _activations(bench: Bench) -> Picture | None:
    if bench.own.crash is not None:
        return None
    layers = activations_of(bench)
    if not layers or len(layers[0].steps) < 2:
        return None
    words = "; ".join(f"{layer.name}: {_spread(layer)}" for layer in layers)
    note = "Share of a layer's values in each range, darker where there are more, from the untrained model to the end."
    return Picture(
        "activations", "Activations over time", f"{words}.", note, lambda figure, theme: _draw_activations(figure, theme, layers)
    )


def _draw_activations(figure: Figure, theme: Theme, layers: Sequence[Activations]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    columns = min(len(layers), 2)
    rows = -(-len(layers) // columns)
    figure.set_size_inches(6.8, 2.5 * rows + 0.3)
    shades = LinearSegmentedColormap.from_list("shares", [theme.background, theme.train])
    for place, layer in enumerate(layers, start=1):
        axes = _axes(figure, theme, layer.name, "step", place=(rows, columns, place))
        axes.grid(visible=False)
        steps = np.asarray(layer.steps, dtype=float)
        middles = 0.5 * (steps[1:] + steps[:-1])
        sides = np.concatenate([[steps[0] - (middles[0] - steps[0])], middles, [steps[-1] + (steps[-1] - middles[-1])]])
        # Relative to each look's most frequent range, and lifted: what a few values do shall be seen beside a peak at zero.
        lifted = (layer.shares / layer.shares.amax(1, keepdim=True).clamp(min=1e-9)).pow(0.4)
        axes.pcolormesh(sides, layer.edges.numpy(), lifted.numpy().T, cmap=shades, vmin=0, vmax=1)
        axes.margins(x=0)


def _spread(layer: Activations) -> str:
    def middle(shares: np.ndarray[tuple[int], np.dtype[np.float32]]) -> float:
        centers = 0.5 * (layer.edges[1:] + layer.edges[:-1]).numpy()
        return float((centers * shares).sum() / max(float(shares.sum()), 1e-9))

    first, last = layer.shares[0].numpy(), layer.shares[-1].numpy()
    return f"mean {middle(first):.2g} at the start, {middle(last):.2g} at the end"


def _one_batch(bench: Bench) -> Picture | None:
    fit = bench.one_batch
    shown = [one for one in fit.attempts if one.losses]
    if not shown:
        return None

    def draw(figure: Figure, theme: Theme) -> None:
        axes = _axes(figure, theme, "One batch, again and again", "step")
        for one, shade in zip(shown, (1.0, 0.6, 0.35), strict=False):
            losses = np.asarray(one.losses)
            label = f"rate {number(fit.lr * one.factor)}" + (" (in use)" if one.factor == 1.0 else "")
            axes.plot(np.arange(1, len(losses) + 1), losses, color=theme.train, alpha=shade, linewidth=1.8, label=label)
        values = np.concatenate([np.asarray(one.losses) for one in shown])
        _loss_scale(axes, values[np.isfinite(values)])
        _legend(axes, theme)

    note = "The setup without dropout and decay, trained on a few rows alone: what fits each other learns them."
    return Picture("one_batch", "One batch, again and again", f"{fit.told}.", note, draw)


def _axes(figure: Figure, theme: Theme, title: str, xlabel: str, *, place: tuple[int, int, int] = (1, 1, 1)) -> Axes:
    axes: Axes = figure.add_subplot(*place)
    axes.set_facecolor(theme.background)
    axes.set_title(plain(title), loc="left", fontsize=12, fontweight="bold", color=theme.text, pad=11, parse_math=False)
    axes.grid(axis="y", color=theme.grid, linewidth=0.9)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.muted)
    axes.tick_params(colors=theme.muted, labelsize=9.5, length=0, which="both", pad=6)
    axes.set_xlabel(xlabel, color=theme.muted, fontsize=9.5)
    axes.margins(x=0.025)
    return axes


def _decades(axis: Axis) -> None:
    """Ticks of a logarithmic axis that people can read."""
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = sorted(axis.get_view_interval())
    few = high / max(low, 1e-300) < 300
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=9))
    axis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axis.set_minor_locator(NullLocator())


def _loss_scale(axes: Axes, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """A logarithmic axis where losses span decades; one spike doesn't flatten all else."""
    if not len(values):
        return
    low, high = float(values.min()), float(np.quantile(values, 0.995) if len(values) > 200 else values.max())
    if low > 0 and high / low > 30:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.3, high * 1.6)
        _decades(axes.yaxis)
        return
    room = (high - low) * 0.1 or abs(high) * 0.1 or 1.0
    axes.set_ylim(0.0 if 0 <= low < 0.35 * high else low - room, high + 1.8 * room)


def _legend(axes: Axes, theme: Theme) -> None:
    if len(axes.get_legend_handles_labels()[1]) < 2:
        return
    legend_above(axes, theme)


def _note(axes: Axes, theme: Theme, text: str) -> None:
    axes.annotate(
        plain(text),
        (0.99, 0.96),
        xycoords="axes fraction",
        ha="right",
        va="top",
        fontsize=10,
        color=theme.text,
        parse_math=False,
        bbox={"facecolor": theme.background, "edgecolor": "none", "alpha": 0.8, "pad": 2},
    )


def _short(name: str) -> str:
    name = plain(name)
    return name if len(name) <= 28 else "…" + name[-27:]
