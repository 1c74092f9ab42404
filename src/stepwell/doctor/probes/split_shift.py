"""train_val_mismatch: validation rows come from elsewhere.

Rule: a classifier tells the splits apart by their inputs (area under its curve above 0.8 on rows held out from it). With one
factor and shift for each feature that brings validation to where training lies, the remedy is tried, and told if it helps.
Without, the run must end far lower on validation than on training (0.25 of skill) while simple methods that learn from other
validation rows do better. For relations: simple methods learn much within either split (0.3 of skill), and next to nothing of
validation from training, where the run learns as little. For targets: a fifth of the validation rows has a class that training
rows never have.
Source: the classifier two-sample test of Lopez-Paz and Oquab, ICLR 2017, arXiv:1610.06545.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Number, Remedy, Suspicion
from stepwell.doctor.reference import Reference, reference_of
from stepwell.doctor.remedies.data import in_units_of_validation
from stepwell.doctor.rows import Rows
from stepwell.doctor.scales import Scale, scale_of
from stepwell.doctor.task import Task
from stepwell.doctor.two_samples import told_apart

FEWEST_ROWS = 40
TOLD_APART = 0.8
GAP = 0.25  # of skill
LEAST_LEAN = 0.3  # a normal sample of 700 values has less in nearly all draws: 3 * sqrt(6 / 700)
FEWEST_RELATED = 100  # rows
RELATED, LOST = 0.3, 0.25  # of skill above always saying the same, within a split; and the share of it that is found across
NEW_CLASSES = 0.2  # of the validation rows
_FOLLOWS = ("overfitting", "over_regularised", "too_few_epochs", "underfitting", "lr_too_high", "unnormalised_inputs")


def probe(bench: Bench) -> Iterator[Suspicion]:
    """Ask targets, then inputs."""
    train, val = bench.setup.train, bench.setup.val
    if val is None or min(len(train), len(val)) < FEWEST_ROWS:
        return
    yield from _new_classes(bench, train, val)
    area, features = told_apart(train, val)
    if area < TOLD_APART:
        if _other_relation(bench):
            yield from _related_otherwise(bench)
        return
    evidence: dict[str, Number] = {"area_under_curve": round(area, 3), "num_columns": features}
    symptom = f"a classifier tells validation rows from training rows by their inputs (area under its curve {area:.2f})"
    cause = "the model meets other inputs in validation than it learnt from: one split wasn't scaled, coded or drawn as the other"
    if isinstance(train.inputs, Tensor) and train.inputs.is_floating_point() and train.inputs.shape[1:] == val.inputs.shape[1:]:
        factor, shift = _map(train.inputs, val.inputs)
        evidence_of = {**evidence, "factor": _short(factor), "shift": _short(shift)}
        yield Suspicion(
            "train_val_mismatch",
            symptom,
            cause,
            evidence_of,
            Remedy(
                f"Scale both splits alike: {_short(factor)} * validation + {_short(shift)} lies where training does",
                partial(in_units_of_validation, factor=factor, shift=shift),
            ),
            proof="mechanism",
            weight=0.93,
            explains=_FOLLOWS,
        )
    if _val_learns_from_itself(bench, train, val):
        yield Suspicion(
            "train_val_mismatch",
            symptom,
            cause,
            {**evidence, "train_skill": bench.own.last.train_skill, "val_skill": bench.own.last.val_skill},
            Remedy("Give both splits the same preparation, or draw both from the same rows"),
            proof="mechanism",
            weight=0.9,
            explains=_FOLLOWS,
        )


def _map(train: Tensor, val: Tensor) -> tuple[Tensor, Tensor]:
    """Factor and shift that give validation the training rows' mean and spread; mirrored where the two lean to opposite sides."""
    mine, theirs = scale_of(train), scale_of(val)
    if mine.mean.shape != theirs.mean.shape:
        mine, theirs = (Scale(part.float().mean(), part.float().std(correction=0)) for part in (train, val))
    factor = mine.safe_spread / theirs.safe_spread
    leans = [_lean(train, mine), _lean(val, theirs)]
    if min(map(abs, leans)) > LEAST_LEAN and leans[0] * leans[1] < 0:
        factor = -factor
    return factor, mine.mean - factor * theirs.mean


def _lean(rows: Tensor, scale: Scale) -> float:
    """The mean cube of standardised values: above 0 where the far ones are large."""
    return float(((rows.float() - scale.mean) / scale.safe_spread).pow(3).mean())


def _short(values: Tensor) -> str:
    flat = values.reshape(-1)
    return (
        f"{float(flat[0]):.4g}"
        if len(flat) == 1
        else "[" + ", ".join(f"{one:.4g}" for one in flat[:6].tolist()) + ("]" if len(flat) <= 6 else ", ...]")
    )


def _val_learns_from_itself(bench: Bench, train: Rows, val: Rows) -> bool:
    """Whether the run is far better on training rows, and half of the validation rows tell more of the other half than it."""
    last = bench.own.last if bench.own.looks else None
    if (
        bench.own.failed
        or last is None
        or last.train_skill is None
        or last.val_skill is None
        or last.train_skill - last.val_skill < GAP
    ):
        return False
    known = _halves(val, bench.task)
    return known is not None and known.best > last.val_skill + GAP / 2


def _halves(rows: Rows, task: Task) -> Reference | None:
    """What half of the rows tells of the other half."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    half = len(rows) // 2
    return reference_of(rows.take(order[:half]), rows.take(order[half:]), task)


def _other_relation(bench: Bench) -> bool:
    """Whether simple methods learn much within either split and next to nothing from one to the other; nor does the run."""
    across, val = bench.reference, bench.setup.val
    if across is None or val is None or min(len(val), len(bench.setup.train)) < FEWEST_RELATED:
        return False
    inside = [_halves(rows, bench.task) for rows in (bench.setup.train, val)]
    known = min((one.best - one.trivial for one in inside if one is not None), default=0.0)
    if None in inside or known < RELATED or across.best - across.trivial > LOST * known or bench.own.failed:
        return False
    last = bench.own.last
    if last.train_skill is None or last.val_skill is None:
        return False
    return last.val_skill - across.trivial <= LOST * known and last.train_skill - last.val_skill >= GAP


def _related_otherwise(bench: Bench) -> Iterator[Suspicion]:
    across, val = bench.reference, bench.setup.val
    assert across is not None
    assert val is not None
    inside = [_halves(rows, bench.task) for rows in (bench.setup.train, val)]
    yield Suspicion(
        "train_val_mismatch",
        "targets follow from inputs within either split, and not from one split to the other",
        "columns, codes or classes have another order or another meaning in validation",
        {
            "skill_within_train": None if inside[0] is None else round(inside[0].best, 4),
            "skill_within_val": None if inside[1] is None else round(inside[1].best, 4),
            "skill_from_train_to_val": round(across.best, 4),
            "val_skill": bench.own.last.val_skill,
        },
        Remedy("Give both splits the same columns in the same order, and the same codes of classes and categories"),
        proof="certain",
        weight=0.92,
        explains=_FOLLOWS,
    )


def _new_classes(bench: Bench, train: Rows, val: Rows) -> Iterator[Suspicion]:
    if bench.task.kind not in ("classes", "binary") or not isinstance(train.targets, Tensor):
        return
    seen, wanted = torch.unique(bench.task.labels(train.targets)), bench.task.labels(val.targets)
    new = ~torch.isin(wanted, seen)
    share = float(new.float().mean())
    if share < NEW_CLASSES or len(seen) < 2:
        return
    yield Suspicion(
        "train_val_mismatch",
        f"{share:.0%} of the validation targets are of classes that no training row has",
        "rows were split before they were shuffled: what wasn't shown can't be learnt",
        {
            "share": round(share, 4),
            "classes_in_train": seen[:20].tolist(),
            "only_in_val": torch.unique(wanted[new])[:20].tolist(),
        },
        Remedy("Shuffle the rows before splitting them, or draw each class's share into both splits"),
        proof="certain",
        weight=0.95,
        explains=_FOLLOWS,
    )
