"""Rules on the rows of `layer_statistics`: how gradients pass through depth, units that are dead, activations at their limits.

Ratios of a layer to itself or to other layers, as medians over the later half of what was watched: no scale matters, and no
single batch. Thresholds: 1e-3 between the relative updates of first and last layers (AutoTrainer, ICSE 2021, for gradients), half
of a layer's units dead (SageMaker Debugger's rule) or of its values saturated (DeepDiagnosis, ICSE 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stepwell.doctor.findings import Finding, Number, Remedy
from stepwell.doctor.run_rules import plain

__all__ = ["layer_findings"]

DEAD = 0.5  # of a layer's units
SATURATED = 0.5  # of a layer's values
UNEVEN = 1e-3  # of the other end's relative update
HUGE = 1e3  # gradient norm over weight norm


def layer_findings(rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Gradient flow through depth, dead and saturated units, from the rows of `layer_statistics`: medians over the later half."""
    steps = sorted({row["step"] for row in rows})
    if len(steps) < 3:
        return
    late = [row for row in rows if row["step"] >= steps[len(steps) // 2]]
    names = list(dict.fromkeys(str(row["name"]) for row in late))

    def middle(name: str, statistic: str) -> float:
        found = [float(row[statistic]) for row in late if str(row["name"]) == name and row.get(statistic) is not None]
        found = [value for value in found if math.isfinite(value)]
        return float(np.median(found)) if found else math.nan

    weights = [name for name in names if name.endswith("weight") and middle(name, "parameter_norm") > 0]
    yield from _flow({name: middle(name, "update_ratio") for name in weights}, len(steps))
    huge = {name: middle(name, "gradient_norm") / middle(name, "parameter_norm") for name in weights}
    huge = {name: ratio for name, ratio in huge.items() if ratio > HUGE}
    if huge:
        told: dict[str, Number] = {"gradient_to_weights": [f"{name} {ratio:.3g}" for name, ratio in huge.items()]}
        mend = Remedy("Clip the gradient norm, lower the learning rate", job={"recipe.techniques+": ["clip_norm"]})
        cause = "gradients grow on their way back through the layers"
        yield Finding("exploding_gradient", 0.6, f"gradients are {HUGE:g} times as large as the weights", cause, told, mend)
    yield from _units(names, middle)


def _flow(ratios: Mapping[str, float], num_steps: int) -> Iterator[Finding]:
    known = {name: ratio for name, ratio in ratios.items() if math.isfinite(ratio)}
    if len(known) < 3:
        return
    values, third = list(known.values()), max(len(known) // 3, 1)
    first, last = float(np.median(values[:third])), float(np.median(values[-third:]))
    if last <= 0 or first <= 0 or first / last >= UNEVEN:  # nothing at all may be frozen on purpose
        return
    told: dict[str, Number] = {"first_layers": plain(first), "last_layers": plain(last), "watched_steps": num_steps}
    told["update_to_weight"] = [f"{name} {ratio:.2g}" for name, ratio in known.items()]
    mend = Remedy("Add normalisation or residual connections, take ReLU or GELU with He initial weights")
    cause = "gradients shrink on their way back through the layers"
    yield Finding("vanishing_gradient", 0.8, "the first layers hardly move while the last ones do", cause, told, mend)


def _units(names: Sequence[str], middle: Callable[[str, str], float]) -> Iterator[Finding]:
    active = [name for name in names if math.isfinite(middle(name, "activation_std"))]
    dead = {name: middle(name, "activation_dead_fraction") for name in active}
    dead = {name: share for name, share in dead.items() if share > DEAD}
    if dead:
        told: dict[str, Number] = {"dead_units": [f"{name} {share:.0%}" for name, share in dead.items()]}
        mend = Remedy("Lower the learning rate, or take LeakyReLU or GELU; see whether inputs are scaled")
        cause = "units that are off for every row get no gradient and stay off"
        yield Finding("dead_relu", 0.7, "most units of a layer are never on", cause, told, mend)
    flat = {
        name: middle(name, "activation_saturated_fraction") for name in active[:-1]
    }  # the last one may be sure of its answers
    flat = {name: share for name, share in flat.items() if share > SATURATED}
    if flat:
        seen: dict[str, Number] = {"saturated": [f"{name} {share:.0%}" for name, share in flat.items()]}
        mend = Remedy("Scale the inputs, take smaller initial weights, or normalise before the activation")
        cause = "where an activation is at its limit, hardly any gradient passes"
        yield Finding(
            "saturated_activation", 0.7, "most values of a layer are at the limits of its activation", cause, seen, mend
        )
