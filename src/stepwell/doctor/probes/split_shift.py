"""train_val_mismatch: validation rows come from elsewhere.

Rule: a classifier tells the splits apart by their inputs (area under its curve above 0.8 on rows held out from it). With one
factor and shift for each feature that brings validation to where training lies, the remedy is tried, and told if it helps.
Without, the run must end far lower on validation than on training (0.25 of skill) while simple methods that learn from other
validation rows do better; or lower by 0.1, where four in five validation rows lie outside of the training rows' range of a
column. For targets: a fifth of the validation rows has a class that training rows never have.
Source: the classifier two-sample test of Lopez-Paz and Oquab, ICLR 2017, arXiv:1610.06545.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Number, Remedy, Suspicion
from stepwell.doctor.probes.split_relation import halves
from stepwell.doctor.remedies.data import in_units_of_validation
from stepwell.doctor.rows import Rows, tensors
from stepwell.doctor.scales import Scale, scale_of
from stepwell.doctor.two_samples import TOLD_APART, told_apart

FEWEST_ROWS = 40
GAP = 0.25  # of skill
BEYOND, BEYOND_GAP = 0.8, 0.1  # of the validation rows; of skill
LEAST_LEAN = 0.3  # a normal sample of 700 values has less in nearly all draws: 3 * sqrt(6 / 700)
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
    if is_beyond(bench) or _val_learns_from_itself(bench, train, val):
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


def is_beyond(bench: Bench) -> bool:
    """Whether nearly all validation rows lie outside of what training has of some column, and are judged worse for it."""
    train, val = bench.setup.train, bench.setup.val
    last = bench.own.last if bench.own.looks and not bench.own.failed else None
    if val is None or last is None or last.train_skill is None or last.val_skill is None:
        return False
    if last.train_skill - last.val_skill < BEYOND_GAP or min(len(train), len(val)) < FEWEST_ROWS:
        return False
    parts = zip(tensors(train.inputs), tensors(val.inputs), strict=False)
    return any(mine.dim() == 2 and theirs.dim() == 2 and _outside(mine, theirs) >= BEYOND for mine, theirs in parts)


def _outside(train: Tensor, val: Tensor) -> float:
    """Of the column with most of them, the share of validation rows below or above all training rows."""
    if not train.is_floating_point() or train.shape[1] != val.shape[1]:
        return 0.0
    return float(((val < train.amin(0)) | (val > train.amax(0))).float().mean(0).max())


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
    known = halves(val, bench.task)
    return known is not None and known.best > last.val_skill + GAP / 2


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
