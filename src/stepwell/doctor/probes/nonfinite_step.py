"""What became non-finite first, when a training did and no remedy of its rate helps.

Rule: the copy is trained again to the step before; then the first of outputs, loss and gradients that isn't finite names the
cause: outputs finite and loss not: the loss (unstable_loss); outputs not: the network (exploding_gradient); only gradients:
the loss's slope.
Source: seed 002 section 7.8.5, step 3; the operation is named as `torch.autograd.detect_anomaly` would.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.bench import SEEDS, Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.rows import tensors
from stepwell.doctor.trials import index_batches


def probe(bench: Bench) -> Iterator[Suspicion]:
    step = bench.own.nonfinite
    if step is None:
        return
    again = bench.run(bench.setup, step - 1, seed=SEEDS[0])
    if len(again.losses) < step - 1:
        return  # the steps are used up
    before = again.setup
    batches = index_batches(bench.setup, SEEDS[0])
    rows = [next(batches) for _ in range(step)][-1]
    batch = before.train.take(rows)
    with seeded_defaults(0), torch.no_grad():
        outputs = before.model.train()(batch.inputs)
    sound = all(bool(torch.isfinite(part).all()) for part in tensors(outputs))
    largest = max((float(part.abs().max()) for part in tensors(outputs)), default=0.0)
    evidence = {
        "step": step,
        "outputs_finite": sound,
        "largest_output": largest,
        "last_loss": bench.own.losses[-2] if step > 1 else None,
    }
    if sound:
        yield Suspicion(
            "unstable_loss",
            f"the loss of step {step} isn't finite though the outputs are, {largest:.3g} at most",
            "the loss takes a logarithm, a root or a quotient where it has no value",
            evidence,
            Remedy("Take the form of the loss that works on logits, or keep its arguments away from 0 (clamp)"),
            proof="mechanism",
            weight=0.4,
        )
    else:
        yield Suspicion(
            "exploding_gradient",
            f"the outputs of step {step} aren't finite",
            "steps have driven the weights to where the network overflows",
            evidence,
            Remedy("Lower the rate, clip gradients (clip_norm 1.0), or draw smaller weights"),
            proof="mechanism",
            weight=0.3,
        )
