"""Draw the pictures of the teaching chapter: python docs/teaching_pictures.py"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "teaching"))
from activation_variance import measured, predicted, relu, standard_deviations
from gradient_descent import momentum_path

from stepwell.report.curves import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IMAGES = Path(__file__).parent / "images"
# Okabe and Ito's hues, told apart by every kind of colour vision; the default and He, which get confused, are far apart.
COLOURS = {"0.01": "#8a6fb0", "torch's default": "#c2500a", "Xavier": "#9a7a00", "He": "#0072b2", "1": "#1a7f5a"}
LABELS = {"0.01": "std 0.01", "torch's default": "torch's default", "Xavier": "Xavier", "He": "He", "1": "std 1"}
WIDE, HIGH = (-5.4, 1.6), (-1.75, 1.75)
RATES = (("0.02: slow", 0.02, 0.0), ("2 / 13: the best", 2 / 13, 0.0), ("0.17: beyond 2 / 12", 0.17, 0.0))


def activation_variance(*, width: int = 512, depth: int = 20, num_samples: int = 500, num_draws: int = 5) -> Figure:
    """Variance against depth, for rectifiers and for tanh: measured as dots, theory as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.6, 5.3), facecolor=LIGHT.background, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)  # type: ignore[union-attr]
    left, right = figure.subplots(1, 2)
    layers = np.arange(depth + 1)
    for axes, activation, title, decades in ((left, relu, "Rectifier", (-34, 51, 10)), (right, np.tanh, "Tanh", (-27, 1.5, 5))):
        dress(axes, title, depth, decades)
        labels = {}
        for name, std in standard_deviations(width).items():
            line = predicted(activation, std, width=width, depth=depth)
            axes.plot(layers, line, color=COLOURS[name], linewidth=1.3, zorder=2)
            for draw in range(num_draws):
                rng = np.random.default_rng(draw)
                dots = measured(activation, std, width=width, depth=depth, num_samples=num_samples, rng=rng)
                axes.plot(layers, dots, "o", color=COLOURS[name], markersize=4.6, alpha=0.4, markeredgewidth=0, zorder=3)
            labels[name] = line[-1]
        write_labels(axes, labels, depth, decades)
    left.set_ylabel("variance of the activations", color=LIGHT.muted)
    note = f"lines: theory for wide layers · dots: {num_draws} draws of {depth} layers of {width} units"
    figure.supxlabel(note, color=LIGHT.muted, fontsize=10)
    return figure


def write_labels(axes: Axes, ends: dict[str, float], depth: int, decades: tuple[float, float, int]) -> None:
    """Name and value at the end of each line, moved up or down where two would overlap."""
    between = (decades[1] - decades[0]) * 0.05
    rows = sorted(ends, key=lambda name: ends[name])
    heights = [np.log10(ends[name]) for name in rows]
    for place in range(len(rows) - 2, -1, -1):  # from the top: the highest stays, what is too near moves down
        heights[place] = min(heights[place], heights[place + 1] - between)
    for name, height in zip(rows, heights):
        axes.text(depth + 0.7, 10**height, f"{LABELS[name]}  {power(ends[name])}", va="center", color=COLOURS[name])


def power(value: float) -> str:
    """A number as a reader wants it beside a logarithmic axis."""
    if 0.01 <= value < 100:
        return f"{value:.2g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}·10$^{{{int(exponent)}}}$"


def dress(axes: Axes, title: str, depth: int, decades: tuple[float, float, int]) -> None:
    """Depth across, powers of ten up, a dashed line where the variance is kept."""
    low, high, every = decades
    axes.set_yscale("log")
    axes.set_ylim(10.0**low, 10.0**high)
    axes.set_yticks([10.0**power for power in range(-every * int(-low / every), int(high) + 1, every)])
    axes.set_xlim(-0.4, depth + 0.4)
    axes.set_xticks(range(0, depth + 1, 5))
    axes.set_xlabel("layer", color=LIGHT.muted)
    axes.set_title(title, loc="left", color=LIGHT.text, fontweight="bold", pad=12)
    axes.grid(axis="y", color=LIGHT.grid, linewidth=0.8)
    axes.axhline(1, color=LIGHT.muted, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.tick_params(colors=LIGHT.muted, length=0)
    axes.minorticks_off()
    axes.spines[:].set_visible(False)


def descent_paths(*, num_steps: int = 20) -> Figure:
    """Four walks down one valley, 12 times steeper across than along: three rates, and momentum."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.6, 3.5), facecolor=LIGHT.background, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)  # type: ignore[union-attr]
    steepness = np.array([1.0, 12.0])
    root = np.sqrt(12)
    walks = [*RATES, ("0.20, momentum 0.30", 4 / (root + 1) ** 2, ((root - 1) / (root + 1)) ** 2)]
    across, along = np.meshgrid(np.linspace(*WIDE, 200), np.linspace(*HIGH, 200))
    height = np.sqrt((steepness[0] * across**2 + steepness[1] * along**2) / 2)
    for axes, (title, lr, momentum) in zip(figure.subplots(1, 4), walks):
        axes.contourf(across, along, height, levels=9, cmap="Blues_r", alpha=0.42)
        points = momentum_path(lambda at: steepness * at, np.array([-4.8, 0.7]), lr=lr, momentum=momentum, num_steps=num_steps)
        axes.plot(*points.T, "-o", color="#c2500a", linewidth=1.3, markersize=3.4, markeredgewidth=0)
        axes.plot(0, 0, "+", color=LIGHT.text, markersize=9, markeredgewidth=1.6)
        axes.set_title(f"lr {title}", loc="left", color=LIGHT.text, fontweight="bold", fontsize=10.5)
        axes.set_xlabel(f"loss after {num_steps} steps: {power(float(points[-1] ** 2 @ steepness / 2))}", color=LIGHT.muted)
        axes.set(xlim=WIDE, ylim=HIGH, xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    matplotlib.rcParams["font.size"] = 11
    for name, figure in (("activation_variance", activation_variance()), ("descent_paths", descent_paths())):
        save(figure, IMAGES / f"{name}.png")
        print(f"wrote {IMAGES / name}.png")
