"""labels_misaligned as a run shows it: training rows are learnt by heart, and validation stays at chance.

Rule: the run ends at 0.8 of skill or more over training rows, and over 100 or more validation rows within 2 deviations of the
best constant answer; simple methods find nothing in the training rows either (z < 4). Then either the network, trained on 7
in 10 validation rows, tells the targets of the others (0.2 above chance): training rows are paired wrongly. Or not, and
simple methods find nothing there: inputs and targets have nothing to do with each other in either split. Only the author can
know which pairs belong together.
Source: Zhang et al., Understanding deep learning requires rethinking generalization, ICLR 2017, arXiv:1611.03530.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Number, Remedy, Suspicion
from stepwell.doctor.probes.misaligned_labels import NONE, agreement

BY_HEART = 0.8
FEWEST_ROWS = 100
ABOVE = 0.2  # of skill


def probe(bench: Bench) -> Iterator[Suspicion]:
    """Ask only a run that has learnt by heart."""
    setup, own = bench.setup, bench.own
    if setup.val is None or len(setup.val) < FEWEST_ROWS or own.failed or not isinstance(setup.train.targets, Tensor):
        return
    last = own.last
    if last.train_skill is None or last.val_skill is None or last.train_skill < BY_HEART:
        return
    chance = bench.task.trivial(setup.val.targets)
    noise = 2.0 * (max(chance * (1.0 - chance), 0.0) / len(setup.val)) ** 0.5 if bench.task.categorical else 0.02
    if last.val_skill > chance + noise or last.train_skill < chance + ABOVE or agreement(setup.train, bench.task).z >= NONE:
        return
    evidence: dict[str, Number] = {
        "train_skill": round(last.train_skill, 4),
        "val_skill": round(last.val_skill, 4),
        "chance": round(chance, 4),
    }
    among = _skill_among_validation(bench)
    evidence["skill_among_validation"] = round(among, 4)
    if among > chance + ABOVE:
        seen, weight = "the same network learns validation rows from other validation rows", 0.9
    elif agreement(setup.val, bench.task).z < NONE:
        seen, weight = "nor do simple methods find anything in either split", 0.45
    else:
        return
    yield Suspicion(
        "labels_misaligned",
        f"training rows are learnt by heart and validation stays at chance; {seen}",
        "targets that were paired with the wrong rows can only be learnt by heart",
        evidence,
        Remedy("Look at some inputs beside their targets, and join them again by a key that both have"),
        proof="mechanism",
        weight=weight,
        explains=("overfitting",),
    )


def _skill_among_validation(bench: Bench) -> float:
    rows = bench.val
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    cut = int(0.7 * len(rows))
    setup = bench.setup.change(train=rows.take(order[:cut]), val=rows.take(order[cut:]))
    return bench.run(setup, bench.trial_steps).skill()
