"""Initial weights so large that the first outputs are far from anything wanted.

Rule: the loss at the start lies above that of the best constant by more than twice what lies between the constant and right
outputs (of classes: twice the logarithm of their number), while the same model with its layers' own initialisation stays below
half of that, or with embeddings a tenth as large. Drawing the weights anew must help. Source: Karpathy's recipe (loss at
initialisation); TheDeepChecker (TOSEM 2022).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from stepwell.doctor.asking import Asked, asked, domain_of
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.probes.gradient_flow import tables_of
from stepwell.doctor.remedies.modules import Change, drawn_anew, shrunk
from stepwell.doctor.setup import Setup
from stepwell.doctor.trials import outputs_over

FACTOR = 2.0
TABLES = 0.1  # of the spread of embeddings


def probe(bench: Bench) -> Iterator[Suspicion]:
    item = asked(bench)
    if item is None:
        return
    redrawn, others = _redrawn(bench)
    own, other = excess(item, item.outputs), excess(item, _outputs(bench, redrawn(bench.setup)))
    if own is None or own <= FACTOR:
        return
    if other is not None and other > 0.5 * own:
        yield from _tables(bench, item, own)
        return
    large = [name for name, ratio in _sizes(bench.setup, redrawn(bench.setup)) if ratio > 2]
    if not large:
        return
    words = "Leave weights as the layers' classes draw them, or draw them with He's or Glorot's spread"
    for change in (redrawn, others):
        yield _suspicion(item, own, ("with weights as their layers draw them", other), large, Remedy(words, change))


def _tables(bench: Bench, item: Asked, own: float) -> Iterator[Suspicion]:
    """Embeddings as their class draws them, of spread 1: products of their rows are then far larger than targets."""
    ids = tables_of(bench.setup.model)
    names = [name for name, part in bench.setup.model.named_parameters() if id(part) in ids]
    smaller = shrunk(names, TABLES)
    then = excess(item, _outputs(bench, smaller(bench.setup))) if names else None
    if then is not None and then <= 0.5 * own:
        remedy = Remedy(f"Draw embeddings with {TABLES:g} of their spread", smaller)
        yield _suspicion(item, own, (f"with embeddings of {TABLES:g} of their size", then), names, remedy)


def _suspicion(item: Asked, own: float, instead: tuple[str, float | None], large: list[str], remedy: Remedy) -> Suspicion:
    how, other = instead
    return Suspicion(
        "init_too_large",
        f"the first loss is {own:.3g} times as far above the best constant's as that is above 0"
        + (f"; {how} it is {max(other, 0.0):.3g} times" if other is not None else ""),
        "first outputs are so large that steps undo them before anything is learnt, or units are at their rails",
        {"excess": own, "excess_redrawn": other, "layers": large[:20], "spread_of_outputs": float(item.outputs.std())},
        remedy,
        proof="mechanism",
        weight=0.85,
        explains=(
            *("exploding_gradient", "lr_too_high", "lr_too_low", "dead_relu", "saturated_activation", "unstable_gradient"),
            *("too_few_epochs", "vanishing_gradient", "overfitting", "unstable_loss", "warmup_too_short"),
        ),
    )


def _redrawn(bench: Bench) -> tuple[Change, Change]:
    """The layers' own initialisation, then He's; the other way round where outputs then differ ten times less between rows
    (deep, no norm)."""
    plain, by_he = drawn_anew(), drawn_anew(spread="he")
    signals = [_signal(_outputs(bench, change(bench.setup))) for change in (plain, by_he)]
    return (by_he, plain) if signals[0] < 0.1 * signals[1] else (plain, by_he)


def _signal(outputs: Tensor | None) -> float:
    return 0.0 if outputs is None else float(outputs.float().std(0).mean())


def excess(item: Asked, outputs: Tensor | None) -> float | None:
    """How far the loss is above the best constant's, in units of what a constant loses."""
    if outputs is None or outputs.shape != item.outputs.shape:
        return None
    if not bool(torch.isfinite(outputs).all()):
        return math.inf
    if item.task.kind == "quantity":  # the outputs' spread: their mean is a matter of the targets' units
        wanted = item.targets.float().reshape(outputs.shape)
        spread = float(wanted.var())
        return float(outputs.float().var()) / spread - 1 if spread > 0 else None
    if domain_of(outputs, item.task, item.reach) != "scores":
        return None
    value, constant, right = item(outputs), item(item.constant()), item(item.raised(item.labels))
    if not all(math.isfinite(number) for number in (constant, right)) or constant <= right:
        return None
    return math.inf if not math.isfinite(value) else (value - constant) / (constant - right)


def _outputs(bench: Bench, setup: Setup) -> Tensor | None:
    try:
        found = outputs_over(setup.model, bench.some)
    except Exception:
        return None
    return found if isinstance(found, Tensor) else None


def _sizes(own: Setup, redrawn: Setup) -> list[tuple[str, float]]:
    """How many times larger each weight is than as its layer draws it."""
    drawn = dict(redrawn.model.named_parameters())
    return [
        (name, float(part.detach().norm() / drawn[name].detach().norm().clamp(min=1e-12)))
        for name, part in own.model.named_parameters()
        if part.dim() >= 2 and part.is_floating_point()
    ]
