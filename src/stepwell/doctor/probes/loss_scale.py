"""A loss that is a sum over the batch where the rate was chosen for a mean.

Rule: the loss of a batch put together with itself is twice the loss (to 0.1 %). A symptom: it harms only where the rate doesn't
fit, so the mean must help. Source: GitHub wkentaro/pytorch-fcn#17; `reduction` of torch's losses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from stepwell.doctor.asking import value_of
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.losses import per_row


def probe(bench: Bench) -> Iterator[Suspicion]:
    outputs, targets = bench.outputs, bench.some.targets
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
        return
    outputs, targets = outputs[:64], targets[:64]
    once = value_of(bench.setup.loss, outputs, targets)
    twice = value_of(bench.setup.loss, torch.cat([outputs, outputs]), torch.cat([targets, targets]))
    if not math.isfinite(once) or not math.isfinite(twice) or abs(once) < 1e-8 or abs(twice / once - 2) > 1e-3:
        return
    parts = max(1, targets[0].numel() if not bench.task.one_hot else targets[0].numel() // targets.shape[-1])
    yield Suspicion(
        "loss_reduction_sum",
        f"the loss of a batch put together with itself is {twice / once:.4g} times the loss",
        f"gradients are {bench.setup.batch_size * parts} times those of a mean, and the rate wasn't chosen for that",
        {"loss": once, "loss_of_doubled_batch": twice, "ratio": twice / once, "terms_per_step": bench.setup.batch_size * parts},
        Remedy("Take the mean: reduction='mean', or divide the rate by the batch size", per_row(parts)),
        weight=0.85,
        explains=("lr_too_high", "exploding_gradient", "unstable_gradient", "dead_relu", "momentum_too_high", "unstable_loss"),
    )
