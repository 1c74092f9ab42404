"""label_out_of_range, wrong_num_outputs: labels that no output stands for.

Rule: the loss is asked with one label value at a time; values at which it raises though it answers at others are out of range
(so an ignored value is in range). Values 0 to K - 1 with at least a quarter of their fair share of rows each, more than there
are outputs, mean that outputs are missing; anything else means that labels are wrong. A target that is NaN is out of range
where the loss of its row is NaN.
Source: cross-entropy's domain; PyTorch's own 'Target 4 is out of bounds'.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Number, Remedy, Suspicion
from stepwell.doctor.remedies.data import known_only, mapped_labels, placed_labels, without_rows
from stepwell.doctor.remedies.heads import FOLLOWS, missing_outputs
from stepwell.doctor.setup import Loss
from stepwell.doctor.task import class_dim_of

FAIR = 0.25  # of rows / number of classes: a class of fewer is taken for a stray value
MOST_VALUES = 1024


def probe(bench: Bench) -> Iterator[Suspicion]:
    """Ask the loss about the label values that occur."""
    targets, outputs = bench.setup.train.targets, bench.outputs
    if not isinstance(targets, Tensor) or not isinstance(outputs, Tensor):
        return
    if targets.is_floating_point() and bool(torch.isnan(targets).any()):
        yield from _missing(bench, targets)
        return
    values, counts = torch.unique(targets, return_counts=True)
    if len(values) > MOST_VALUES or len(values) < 2:
        return
    dim = class_dim_of(outputs, targets)
    if not bool((values == values.round()).all()):
        return
    if dim is not None:
        yield from _class_numbers(bench, outputs, values, counts, dim)


def _class_numbers(bench: Bench, outputs: Tensor, values: Tensor, counts: Tensor, dim: int) -> Iterator[Suspicion]:
    loss, num_outputs = bench.setup.loss, outputs.shape[dim]
    answered = torch.tensor([_answers(loss, outputs, bench.some.targets, value) for value in values.long().tolist()])
    if bool(answered.all()) or not _answers(loss, outputs, bench.some.targets, 0):
        return
    known = answered & (values >= 0)
    bad = values[~answered].long()
    named = ", ".join(map(str, bad[:4].tolist()))
    evidence: dict[str, Number] = {
        "num_outputs": num_outputs,
        "smallest_label": int(values.min()),
        "largest_label": int(values.max()),
        "num_labels": len(values),
        "out_of_range": bad[:8].tolist(),
        "num_out_of_range": int(counts[~answered].sum()),
    }
    num_classes = int(values.max()) + 1
    in_line = int(values.min()) == 0 and len(values) == num_classes
    fair = float(counts.min()) >= FAIR * float(counts.sum()) / len(values)
    if in_line and fair and num_classes > num_outputs:
        yield missing_outputs(bench.setup, num_classes, evidence)
        return
    if len(values) <= num_outputs and float(counts[~answered].sum()) >= FAIR * float(counts.sum()) / len(values):
        place = partial(placed_labels, class_dim=dim) if int(values.min()) >= 0 else mapped_labels
        remedy = Remedy(
            f"Number the labels 0 to {len(values) - 1}, as the outputs have them: now they start at {int(values.min())}",
            partial(place, labels=values.long()),
        )
    else:
        remedy = Remedy(
            f"Leave out the labels that stand for nothing ({named}), or name them to the loss as ignore_index",
            partial(known_only, num_classes=int(values[known].max()) + 1, class_dim=dim) if bool(known.any()) else None,
        )
    yield Suspicion(
        "label_out_of_range",
        f"labels {named} have no output: the {num_outputs} outputs stand for labels 0 to {num_outputs - 1}",
        "the loss picks the output by the label's number: here it fails, on a GPU with an assertion that names no line",
        evidence,
        remedy,
        proof="certain",
        weight=1.0,
        explains=("wrong_num_outputs", *FOLLOWS),
        blocks=True,
    )


def _answers(loss: Loss, outputs: Tensor, targets: Tensor, value: int) -> bool:
    try:
        with torch.no_grad():
            loss(outputs[:4], torch.full_like(targets[:4], value))
    except Exception:
        return False
    return True


def _missing(bench: Bench, targets: Tensor) -> Iterator[Suspicion]:
    rows = torch.isnan(targets.reshape(len(targets), -1)).any(1)
    try:
        sample = rows.nonzero().squeeze(1)[:8]
        outputs = bench.setup.copied().model.eval()(bench.setup.train.take(sample).inputs)
        if bool(torch.isfinite(bench.setup.loss(outputs, targets[sample]))):
            return
    except Exception:
        return
    yield Suspicion(
        "label_out_of_range",
        f"{int(rows.sum())} training rows have NaN for a target",
        "the loss of such a row, and then every weight, is NaN",
        {"num_rows": int(rows.sum()), "rows": rows.nonzero().squeeze(1)[:5].tolist()},
        Remedy("Drop the rows without a target", partial(without_rows, dropped=rows)),
        proof="certain",
        weight=1.0,
        explains=("lr_too_high", "unstable_loss", "exploding_gradient"),
        blocks=True,
    )
