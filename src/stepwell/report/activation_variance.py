"""A picture of how large activations are through the depth of networks, measured beside what theory predicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from stepwell.core.modules.activation_variance import (
    ActivationMoments,
    activation_variance,
    plain_network,
    predicted_moments,
    weight_stds,
)
from stepwell.report.curves import Picture, Theme
from stepwell.report.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["depth_experiment", "depth_picture"]

# Okabe and Ito's hues, dark enough for light backgrounds and light enough for dark ones.
_HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9")


def depth_picture(
    measured: Mapping[str, Sequence[ActivationMoments]],
    predicted: Mapping[str, Sequence[ActivationMoments]] | None = None,
    *,
    title: str = "Activation variance through depth",
) -> Picture:
    """Variance after each layer on a logarithmic axis, one line per network: dots measured, dashes predicted.

    Args:
        measured: name -> moments, inputs first, as `activation_variance` gives them.
        predicted: the same by theory, for some or all of the names.
        title: of the picture.

    >>> depth_picture({"He": predicted_moments(depth=2, width=8, std=0.5)}).description
    'He: variance 1 before and 0.682 after 2 layers.'
    """
    words = [_words(name, rows) for name, rows in measured.items()]
    over = [name for name, rows in measured.items() if not all(math.isfinite(row.variance) for row in rows)]
    note = f"Where a line ends, the numbers overflowed: {', '.join(over)}." if over else ""

    def draw(figure: Figure, theme: Theme) -> None:
        axes = _axes(figure, theme, title)
        for hue, (name, rows) in zip(_HUES * (1 + len(measured) // len(_HUES)), measured.items(), strict=False):
            points = _points(rows)
            axes.plot(*points, marker="o", markersize=4, linewidth=0, color=hue, label=plain(name))
            axes.plot(*_points((predicted or {}).get(name, [])), linestyle=(0, (4, 2)), linewidth=1.6, color=hue)
        _decades(axes)
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9.5, labelcolor=theme.text, markerscale=1.4
        )

    return Picture("activation_variance", title, " ".join(words), note, draw)


def depth_experiment(*, depth: int = 20, width: int = 512, num_samples: int = 1000, seed: int = 0) -> Picture:
    """The usual comparison: rectifier networks whose weights start too small, as torch's, Xavier's, He's, and too large.

    Args:
        depth: layers, >= 1.
        width: units of each, >= 1.
        num_samples: normal inputs, >= 2.
        seed: of weights and inputs.

    Paper: He et al. 2015, arXiv:1502.01852, section 2.2.
    """
    inputs = torch.randn(num_samples, width, generator=torch.Generator().manual_seed(seed))
    stds = weight_stds(width)
    measured = {
        name: activation_variance(plain_network(depth=depth, width=width, std=std, seed=seed), inputs)
        for name, std in stds.items()
    }
    predicted = {name: predicted_moments(depth=depth, width=width, std=std) for name, std in stds.items()}
    return depth_picture(measured, predicted, title=f"Activation variance, {width} rectifiers a layer")


def _points(rows: Sequence[ActivationMoments]) -> tuple[list[int], list[float]]:
    good = [(place, row.variance) for place, row in enumerate(rows) if math.isfinite(row.variance) and row.variance > 0]
    return [place for place, _ in good], [value for _, value in good]


def _words(name: str, rows: Sequence[ActivationMoments]) -> str:
    return f"{name}: variance {rows[0].variance:.3g} before and {rows[-1].variance:.3g} after {len(rows) - 1} layers."


def _decades(axes: Axes) -> None:
    # One label at every 1, 2, 5, 10 or 20 decades, and 1 always among them.
    from matplotlib.ticker import FixedLocator, MaxNLocator

    low, high = (math.log10(limit) for limit in axes.get_ylim())
    step = next((step for step in (1, 2, 5, 10, 20) if (high - low) / step <= 9), 50)
    ticks = range(math.ceil(low / step) * step, math.floor(high / step) * step + 1, step)
    axes.yaxis.set_major_locator(FixedLocator([10.0**tick for tick in ticks]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _axes(figure: Figure, theme: Theme, title: str) -> Axes:
    axes: Axes = figure.add_subplot()
    axes.set_facecolor(theme.background)
    axes.set_title(plain(title), loc="left", fontsize=12.5, fontweight="bold", color=theme.text, pad=12, parse_math=False)
    axes.set_yscale("log")
    axes.set_xlabel("layer", color=theme.muted, fontsize=9.5)
    axes.grid(axis="y", color=theme.grid, linewidth=0.9)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.muted, labelsize=9.5, length=0, which="both", pad=6)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.muted)
    return axes
