"""data_leakage: a column that is filled in once the outcome is known.

Rule: in both splits, the rows in which a column of otherwise varied numbers has its most common value are exactly those of one
class; and without that column simple methods do worse by 0.05 of skill. Or it is so in training, and in validation the column
has that value everywhere, for there the outcome isn't known yet. Only tables of numbers are asked: a category or a token may
rightly decide a class.
Source: Kaufman, Rosset & Perlich, Leakage in data mining, TKDD 2012: what becomes known after the target.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.reference import reference_of
from stepwell.doctor.rows import Rows, tensors, tree

FEWEST_ROWS = 20  # of the class, and of the others, in either split
VARIED = 20  # distinct other values
LESS = 0.05  # of skill


def probe(bench: Bench) -> Iterator[Suspicion]:
    """Ask each table among the inputs."""
    setup, task = bench.setup, bench.task
    if setup.val is None or task.kind not in ("classes", "binary") or not isinstance(setup.train.targets, Tensor):
        return
    labels = [task.labels(rows.targets) for rows in (setup.train, setup.val)]
    for place, (part, other) in enumerate(zip(tensors(setup.train.inputs), tensors(setup.val.inputs), strict=True)):
        if part.dim() != 2 or not part.is_floating_point() or len(part) != len(labels[0]) or len(other) != len(labels[1]):
            continue
        for column in range(part.shape[1]):
            common = part[:, column].mode().values
            empty = bool((other[:, column] == common).all())
            found = _told([part[:, column], other[:, column]], common, labels[:1] if empty else labels)
            if found is not None and (empty or _worse_without(bench, place, column)):
                yield _suspicion(column, float(common), found, num_rows=len(part), empty=empty)
                return


def _told(splits: list[Tensor], common: Tensor, labels: list[Tensor]) -> int | None:
    """The class that a column's most common value stands for; None where it stands for none.

    Args:
        splits: the column in training and in validation rows.
        common: that value.
        labels: of training rows, and of validation rows where they are to be asked too.
    """
    here = splits[0] == common
    if int(here.sum()) < FEWEST_ROWS or len(torch.unique(splits[0][~here])) < VARIED:
        return None
    label = labels[0][here][0]
    for values, wanted in zip(splits, labels, strict=False):
        those = wanted == label
        if min(int(those.sum()), int((~those).sum())) < FEWEST_ROWS or not torch.equal(values == common, those):
            return None
    return int(label)


def _worse_without(bench: Bench, place: int, column: int) -> bool:
    def without(rows: Rows) -> Rows:
        number = iter(range(len(tensors(rows.inputs))))

        def cleared(part: Tensor) -> Tensor:
            if next(number) != place:
                return part
            part = part.clone()
            part[:, column] = 0.0
            return part

        return replace(rows, inputs=tree(rows.inputs, cleared))

    known, val = bench.reference, bench.setup.val
    assert val is not None
    rest = reference_of(without(bench.setup.train), without(val), bench.task)
    return known is not None and rest is not None and known.best - rest.best >= LESS


def _suspicion(column: int, value: float, label: int, *, num_rows: int, empty: bool) -> Suspicion:
    where = "of training; of validation it is so in all" if empty else "of training and of validation"
    return Suspicion(
        "data_leakage",
        f"column {column} is {value:g} in exactly the rows of class {label}, {where}",
        "the column is filled in once the outcome is known: what the model is to predict isn't known then",
        {"column": column, "value": value, "label": label, "num_rows": num_rows},
        Remedy(f"Leave column {column} out, and all that is known only after the target"),
        proof="certain",
        weight=0.8,
        explains=("overfitting", "train_val_mismatch"),
    )
