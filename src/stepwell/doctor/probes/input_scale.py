"""unnormalised_inputs: columns in units that a first layer isn't made for.

Rule: a feature whose root mean square is above 10 or below 0.05, whose mean lies more than 8 spreads from zero, or that spreads
50 times as much as another; and the untrained model's outputs follow the inputs' size (a norm layer in front would undo it). A
symptom: told only if standardising in front of the model helps, by itself or where nothing else does together with a higher rate.
Source: LeCun et al., Efficient BackProp, 1998, section 4.3: inputs of mean 0 and about equal variance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Number, Remedy, Suspicion
from stepwell.doctor.remedies.data import standardised
from stepwell.doctor.rows import tensors, tree
from stepwell.doctor.scales import Scale, scale_of
from stepwell.doctor.setup import Setup

LARGE, SMALL = 10.0, 0.05
FAR = 8.0  # spreads from zero
APART = 50.0
SPARSE = 0.9  # share of a column's cells with one value: its spread says nothing about its units
FASTER = 10.0
TOGETHER = 0.45  # weight: other rates and more epochs alone are tried before
UNDONE = 0.1  # of the outputs' spread: what ten times the inputs change behind a norm layer


def probe(bench: Bench) -> Iterator[Suspicion]:
    """Ask each tensor of the inputs."""
    parts = tensors(bench.setup.train.inputs)
    scales = [scale_of(part) if _is_measured(part) else None for part in parts]
    severities = [0.0 if scale is None else severity(scale, part) for scale, part in zip(scales, parts, strict=True)]
    worst = max(severities, default=0.0)
    scale = scales[severities.index(worst)] if worst > 0 else None
    chosen = tuple(one > 0 for one in severities)
    if scale is None or _undone(bench, float(scale.size.max()), chosen):
        return
    size, spread = scale.size, scale.spread[scale.varies]
    evidence: dict[str, Number] = {
        "largest_size": float(size.max()),
        "smallest_size": float(size.min()),
        "largest_spread": float(spread.max()),
        "smallest_spread": float(spread.min()),
        "num_features": len(size),
    }
    ways = [Remedy("Standardise the inputs by the training rows' mean and spread", partial(standardised, chosen=chosen))]
    if scale.mean.numel() > 1 and any(part.dim() > 2 for part, take in zip(parts, chosen, strict=True) if take):
        one = partial(standardised, chosen=chosen, by="all")
        ways.append(Remedy("Standardise the inputs by one mean and one spread of the training rows", one))
    weight = min(0.9, 0.5 + 0.2 * worst)
    yield from (_suspicion(size, evidence, remedy, weight) for remedy in ways)
    # A rate that raw columns could bear may be far too low for standard ones.
    faster = f"Standardise the inputs, and take a learning rate of {FASTER * bench.setup.lr:.3g}, which then fits"
    yield _suspicion(
        size,
        evidence,
        Remedy(faster, lambda setup: standardised(setup, chosen).with_rate(FASTER)),
        TOGETHER,
    )


def _suspicion(size: Tensor, evidence: dict[str, Number], remedy: Remedy, weight: float) -> Suspicion:
    return Suspicion(
        "unnormalised_inputs",
        f"inputs have sizes of {float(size.min()):.3g} to {float(size.max()):.3g}, where about 1 is expected",
        "large columns decide the first layer's outputs and its gradients, small ones never count; a step that "
        "fits one is wrong for the other",
        evidence,
        remedy,
        weight=weight,
        explains=(
            "lr_too_high",
            "lr_too_low",
            "dead_relu",
            "saturated_activation",
            "exploding_gradient",
            "vanishing_gradient",
            "unstable_gradient",
            "underfitting",
            "too_few_epochs",
            "init_too_large",
        ),
    )


def severity(scale: Scale, part: Tensor) -> float:
    """Powers of ten by which a rule is broken; 0 where none is."""
    size, spread = scale.size, scale.spread[scale.varies]
    if len(size) == 0:
        return 0.0
    means = scale.mean[scale.varies].abs()
    found = [float(size.max()) / LARGE, SMALL / float(size.max()), float((means / spread).max()) / FAR]
    dense = spread if part.dim() != 2 else _dense(part, scale)
    if len(dense) > 1:
        found.append(float(dense.max() / dense.min()) / APART)
    most = max(found)
    return math.log10(most) + 0.01 if most > 1 else 0.0


def _dense(part: Tensor, scale: Scale) -> Tensor:
    """Spreads of those columns of a table that aren't mostly one value."""
    columns = part.float()[:, scale.varies] if scale.varies.dim() else part.float()
    common = (columns == columns.mode(0).values).float().mean(0)
    return scale.spread[scale.varies][common < SPARSE]


def _is_measured(part: Tensor) -> bool:
    return part.dim() > 0 and (part.is_floating_point() or part.dtype == torch.uint8)


def _undone(bench: Bench, size: float, chosen: tuple[bool, ...]) -> bool:
    """Whether outputs in training mode hardly change when all inputs are ten times as large, and when they are of size 1,
    altogether or each feature: saturated units are indifferent to the first, a norm layer to both."""
    usual = _outputs(bench.setup, bench)
    spread = usual.std(0).square().mean().sqrt()
    if float(spread) <= 1e-6 * float(usual.abs().max()):
        return False  # all rows alike: units are dead or at their rails

    def change(other: Tensor) -> float:
        return float((other - usual).square().mean().sqrt() / spread)

    if change(_outputs(bench.setup, bench, 10.0)) > UNDONE:
        return False
    return (
        min(change(_outputs(bench.setup, bench, 1.0 / size)), change(_outputs(standardised(bench.setup, chosen), bench)))
        <= UNDONE
    )


def _outputs(setup: Setup, bench: Bench, factor: float = 1.0) -> Tensor:
    inputs = tree(bench.some.inputs, lambda part: part * factor if part.is_floating_point() else part)
    with seeded_defaults(0), torch.no_grad():
        return tensors(setup.copied().model.train()(inputs))[0].float()
