"""underfitting, the last resort: simple methods do better, and nothing that was tried helps.

Rule: at the end of the whole training its own training rows are judged worse, by 0.1 of skill, than a simple method (nearest
neighbours, ridges) judges unseen ones, the mean over classes likewise; no other suspicion stood.
Source: the bias side of the bias-variance decomposition, Geman et al., Neural Computation 1992; diagnosis by reference as in
`doctor/reference.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from stepwell.doctor.bench import LONGEST, Bench
from stepwell.doctor.findings import Remedy, Suspicion

MISSING = 0.1


def probe(bench: Bench) -> Iterator[Suspicion]:
    own, reference = bench.own, bench.reference
    if own.failed or reference is None or not own.looks or own.last.train_skill is None:
        return
    if not (bench.complete or bench.learns_nothing):
        return
    if reference.best - own.last.train_skill < MISSING or reference.best - own.skill() < MISSING:
        return
    if bench.task.categorical and not bench.learns_nothing and own.skill("balanced") > reference.balanced - MISSING:
        return  # rare classes count for more, as weights of classes in the loss would have it
    yield Suspicion(
        "underfitting",
        f"training rows are judged at {own.last.train_skill:.2f}, where a simple method judges unseen ones at "
        f"{reference.best:.2f}",
        "the network, as it is built and trained, can't express what the data hold",
        {
            "train_skill": own.last.train_skill,
            "reference": reference.best,
            "linear": reference.linear,
            "neighbours": reference.neighbours,
            "one_batch": bench.one_batch.told if bench.left >= LONGEST else None,
        },
        Remedy("Look at the network: more units or layers, activations between them, inputs it can use"),
        proof="mechanism",
        weight=0.1,
    )
