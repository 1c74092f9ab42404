"""Class numbers learnt as if they were quantities.

Rule: one output per row, targets 0 to K - 1 (3 to 20 of them, all there) that simple methods tell as classes in 60 % of the
validation rows and 0.2 above always the same, and whose order means nothing: from a row to the most similar one of another
target, the target changes by 1.3 on average at least, and by no less than had the numbers been dealt out anew (median of 31
deals). Counts and grades pass, for their neighbours are 1 apart. Certain.
Source: "wrong loss" in DeepFD's ground truths (ICSE 2022): squared error of class numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Suspicion
from stepwell.doctor.reference import columns_of, reference_of
from stepwell.doctor.remedies.heads import missing_outputs
from stepwell.doctor.rows import Rows
from stepwell.doctor.task import FEW, Task

NUM_DEALS = 31
MOST_ROWS = 1024
LEAST_RIGHT = 0.6
ABOVE_TRIVIAL = 0.2
LEAST_STEP = 1.3  # an order's neighbours are 1 apart


def probe(bench: Bench) -> Iterator[Suspicion]:
    targets = bench.setup.train.targets
    if bench.task.kind != "quantity" or not isinstance(targets, Tensor) or targets.numel() != len(targets):
        return
    values = torch.unique(targets)
    num_classes = len(values)
    if not 3 <= num_classes <= FEW or not torch.equal(values.double(), torch.arange(num_classes).double()):
        return
    told = reference_of(_numbered(bench.setup.train), _numbered(bench.val), Task("classes", num_classes))
    if told is None or told.best < max(LEAST_RIGHT, told.trivial + ABOVE_TRIVIAL):
        return
    labels = _numbered(bench.setup.train).targets
    steps = _steps(bench.setup.train.inputs, labels, num_classes)
    if steps is None:
        return
    own, others = steps
    middle = sorted(others)[len(others) // 2]
    if own < middle or own < LEAST_STEP:
        return
    evidence = {
        "num_outputs": 1,
        "accuracy_as_classes": told.best,
        "step_to_next_class": own,
        "step_of_numbers_dealt_anew": middle,
    }
    like = missing_outputs(bench.setup, num_classes, dict(evidence), entropy="of scores")
    yield replace(
        like,
        id="wrong_loss",
        symptom=f"targets 0 to {num_classes - 1} are learnt as quantities, but similar rows differ by {own:.2f} on average "
        f"where their targets differ, and by {middle:.2f} had the numbers been dealt out anew",
        cause="they are numbers of classes: a regression takes class 2 for twice class 1",
        explains=("wrong_num_outputs", *like.explains),
        weight=0.85,
        blocks=False,
    )


def _numbered(rows: Rows) -> Rows:
    return rows.with_targets(rows.targets.reshape(-1).round().long().clamp(min=0))


def _steps(inputs: Any, labels: Tensor, num_classes: int) -> tuple[float, list[float]] | None:
    """By how much the target of the most similar row of another target differs, on average; and so for numbers dealt out anew."""
    columns = columns_of(inputs)
    if columns is None or len(columns) != len(labels):
        return None
    columns, labels = columns[:MOST_ROWS], labels[:MOST_ROWS]
    columns = (columns - columns.mean(0)) / columns.std(0, correction=0).clamp(min=1e-8)
    far = torch.cdist(columns, columns)
    far[labels[:, None] == labels[None, :]] = float("inf")
    other = labels[far.argmin(1)]
    draw = torch.Generator().manual_seed(0)
    deals = [torch.arange(num_classes), *(torch.randperm(num_classes, generator=draw) for _ in range(NUM_DEALS))]
    own, *others = (float((deal[labels] - deal[other]).abs().float().mean()) for deal in deals)
    return own, others
