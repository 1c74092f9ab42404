"""missing_output_activation: a loss that cuts outputs to chances, and a model that gives scores.

Rule: the loss of classes or labels is the same for all outputs below 0, where a tenth of the model's lie or more, and not
between 0 and 1. Mechanical, so certain: where outputs are cut no gradient comes back.
Source: forum threads on hand-written cross-entropies with `clamp(eps, 1 - eps)`, whose model has no sigmoid.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from stepwell.doctor.asking import Asked, asked
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.setup import Setup

BELOW = 0.1  # of the outputs


def probe(bench: Bench) -> Iterator[Suspicion]:
    item = asked(bench)
    if item is None or not item.task.categorical or item.domain != "scores" or not _cut_to_chances(item):
        return
    below = float((item.outputs < 0).float().mean())
    yield Suspicion(
        "missing_output_activation",
        f"the loss is the same for all outputs below 0, where {below:.0%} of the model's lie",
        "it is made for chances: where outputs are cut to them no gradient comes back",
        {"share_below_0": below, **{f"loss_at_{value:g}": _all(item, value) for value in (-1.0, -3.0, 0.5)}},
        _ended(item),
        proof="certain",
        weight=0.93,
        explains=("unstable_loss", "exploding_gradient", "wrong_loss", "lr_too_high", "dead_relu", "unstable_gradient"),
    )


def _all(item: Asked, value: float) -> float:
    """The loss where all outputs are the same."""
    return item(torch.full_like(item.outputs, value))


def _cut_to_chances(item: Asked) -> bool:
    """Whether the loss looks at outputs between 0 and 1 only, and many of the model's lie below."""
    first, *others = (_all(item, value) for value in (-1.0, -3.0, -9.0))
    small = 1e-6 * max(abs(first), 1e-3)
    flat = all(abs(other - first) <= small for other in others)
    inside = abs(_all(item, 0.05) - _all(item, 0.5)) > 1e-3 * max(abs(first), 1e-3)
    return flat and inside and float((item.outputs < 0).float().mean()) >= BELOW


def _ended(item: Asked) -> Remedy:
    """The model with what brings its scores to chances."""
    last = nn.Softmax(item.task.class_dim) if item.task.kind == "classes" else nn.Sigmoid()

    def change(setup: Setup) -> Setup:
        copied = setup.copied()
        return copied.change(model=nn.Sequential(copied.model, last))

    return Remedy(f"End the model in {type(last).__name__.lower()}, or take a loss of scores", change)
