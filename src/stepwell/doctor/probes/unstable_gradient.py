"""unstable_gradient: now and then a step's gradient is many times the usual one, or a few rows hold nearly all of the loss.

Rule: the training doesn't learn its own rows, or validation far less than simple methods do; and after the first tenth of the
steps more than one in a hundred gradients has 15 times the norm of the median of the ten steps before and after it, or two in a
hundred rows hold 80 % of the loss at the start and at the end. Rows whose gradient is limited must help; where that can't be
judged it is told if nothing else helps. Where spikes end at a lower rate the rate comes first.
Source: Pascanu, Mikolov & Bengio, ICML 2013, on clipping; Huber 1964 on rows that pull too hard.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch

from stepwell.doctor.bench import BEYOND, Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.tamed import tamed
from stepwell.doctor.rows import Rows, tree
from stepwell.doctor.setup import Setup
from stepwell.doctor.trials import outputs_over

FACTOR = 15.0
SHARE = 0.01
AROUND = 10
FEW, MOST_HELD = 0.02, 0.8


def probe(bench: Bench) -> Iterator[Suspicion]:
    if not (bench.unfit or bench.room >= BEYOND) or bench.own.crash is not None:
        return
    norms = [norm for norm in bench.own.grad_norms if math.isfinite(norm)]
    spikes, spiky = spikes_of(norms), is_spiky(norms)
    held = min(held_by_few(bench, bench.setup), 0.0 if bench.own.failed else held_by_few(bench, bench.own.setup))
    if not spiky and held < MOST_HELD:
        return
    # Spikes that a lower rate ends come from the rate; what comes from the rows stays.
    of_the_rate = held < MOST_HELD and _calm_at_a_lower_rate(bench)
    for remedy in (Remedy("Clip gradients, or take a loss that far rows can't dominate (huber)", tamed), _told()):
        yield Suspicion(
            "unstable_gradient",
            f"{len(spikes)} of {len(norms)} steps have a gradient of more than {FACTOR:g} times what is usual around them"
            if spiky
            else f"{FEW:.0%} of the rows hold {held:.0%} of the loss",
            "a few rows pull the weights away from what all others say",
            {
                "held_by_few": held,
                "spikes": len(spikes),
                "num_steps": len(norms),
                "largest_over_median": max(norms) / max(median(norms), 1e-12) if norms else None,
            },
            remedy,
            proof="mechanism",
            weight=0.5 if of_the_rate else 0.65,
            explains=("exploding_gradient", "underfitting", *([] if of_the_rate else ["lr_too_high"])),
        )


def spikes_of(norms: list[float]) -> list[int]:
    """The steps (from 0) whose norm is more than `FACTOR` times the median of those around."""
    found = []
    for at in range(len(norms) // 10, len(norms)):
        around = norms[max(0, at - AROUND) : at] + norms[at + 1 : at + 1 + AROUND]
        if around and norms[at] > FACTOR * median(around):
            found.append(at)
    return found


def is_spiky(norms: list[float]) -> bool:
    """Whether there are more spikes than chance makes, and steps enough to tell."""
    return len(norms) >= 40 and len(spikes_of(norms)) >= max(2, SHARE * len(norms))


def _calm_at_a_lower_rate(bench: Bench) -> bool:
    """Whether a training at a lower rate, of those tried, learnt more and had no spikes."""
    lower = [bench.trained(setup) for factor, setup in bench.rates.items() if factor < 1]
    better = [one for one in lower if one is not None and not one.failed and one.skill() > bench.own.skill() + BEYOND]
    return any(not is_spiky(course.grad_norms) for course in better)


def held_by_few(bench: Bench, setup: Setup) -> float:
    """The share of the loss that the `FEW` worst of some training rows hold; 0 where the loss of one row can't be told."""
    rows = bench.some
    outputs = outputs_over(setup.copied().model, rows)
    losses = [_loss_of_row(setup, outputs, rows, at) for at in range(len(rows))]
    if not losses or not all(math.isfinite(loss) and loss >= 0 for loss in losses) or sum(losses) <= 0:
        return 0.0
    worst = sorted(losses, reverse=True)[: max(1, round(FEW * len(losses)))]
    return sum(worst) / sum(losses)


def _loss_of_row(setup: Setup, outputs: Any, rows: Rows, at: int) -> float:
    row = rows.take(slice(at, at + 1))
    with torch.no_grad():
        return float(setup.loss(tree(outputs, lambda part: part[at : at + 1]), row.targets))


def _told() -> Remedy:
    return Remedy("Look at the rows with the largest loss; clip gradients (clip_norm 1.0), or take a loss such as huber")
