"""data_leakage: validation rows that the model has trained on.

Rule: at least a twentieth of the validation rows, and 5, equal a training row (to 1e-5 of a column's spread) with the same
target, or lie nearer than a fifth of what training rows lie apart. Chance is excluded by either: inputs are fine-grained (rows
that differ at all differ in half of the columns, and in 8 at least, or some column has hardly a value twice); or such rows are
three times as frequent across the splits as within the training rows, where chance would put as many. Where training rows have
near copies among themselves too (repeated before the split), these must lie five times nearer than the density of rows
explains, and share their targets' noise: rows just beyond have the same target more seldom by a tenth.
Source: Kapoor and Narayanan, Leakage and the reproducibility crisis, Patterns 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from stepwell.doctor.bench import Bench
from stepwell.doctor.copies import FEWEST_TRAIN, Copies, clustered, equal, nearly_equal
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.data import without_rows
from stepwell.doctor.rows import Rows

LEAST_SHARE, LEAST_ROWS = 0.05, 5
SAME_TARGET = 0.9
TIMES = 3.0
SHARED = 0.1  # of the rows: neighbours that are no copies have the same target so much more seldom


def probe(bench: Bench) -> Iterator[Suspicion]:
    """Compare the splits row by row."""
    setup = bench.setup
    if setup.val is None or not isinstance(setup.train.targets, Tensor) or len(setup.train) < FEWEST_TRAIN:
        return
    for kind, found in (("equal", equal(setup.train, setup.val)), ("nearly equal", nearly_equal(setup.train, setup.val))):
        if found is None:
            continue
        copies = found.of >= 0
        share = float(copies.float().mean())
        if share < LEAST_SHARE or int(copies.sum()) < LEAST_ROWS:
            continue
        same = _same_targets(setup.train, setup.val, found.of)
        if same < SAME_TARGET or not (found.fine or share > TIMES * found.within + LEAST_SHARE):
            continue
        yield _suspicion(kind, found, share, same)
        return
    crowd = clustered(setup.train, setup.val)
    if crowd is None:
        return
    found, others = crowd
    copies = found.of >= 0
    share = float(copies.float().mean())
    if share < LEAST_SHARE or int(copies.sum()) < LEAST_ROWS:
        return
    same = _same_targets(setup.train, setup.val, found.of)
    if same >= SAME_TARGET and _same_targets(setup.train, setup.val, torch.where(copies, others, -1)) <= same - SHARED:
        yield _suspicion("nearly equal", found, share, same)


def _suspicion(kind: str, found: Copies, share: float, same: float) -> Suspicion:
    copies = found.of >= 0
    return Suspicion(
        "data_leakage",
        f"{int(copies.sum())} of {len(copies)} validation rows ({share:.0%}) are {kind} to training rows, with the same targets",
        "validation measures what was learnt by heart there, not what the model can do with new rows",
        {
            "num_copies": int(copies.sum()),
            "share": round(share, 4),
            "share_with_the_same_target": round(same, 4),
            "share_of_copies_within_train": round(found.within, 4),
            "rows": copies.nonzero().squeeze(1)[:5].tolist(),
        },
        Remedy(
            "Split first, by the row's origin, and repeat or augment rows afterwards; here: train without the copies",
            partial(without_rows, dropped=found.dropped) if not bool(found.dropped.all()) else None,
        ),
        proof="certain",
        weight=0.8,
        explains=("overfitting",),
    )


def _same_targets(train: Rows, val: Rows, of: Tensor) -> float:
    """The share of copies whose target is that of their training row; targets of rows that stand for the same are alike."""
    a, b = train.targets.reshape(len(train), -1).double(), val.targets.reshape(len(val), -1).double()
    if a.shape[1] != b.shape[1]:
        return 0.0
    mine, theirs = a[of[of >= 0]], b[of >= 0]
    return float(((mine - theirs).abs() <= 1e-4 * (1 + theirs.abs())).all(1).float().mean())
