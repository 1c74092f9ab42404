"""wrong_loss of quantities: a loss without a lowest value.

Rule: outputs moved freely down the loss's gradient follow the targets, or right outputs cost less than mirrored ones, and yet
they are wanted ever farther out (`descent.runs_away`). Another loss must help.
Source: binary cross-entropy is softplus(z) - t z and Poisson's likelihood exp(z) - t z: both fall for ever for t below 0.
"""

from __future__ import annotations

from collections.abc import Iterator

from stepwell.doctor.asking import asked
from stepwell.doctor.bench import Bench
from stepwell.doctor.descent import NEAR, near, runs_away
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.probes.loss_meaning import FOLLOWS, other_loss, right_of, words_of, wrong_of
from stepwell.doctor.remedies.losses import with_loss


def probe(bench: Bench) -> Iterator[Suspicion]:
    item = asked(bench)
    if item is None or item.task.kind != "quantity":
        return
    right, wrong = item(right_of(item)), item(wrong_of(item))
    follows = right < wrong or (near(item) or 0.0) >= NEAR
    if not follows or not runs_away(item):
        return
    yield Suspicion(
        "wrong_loss",
        "the loss has no lowest value: many rows' outputs are wanted ever farther out",
        "it is made for targets of another kind, such as 0 and 1, or counts",
        {"loss_right": right, "loss_wrong": wrong, "smallest_target": float(item.targets.min())},
        Remedy(words_of(item), with_loss(other_loss(item))),
        proof="mechanism",
        weight=0.8,
        explains=(*FOLLOWS, "lr_too_high", "unscaled_targets"),
    )
