"""wrong_loss of quantities: a loss of directions, where targets have lengths.

Rule: right rows of several numbers cost the same however long each of them is made (to 1e-3 of what lies between right outputs
and the best constant), and the targets' lengths differ by more than 5 %. Another loss must help. Correlation with a single
column passes: there the order is what is wanted.
Source: cosine similarity is a function of the angle alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from stepwell.doctor.asking import asked
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.probes.loss_meaning import FOLLOWS, other_loss, right_of, words_of
from stepwell.doctor.remedies.losses import with_loss

DIFFER = 0.05
SAME = 1e-3


def probe(bench: Bench) -> Iterator[Suspicion]:
    item = asked(bench)
    if item is None or item.task.kind != "quantity":
        return
    right = right_of(item)
    rows = right.reshape(len(right), -1)
    lengths = rows.norm(dim=1)
    if rows.shape[1] < 2 or float(lengths.std()) <= DIFFER * float(lengths.mean()):
        return
    factors = torch.rand(len(rows), 1, generator=torch.Generator().manual_seed(0)) * 9.5 + 0.5
    best, stretched, constant = item(right), item((rows * factors).reshape(right.shape)), item(item.constant())
    if not best < constant or not abs(stretched - best) <= SAME * (constant - best):
        return
    yield Suspicion(
        "wrong_loss",
        f"right outputs cost {best:.4g}, and {stretched:.4g} with each row half to ten times as long",
        "the loss sees directions alone: it can't teach how long outputs must be",
        {"loss_right": best, "loss_stretched": stretched, "loss_constant": constant},
        Remedy(words_of(item), with_loss(other_loss(item))),
        proof="mechanism",
        weight=0.8,
        explains=FOLLOWS,
    )
