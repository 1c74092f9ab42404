"""class_imbalance: the frequent class is told for nearly all rows.

Rule: the most frequent class has 8 times as many training rows as the rarest, and after the run less than 0.35 of the rare rows
of validation are told. Judged by balanced skill: told only if weights of classes raise it.
Source: Buda et al., A systematic study of the class imbalance problem, Neural Networks 2018, arXiv:1710.05381.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.data import class_weights
from stepwell.doctor.trials import outputs_over

RATIO = 8.0
LOW = 0.35
FEWEST = 4  # validation rows of a class, to speak of its recall


def probe(bench: Bench) -> Iterator[Suspicion]:
    """Ask after the run: a class that is rare but told needs nothing."""
    task, targets = bench.task, bench.setup.train.targets
    if task.kind not in ("classes", "binary") or not isinstance(targets, Tensor):
        return
    places = len(task.labels(targets)) != len(targets)
    if places and (task.kind != "classes" or targets.dim() != 2):
        return
    known = task.labels(targets)
    counts = torch.bincount(known[known >= 0], minlength=2)
    there = counts[counts > 0]
    if len(there) < 2 or float(there.max() / there.min()) < RATIO or bench.own.failed:
        return
    recalls = _recalls(bench)
    common = int(counts.argmax())
    rare = {label: recall for label, recall in recalls.items() if counts[label] * RATIO <= counts[common]}
    if not rare or sum(rare.values()) / len(rare) >= LOW:
        return
    shares = (counts / counts.sum()).tolist()
    what = "places" if places else "rows"
    yield Suspicion(
        "class_imbalance",
        f"{max(shares):.0%} of the training {what} are of class {common}; of a rare one {min(rare.values()):.0%} are told",
        "an error on a rare class costs the loss so little that telling the frequent class is nearly the best",
        {
            "shares": [round(share, 4) for share in shares[:20]],
            "recalls": [round(recalls.get(label, -1.0), 4) for label in range(min(len(shares), 20))],
            "balanced_skill": bench.own.skill("balanced"),
            "skill": bench.own.skill(),
        },
        Remedy(
            "Weight the classes by the inverse of their shares",
            partial(class_weights, counts=counts, one_hot=task.one_hot, class_dim=task.class_dim),
            job={} if places else {"recipe.techniques+": ["class_weights"]},
        ),
        weight=0.55 if places else 0.7,  # of places the rare ones are learnt last: too low a rate looks the same
        explains=("underfitting", "too_few_epochs", "overfitting"),
        measure="balanced",
    )


def _recalls(bench: Bench) -> dict[int, float]:
    task = bench.task
    guesses = task.guesses(outputs_over(bench.own.model, bench.val))
    labels = task.labels(bench.val.targets)
    found = {}
    for label in torch.unique(labels[labels >= 0]).tolist():
        rows = labels == label
        if int(rows.sum()) >= FEWEST:
            found[label] = float((guesses[rows] == label).float().mean())
    return found
