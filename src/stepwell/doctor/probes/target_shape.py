"""Targets that meet outputs of another shape, so that every output is compared with every target.

Rule: outputs and targets hold as many numbers in other shapes, the loss stays the same whichever row a target belongs to, or is
that of both repeated to a larger common shape, and it isn't once targets are given the outputs' shape; or one output per row
meets several targets. Threshold: equal to 1e-5 of the loss. Mechanical, so certain.
Source: PyTorch's warning of mse_loss on broadcasting; GitHub deepset-ai/FARM#229, pytorch/pytorch#4938.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from stepwell.doctor.asking import value_of
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Number, Remedy, Suspicion
from stepwell.doctor.remedies.heads import missing_outputs
from stepwell.doctor.remedies.losses import Reshaped, reshaped
from stepwell.doctor.setup import Loss


def probe(bench: Bench) -> Iterator[Suspicion]:
    outputs, targets = bench.outputs, bench.some.targets
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
        return
    if outputs.dim() == 2 == targets.dim() and outputs.shape[1] == 1 < targets.shape[1]:
        yield from _one_for_many(bench, outputs, targets)
    if outputs.numel() != targets.numel():
        return
    if outputs.shape == targets.shape or len(torch.unique(targets)) < 2 or len(outputs) < 3:
        return
    size = bench.setup.batch_size
    if size < len(outputs) and not math.isfinite(value_of(bench.setup.loss, outputs, targets)):
        outputs, targets = outputs[:size], targets[:size]  # there are shapes that broadcast in batches of one size only
    found = next((one for one in (_mixed(bench.setup.loss, some, targets) for some in _asked(outputs, targets)) if one), None)
    if found is not None:
        yield Suspicion(
            "target_shape_mismatch",
            f"outputs are {_shape(outputs)}, targets {_shape(targets)}; every output meets targets of other rows",
            "the shapes broadcast: every output is compared with every target, so the best answer is the targets' mean",
            {"outputs": list(outputs.shape), "targets": list(targets.shape), **found},
            Remedy("Give targets the outputs' shape: loss(outputs, targets.view_as(outputs))", reshaped),
            proof="certain",
            weight=0.95,
            explains=("underfitting", "wrong_loss", "lr_too_low", "capacity_too_small", "too_few_epochs"),
        )


def _asked(outputs: Tensor, targets: Tensor) -> Iterator[Tensor]:
    """Outputs that differ between rows, lest a constant model hides the pairing; and some on both sides of the targets: where all
    lie on one side, a sum of absolute errors doesn't see it."""
    if not outputs.is_floating_point():
        yield outputs
        return
    draw = torch.Generator().manual_seed(0)
    yield outputs + 0.1 * (outputs.std() + 0.1) * torch.rand(outputs.shape, generator=draw)
    yield targets.float().mean() + targets.float().std() * torch.randn(outputs.shape, generator=draw)


def _mixed(loss: Loss, outputs: Tensor, targets: Tensor) -> dict[str, Number] | None:
    """What the loss says of rows whose targets were turned, where it says the same of them though it wouldn't of equal shapes."""
    turned, mended = targets.roll(1, 0), Reshaped(loss)
    same, moved = value_of(loss, outputs, targets), value_of(loss, outputs, turned)
    right, wrong = value_of(mended, outputs, targets), value_of(mended, outputs, turned)
    small = 1e-5 * max(abs(same), 1e-6)
    if not all(math.isfinite(value) for value in (same, moved, right, wrong)) or abs(right - wrong) <= 10 * small:
        return None
    if abs(same - moved) > small and not _is_broadcast(loss, outputs, targets, same):
        return None
    return {"loss": same, "loss_rows_turned": moved, "loss_same_shape": right}


def _is_broadcast(loss: Loss, outputs: Tensor, targets: Tensor, value: float) -> bool:
    """Whether the loss is that of both tensors repeated to the shape in which they meet."""
    try:
        shape = (outputs.float() + targets.float()).shape
    except RuntimeError:
        return False
    if shape.numel() <= outputs.numel():
        return False
    repeated = value_of(loss, outputs.expand(shape), targets.expand(shape))
    return abs(repeated - value) <= 1e-5 * max(abs(value), 1e-6)


def _one_for_many(bench: Bench, outputs: Tensor, targets: Tensor) -> Iterator[Suspicion]:
    """One output that is compared with each of several targets of its row."""
    draw = torch.Generator().manual_seed(0)
    outputs = outputs + 0.1 * torch.rand(outputs.shape, generator=draw)
    once = value_of(bench.setup.loss, outputs, targets)
    spread = value_of(bench.setup.loss, outputs.expand(targets.shape), targets)
    if math.isfinite(once) and abs(once - spread) <= 1e-5 * max(abs(once), 1e-6):
        evidence: dict[str, Number] = {"num_outputs": 1, "num_targets": targets.shape[1], "loss": once, "loss_repeated": spread}
        like = missing_outputs(bench.setup, targets.shape[1], evidence)
        yield replace(like, symptom=f"rows have {targets.shape[1]} targets each, and the one output is compared with all of them")


def _shape(part: Tensor) -> str:
    return str(tuple(part.shape))
