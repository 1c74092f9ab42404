"""labels_misaligned: the targets belong to other rows.

Rule: simple methods, asked one row left out, guess the training targets no better than permuted ones (z < 4), though - with
targets moved by 1 to 8 rows, or in reverse, they do (z > 8), and rows don't continue each other as windows of a series; or -
over the validation rows they do (z > 6), from which training rows tell nothing; or - the targets lie in order (a runs test
beyond 10 deviations) while inputs tell nothing of the rows' order. A certain proof: a network that learns these rows learns a
table by heart.
Source: permutation tests as in Ojala and Garriga, JMLR 2010; leave-one-out in closed form.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from stepwell.doctor.agreement import MOST_WANTED, Agreement, Smoothers, shifted_order, wanted_of
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Number, Remedy, Suspicion
from stepwell.doctor.probes.row_order import runs
from stepwell.doctor.reference import columns_of
from stepwell.doctor.remedies.data import reordered, shifted
from stepwell.doctor.rows import Rows
from stepwell.doctor.setup import Setup
from stepwell.doctor.task import Task

MOST_SHIFT = 8
NONE, FOUND, SURE = 4.0, 6.0, 8.0
LEAST_SHARE = 0.08  # of the targets' variance, at the order that is found
FEWEST_ROWS = 60
IN_ORDER = -10.0


def probe(bench: Bench) -> Iterator[Suspicion]:
    """Ask the training rows, then the validation rows."""
    setup, task = bench.setup, bench.task
    if not isinstance(setup.train.targets, Tensor) or len(setup.train) < FEWEST_ROWS or setup.train.num_there != len(setup.train):
        return
    smoothers = Smoothers(setup.train)
    if not smoothers.matrices:
        return
    size = len(smoothers.rows)
    shifts = [shift for step in range(1, MOST_SHIFT + 1) for shift in (step, -step)]
    orders = [torch.arange(size), *(shifted_order(size, shift) for shift in shifts)]
    if size == len(setup.train):
        orders.append(torch.arange(size).flip(0))
    found = smoothers.agreements(wanted_of(smoothers.rows.targets, task), orders)
    here, others = found[0], found[1:]
    if here.z >= NONE:
        return
    best = max(range(len(others)), key=lambda place: others[place].z)
    shift = shifts[best] if best < len(shifts) else None
    if others[best].z > SURE and others[best].share > LEAST_SHARE and not _continued(smoothers, shift):
        yield _moved(setup, task, shift, here, others[best])
        return
    yield from _elsewhere(setup, task, smoothers, here)


def _elsewhere(setup: Setup, task: Task, smoothers: Smoothers, here: Agreement) -> Iterator[Suspicion]:
    """No known move: whether validation rows are right, or the order gives it away."""
    evidence: dict[str, Number] = {"z_train": round(here.z, 1), "share_train": round(here.share, 4)}
    if setup.val is not None and len(setup.val) >= FEWEST_ROWS and len(setup.train) >= 0.7 * min(len(setup.val), 800):
        val = agreement(setup.val, task)
        evidence |= {"z_val": round(val.z, 1), "share_val": round(val.share, 4)}
        if val.z > FOUND and val.share > LEAST_SHARE:
            yield _lost(evidence, "over the validation rows they do")
            return
    num_runs, expected, z = runs(setup.train.targets)
    if z < IN_ORDER and _order_in_inputs(smoothers) < NONE:
        evidence |= {"num_runs": num_runs, "num_runs_expected": round(expected, 1)}
        yield _lost(evidence, "the targets are sorted, while the inputs are in no order")


def agreement(rows: Rows, task: Task) -> Agreement:
    """How well the targets of these rows follow from their inputs."""
    smoothers = Smoothers(rows)
    return smoothers.agreements(wanted_of(smoothers.rows.targets, task), [torch.arange(len(smoothers.rows))])[0]


def _continued(smoothers: Smoothers, shift: int | None) -> bool:
    """Whether a row tells of the row so much later: windows of one series overlap, and each shows targets of others."""
    if shift is None:
        return False
    inputs = columns_of(smoothers.rows.inputs)
    if inputs is None:
        return False
    few = inputs[:, torch.linspace(0, inputs.shape[1] - 1, min(inputs.shape[1], MOST_WANTED)).long()]
    return smoothers.agreements(few, [shifted_order(len(few), shift)])[0].z > FOUND


def _order_in_inputs(smoothers: Smoothers) -> float:
    """How well the row's number follows from its inputs."""
    place = torch.arange(len(smoothers.rows)).float().unsqueeze(1)
    return smoothers.agreements(place, [torch.arange(len(place))])[0].z


def _moved(setup: Setup, task: Task, shift: int | None, here: Agreement, there: Agreement) -> Suspicion:
    if shift is None:
        change, text, where = reordered, "Reverse the training targets", "in reverse order"
    else:
        both = _moved_too(setup.val, task, shift)
        change, where = partial(shifted, shift=shift, val=both), f"{abs(shift)} rows {'later' if shift > 0 else 'earlier'}"
        text = f"Join row i of the inputs with row i {'+' if shift > 0 else '-'} {abs(shift)} of the targets" + (
            ", in validation too" if both else ""
        )
    return Suspicion(
        "labels_misaligned",
        f"inputs tell nothing of the targets of their own row, but much of those {where}",
        "targets were moved against their rows: the model can only learn them by heart",
        {
            "shift": "reversed" if shift is None else shift,
            "z_as_given": round(here.z, 1),
            "z_moved": round(there.z, 1),
            "share_as_given": round(here.share, 4),
            "share_moved": round(there.share, 4),
        },
        Remedy(text, change),
        proof="certain",
        weight=0.95,
        explains=("overfitting", "underfitting", "capacity_too_small", "train_val_mismatch"),
    )


def _moved_too(val: Rows | None, task: Task, shift: int) -> bool:
    if val is None or len(val) < FEWEST_ROWS:
        return False
    smoothers = Smoothers(val)
    size = len(smoothers.rows)
    here, there = smoothers.agreements(wanted_of(smoothers.rows.targets, task), [torch.arange(size), shifted_order(size, shift)])
    return here.z < NONE and there.z > FOUND


def _lost(evidence: dict[str, Number], seen: str) -> Suspicion:
    return Suspicion(
        "labels_misaligned",
        f"inputs tell nothing of the training targets; {seen}",
        "targets were paired with the wrong rows: the model can only learn them by heart",
        evidence,
        Remedy("Join inputs and targets again by a key that both have; orders get lost where files are listed or tables sorted"),
        proof="certain",
        weight=0.9,
        explains=("overfitting", "underfitting", "capacity_too_small", "train_val_mismatch"),
    )
