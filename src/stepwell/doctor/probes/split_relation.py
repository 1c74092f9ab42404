"""train_val_mismatch: inputs look alike in both splits, and mean something else.

Rule: simple methods learn much within either split (0.3 of skill above always saying the same), and next to nothing of
validation from training (a quarter of that, in the mean of the methods that do well within both); the run is far better on
training rows, and learns as little of validation. Inputs that a classifier tells apart are asked elsewhere. A certain proof:
what holds in one split doesn't in the other.
Source: concept shift in the terms of Moreno-Torres et al., A unifying view on dataset shift, Pattern Recognition 2012.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

import torch

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.reference import Reference, reference_of
from stepwell.doctor.rows import Rows
from stepwell.doctor.task import Task
from stepwell.doctor.two_samples import TOLD_APART, told_apart

FEWEST_RELATED = 100  # rows
RELATED, LOST = 0.3, 0.25  # of skill above always saying the same, within a split; and the share of it that is found across
GAP = 0.25  # of skill
NEAR = 0.1  # of skill: methods that do about as well as the best


def probe(bench: Bench) -> Iterator[Suspicion]:
    train, val, across = bench.setup.train, bench.setup.val, bench.reference
    if val is None or across is None or min(len(val), len(train)) < FEWEST_RELATED or bench.own.failed:
        return
    inside = [one for one in (halves(train, bench.task), halves(val, bench.task)) if one is not None]
    known = min((one.best - one.trivial for one in inside), default=0.0)
    if len(inside) < 2 or known < RELATED:
        return
    found_across = _across(inside, across) - across.trivial
    if found_across > LOST * known:
        return
    last = bench.own.last
    if last.train_skill is None or last.val_skill is None or last.train_skill - last.val_skill < GAP:
        return
    if last.val_skill - across.trivial > LOST * known or told_apart(train, val)[0] >= TOLD_APART:  # other inputs: asked elsewhere
        return
    yield Suspicion(
        "train_val_mismatch",
        "targets follow from inputs within either split, and not from one split to the other",
        "columns, codes or classes have another order or another meaning in validation",
        {
            "skill_within_train": round(inside[0].best, 4),
            "skill_within_val": round(inside[1].best, 4),
            "skill_from_train_to_val": round(found_across + across.trivial, 4),
            "val_skill": last.val_skill,
        },
        Remedy("Give both splits the same columns in the same order, and the same codes of classes and categories"),
        proof="certain",
        weight=0.92,
        explains=("overfitting", "over_regularised", "too_few_epochs", "underfitting", "lr_too_high", "labels_misaligned"),
    )


def _across(inside: list[Reference], across: Reference) -> float:
    """The mean skill from training to validation of those methods that do well within both splits."""
    best = min(one.best for one in inside)
    well = [min(both) >= best - NEAR for both in zip(*(one.methods for one in inside), strict=True)]
    return fmean([skill for skill, good in zip(across.methods, well, strict=True) if good] or [across.best])


def halves(rows: Rows, task: Task) -> Reference | None:
    """What half of the rows tells of the other half."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    half = len(rows) // 2
    return reference_of(rows.take(order[:half]), rows.take(order[half:]), task)
