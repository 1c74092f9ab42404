"""What became non-finite first, when a training did and no remedy of its rate helps.

Rule: a copy is trained again to the step before the one whose loss isn't finite. Where the gradient of that step's finite loss
isn't finite at its finite outputs, the loss has no slope there (the root or the norm of 0: unstable_loss); where it is there and
isn't at the weights, an operation of the network has none (unstable_gradient). Else the weights have gone too far: outputs are
finite and the loss isn't (unstable_loss), or outputs aren't (exploding_gradient).
Source: seed 002 section 7.8.5, step 3; the operation is named as `torch.autograd.detect_anomaly` would.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.bench import SEEDS, Bench
from stepwell.doctor.findings import Number, Remedy, Suspicion
from stepwell.doctor.rows import Rows, tensors
from stepwell.doctor.setup import Setup
from stepwell.doctor.trials import index_batches


def probe(bench: Bench) -> Iterator[Suspicion]:
    step = bench.own.nonfinite
    if step is None:
        return
    batches = index_batches(bench.setup, SEEDS[0])
    rows = [next(batches) for _ in range(step)]
    before = _trained(bench, step - 2) if step > 1 else None
    if before is not None:
        place = _first_without_slope(before, before.train.take(rows[-2]))
        if place is not None:
            yield _no_slope(place, step - 1)
            return
    before = _trained(bench, step - 1)
    if before is not None:
        yield _far(bench, before, before.train.take(rows[-1]), step)


def _trained(bench: Bench, num_steps: int) -> Setup | None:
    """The setup after so many steps; None where they are used up."""
    again = bench.run(bench.setup, num_steps, seed=SEEDS[0])
    return again.setup if len(again.losses) == num_steps else None


def _first_without_slope(setup: Setup, batch: Rows) -> str | None:
    """Where a finite loss has no finite gradient: "loss", or the name of the last weight without one; None where all have."""
    setup.model.train().zero_grad()
    with seeded_defaults(0), torch.enable_grad():
        outputs = setup.model(batch.inputs)
        parts = [part for part in tensors(outputs) if part.requires_grad]
        for part in parts:
            part.retain_grad()
        loss = setup.loss(outputs, batch.targets)
        if not _finite([*parts, loss]):
            return None
        loss.backward()  # type: ignore[no-untyped-call]
    if not _finite([part.grad for part in parts if part.grad is not None]):
        return "loss"
    names = [name for name, part in setup.model.named_parameters() if part.grad is not None and not _finite([part.grad])]
    return names[-1] if names else None


def _finite(parts: list[Tensor]) -> bool:
    return all(bool(torch.isfinite(part).all()) for part in parts)


def _no_slope(place: str, step: int) -> Suspicion:
    of_loss = place == "loss"
    where = "the outputs" if of_loss else place
    return Suspicion(
        "unstable_loss" if of_loss else "unstable_gradient",
        f"the loss of step {step} is finite, its gradient at {where} isn't",
        f"{'the loss' if of_loss else 'the network'} takes a root, a norm, a logarithm or a quotient at 0: it has a value there, "
        "and no slope",
        {"step": step, "place": place},
        Remedy("Add a small number under the root, to the norm or to the divisor (1e-8), or clamp it before"),
        proof="mechanism",
        weight=0.9,
        explains=("exploding_gradient", "lr_too_high", "underfitting", "capacity_too_small"),
    )


def _far(bench: Bench, before: Setup, batch: Rows, step: int) -> Suspicion:
    with seeded_defaults(0), torch.no_grad():
        outputs = before.model.train()(batch.inputs)
    sound = all(bool(torch.isfinite(part).all()) for part in tensors(outputs))
    largest = max((float(part.abs().max()) for part in tensors(outputs)), default=0.0)
    evidence: dict[str, Number] = {
        "step": step,
        "outputs_finite": sound,
        "largest_output": largest,
        "last_loss": bench.own.losses[-2] if step > 1 else None,
    }
    if sound:
        return Suspicion(
            "unstable_loss",
            f"the loss of step {step} isn't finite though the outputs are, {largest:.3g} at most",
            "the loss takes a logarithm, a root or a quotient where it has no value",
            evidence,
            Remedy("Take the form of the loss that works on logits, or keep its arguments away from 0 (clamp)"),
            proof="mechanism",
            weight=0.4,
        )
    return Suspicion(
        "exploding_gradient",
        f"the outputs of step {step} aren't finite",
        "steps have driven the weights to where the network overflows",
        evidence,
        Remedy("Lower the rate, clip gradients (clip_norm 1.0), or draw smaller weights"),
        proof="mechanism",
        weight=0.3,
    )
