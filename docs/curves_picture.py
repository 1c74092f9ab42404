"""Draw the six patterns of docs/curves.md: python docs/curves_picture.py"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.curves import recorded

from stepwell.doctor.curves import verdict
from stepwell.report.curves import LIGHT

IMAGES = Path(__file__).parent / "images"
# One recorded training of each: its number in tests/doctor/curves/curves.json is found by data and pattern.
SHOWN = ("digits: flat", "friedman: diverging", "digits: overfitting", "digits: underfitting", "diabetes: oscillating")
SHOWN = (*SHOWN, "wine: memorised")
TITLES = {
    "flat": "1  flat: nothing is learnt",
    "diverging": "2  diverging: learnt, then lost",
    "overfitting": "3  overfitting: validation turns",
    "underfitting": "4  underfitting: both stay high",
    "oscillating": "5  oscillating: it never settles",
    "memorised": "6  memorised: train near zero",
}


def patterns() -> Figure:
    """Six panels of real curves; the steps where a pattern shows have a shade."""
    figure = Figure(figsize=(11.6, 5.8), dpi=110, facecolor=LIGHT.background, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # type: ignore[union-attr]
    examples = recorded()
    for axes, name in zip(figure.subplots(2, 3).flat, SHOWN, strict=True):
        found = next(item for item in examples if item.name == name and verdict(item.course).pattern == item.pattern)
        course, said = found.course, verdict(found.course)
        axes.axvspan(said.first_step, said.last_step, color=LIGHT.alarm, alpha=0.08, linewidth=0)
        if said.pattern == "diverging":
            axes.axvline(said.first_step, color=LIGHT.alarm, alpha=0.5, linewidth=1.5)
        axes.plot(course.steps, course.losses, color=LIGHT.train, linewidth=1.2, label="training")
        axes.plot(course.val_steps, course.val_losses, color=LIGHT.validation, linewidth=1.6, label="validation")
        axes.set_title(TITLES[said.pattern], color=LIGHT.text, fontsize=11, loc="left")
        values = np.asarray(course.losses, dtype=float)
        if np.nanmax(values) > 1e3 * np.nanmedian(values):
            axes.set_yscale("log")
        elif said.pattern in ("overfitting", "memorised", "underfitting"):
            axes.set_ylim(bottom=0.0)
        elif said.pattern == "flat":
            axes.set_ylim(0.0, 1.3 * float(np.nanmax(values)))
        axes.tick_params(colors=LIGHT.muted, labelsize=8)
        axes.grid(color=LIGHT.grid, linewidth=0.6)
        axes.set_axisbelow(True)
        for side in axes.spines.values():
            side.set_color(LIGHT.grid)
    figure.axes[0].legend(loc="lower left", frameon=False, labelcolor=LIGHT.text, fontsize=9)
    figure.supxlabel(
        "step · real trainings on data of scikit-learn · shaded: where the pattern shows", color=LIGHT.muted, fontsize=9
    )
    figure.supylabel("loss", color=LIGHT.muted, fontsize=9)
    return figure


if __name__ == "__main__":
    figure = patterns()
    FigureCanvasAgg(figure)
    figure.savefig(IMAGES / "curve_patterns.png", facecolor=LIGHT.background, metadata={"Software": None})
