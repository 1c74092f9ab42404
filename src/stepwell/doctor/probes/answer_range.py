"""label_out_of_range, wrong_num_outputs of losses that compare one output with one target, yes or no.

Rule: a loss that is zero at best for 0 and for 1, each at its own end of the outputs, has no lowest value for other targets:
there it falls below -1. Targets 0 to K - 1 with K > 2 mean that outputs are missing. Of cross-entropy over one single output,
the loss is the same whatever the output is.
Source: binary cross-entropy is softplus(z) - t z, which is bounded below for t within 0 and 1 only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from stepwell.doctor.asking import value_of
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Number, Remedy, Suspicion
from stepwell.doctor.remedies.data import coded_as_shares
from stepwell.doctor.remedies.heads import FOLLOWS, missing_outputs
from stepwell.doctor.setup import Loss

FAR = 40.0  # an output that is as good as certain
MOST_VALUES = 1024


def probe(bench: Bench) -> Iterator[Suspicion]:
    """Ask the loss at far outputs."""
    targets, outputs = bench.setup.train.targets, bench.outputs
    if not isinstance(targets, Tensor) or not isinstance(outputs, Tensor) or outputs.numel() != bench.some.targets.numel():
        return
    values, counts = torch.unique(targets, return_counts=True)
    if not 2 <= len(values) <= MOST_VALUES or not bool((values == values.round()).all()):
        return
    yield from _yes_or_no(bench, outputs, values, counts)


def _yes_or_no(bench: Bench, outputs: Tensor, values: Tensor, counts: Tensor) -> Iterator[Suspicion]:
    loss, setup, some = bench.setup.loss, bench.setup, bench.some.targets
    single = outputs.dim() == 1 or outputs.shape[-1] == 1
    num_classes = int(values.max()) + 1
    in_line = int(values.min()) == 0 and len(values) == num_classes
    far = [value_of(loss, torch.full_like(outputs[:1], one), torch.ones_like(some[:1])) for one in (-FAR, FAR)]
    shares = bool(((outputs >= 0) & (outputs <= 1)).all()) and not all(map(math.isfinite, far))
    evidence: dict[str, Number] = {
        "num_outputs": 1,
        "smallest_label": float(values.min()),
        "largest_label": float(values.max()),
        "num_labels": len(values),
        "num_out_of_range": int(counts[(values < 0) | (values > 1)].sum()),
    }
    if single and in_line and _is_blind(loss, outputs, some):
        yield missing_outputs(setup, num_classes, evidence, entropy="of scores")
        return
    outside = [value for value in values.tolist() if not 0 <= value <= 1]
    if not outside or not _is_yes_or_no(loss, outputs, some) or min(_lowest(loss, outputs, some, one) for one in outside) >= -1:
        return
    if single and in_line and num_classes > 2:
        yield missing_outputs(setup, num_classes, evidence, entropy="of shares" if shares else "of scores")
        return
    yield Suspicion(
        "label_out_of_range",
        f"targets {', '.join(f'{one:g}' for one in outside[:4])} under a loss for 0 and 1",
        "such a loss has no lowest value outside of 0 and 1: it falls for ever, and outputs run off",
        {**evidence, "lowest_loss_seen": round(_lowest(loss, outputs, some, outside[0]), 2)},
        Remedy("Code the two answers as 0 and 1", partial(coded_as_shares, labels=values) if len(values) == 2 else None),
        proof="certain",
        weight=1.0,
        explains=("wrong_num_outputs", "wrong_loss", "lr_too_high", *FOLLOWS),
        blocks=True,
    )


def _lowest(loss: Loss, outputs: Tensor, targets: Tensor, value: float) -> float:
    """The least loss that far scores, or shares near 0 and 1, reach for this target: whichever of them the loss takes."""
    wanted = torch.full_like(targets[:1], value)
    reached = [value_of(loss, torch.full_like(outputs[:1], one), wanted) for one in (-FAR, FAR)]
    if not all(map(math.isfinite, reached)):
        reached = [value_of(loss, torch.full_like(outputs[:1], one), wanted) for one in (1e-6, 1 - 1e-6)]
    return min(reached) if all(map(math.isfinite, reached)) else math.nan


def _is_yes_or_no(loss: Loss, outputs: Tensor, targets: Tensor) -> bool:
    """Whether the loss is about zero at best for 0 and for 1, each at its own end."""
    lowest = [_lowest(loss, outputs, targets, value) for value in (0.0, 1.0, 2.0)]
    return abs(lowest[0]) < 1e-3 and abs(lowest[1]) < 1e-3 and lowest[2] < -1


def _is_blind(loss: Loss, outputs: Tensor, targets: Tensor) -> bool:
    """Whether outputs don't matter to the loss, for targets that differ."""
    try:
        with torch.no_grad():
            seen = [float(loss(outputs * factor + shift, targets)) for factor, shift in ((1, 0), (0.5, 0.2), (0.3, 0.6))]
    except Exception:
        return False
    return all(map(math.isfinite, seen)) and max(seen) - min(seen) <= 1e-6 * max(1.0, abs(seen[0]))
