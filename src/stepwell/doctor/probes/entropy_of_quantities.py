"""wrong_loss: a cross-entropy of real numbers.

Rule: targets are quantities, no shares of classes, and over several rows the loss is, to 1e-5, what torch's cross-entropy says of
the same tensors: it takes a column of numbers, or all rows of a batch, as the scores of classes. Mechanical, so certain.
Source: forum threads on CrossEntropyLoss in regressions, whose loss is 0 or never falls.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from stepwell.doctor.asking import Asked, asked
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.losses import with_loss

CLOSE = 1e-5


def probe(bench: Bench) -> Iterator[Suspicion]:
    item = asked(bench)
    if item is None or item.task.kind != "quantity" or item.outputs.shape != item.targets.shape or not _is_entropy(item):
        return
    yield Suspicion(
        "wrong_loss",
        f"the loss is the cross-entropy of outputs {tuple(item.outputs.shape)} with targets that are real numbers",
        "numbers are taken for scores of classes: outputs moved together leave the loss as it is",
        {"loss": item(item.outputs), "num_rows": len(item.outputs), "loss_of_moved_outputs": item(item.outputs + 1.0)},
        Remedy("Take a loss of quantities, such as mse_loss", with_loss(nn.MSELoss())),
        proof="certain",
        weight=0.93,
        explains=("underfitting", "unscaled_targets", "lr_too_low", "too_few_epochs", "vanishing_gradient", "capacity_too_small"),
    )


def _is_entropy(item: Asked) -> bool:
    draw = torch.Generator().manual_seed(0)
    for scale in (0.5, 2.0):
        outputs = scale * torch.randn(item.outputs.shape, generator=draw)
        try:
            known = float(nn.functional.cross_entropy(outputs, item.targets.float()))
        except (RuntimeError, ValueError):
            return False
        value = item(outputs)
        if not math.isfinite(known) or not abs(value - known) <= CLOSE * max(abs(known), 1e-3):  # nan is no match
            return False
    return True
