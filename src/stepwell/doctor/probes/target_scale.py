"""unscaled_targets: quantities far from what an untrained model gives.

Rule: the targets' spread is above 8 or below 0.05, or their mean lies more than 3 of their spreads, and more than 3, from zero
and from the mean of the untrained outputs; and the loss is least where outputs equal targets. A symptom: told only if learning
them in units of their spread helps.
Source: LeCun et al., Efficient BackProp, 1998, section 4.5, on target values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.data import scaled_targets
from stepwell.doctor.scales import Scale
from stepwell.doctor.setup import Loss

LARGE, SMALL = 8.0, 0.05
FAR = 3.0
MOST_COLUMNS = 64


def probe(bench: Bench) -> Iterator[Suspicion]:
    """Ask quantities only."""
    targets, outputs = bench.setup.train.targets, bench.outputs
    if bench.task.kind != "quantity" or not isinstance(outputs, Tensor) or not targets.is_floating_point():
        return
    if outputs.shape != bench.some.targets.shape or not bool(torch.isfinite(targets).all()):
        return
    scale = _scale(targets)
    spread = scale.spread[scale.varies]
    if len(spread) == 0 or not _is_distance(bench.setup.loss, bench.some.targets, scale):
        return
    start = outputs.float().mean(0) if scale.mean.dim() else outputs.float().mean()
    off = scale.mean.abs()[scale.varies]
    if bool(torch.isfinite(start).all()):  # outputs that lie far off by themselves are another matter
        off = torch.minimum(off, (scale.mean - start).abs()[scale.varies])
    broken = max(
        float(spread.max()) / LARGE,
        SMALL / float(spread.max()),
        min(float((off / spread).max()), float(off.max())) / FAR,
    )
    if broken <= 1:
        return
    yield Suspicion(
        "unscaled_targets",
        f"targets have mean {float(scale.mean.mean()):.4g} and spread {float(scale.spread.mean()):.4g}; "
        f"untrained outputs lie around {float(start.mean()):.3g}",
        "errors and gradients have the targets' unit: steps are far too large, or are spent on reaching their mean",
        {
            "mean": float(scale.mean.mean()),
            "spread": float(scale.spread.mean()),
            "mean_of_untrained_outputs": float(start.mean()),
            "spread_of_untrained_outputs": float(outputs.float().std(0).mean()),
        },
        Remedy(
            "Standardise the targets by the training rows, and bring the outputs back to their units",
            partial(scaled_targets, scale=scale),
        ),
        weight=min(0.9, 0.62 + 0.2 * math.log10(broken)),
        explains=(
            "lr_too_high",
            "lr_too_low",
            "too_few_epochs",
            "underfitting",
            "exploding_gradient",
            "unstable_gradient",
            "saturated_activation",
            "dead_relu",
            "wrong_output_activation",
        ),
    )


def _scale(targets: Tensor) -> Scale:
    """Of each column, where there are few."""
    if targets.dim() == 2 and targets.shape[1] <= MOST_COLUMNS:
        return Scale(targets.mean(0), targets.std(0, correction=0))
    return Scale(targets.mean(), targets.std(correction=0))


def _is_distance(loss: Loss, targets: Tensor, scale: Scale) -> bool:
    """Whether the loss of targets with themselves is less than that of targets beside them."""
    with torch.no_grad():
        best = float(loss(targets, targets))
        return all(float(loss(targets + step * scale.safe_spread, targets)) > best for step in (-1.0, -0.1, 0.1, 1.0))
