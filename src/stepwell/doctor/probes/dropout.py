"""dropout_too_high: so much is dropped that too little is left to learn from.

Rule: the training doesn't learn its own rows to perfection, a dropout of at least 0.55 is called in a forward pass, by modules
or by functions, and with 0.2 instead more validation skill is reached.
Source: Srivastava et al., JMLR 2014, figure 9: between 0.4 and 0.8 kept nothing changes, with less kept training suffers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from stepwell.core.modules.dropout_places import dropout_places
from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.bench import WELL, Bench
from stepwell.doctor.dropped import dropped_shares, with_less_dropout
from stepwell.doctor.findings import Remedy, Suspicion

HIGH = 0.55
LIGHT = 0.2


def probe(bench: Bench) -> Iterator[Suspicion]:
    own = bench.own
    if not (own.failed or own.last.train_skill is None or own.last.train_skill < WELL):
        return
    model = bench.setup.copied().model.train()
    with seeded_defaults(0):
        shares = dropped_shares(model, bench.first_batch.inputs) + [place.probability for place in dropout_places(model)]
    if not shares or max(shares) < HIGH:
        return
    yield Suspicion(
        "dropout_too_high",
        f"dropout of {max(shares):g} in training",
        f"{max(shares):.0%} of the values are zero in each step, and what is left says little",
        {"dropout": sorted({round(share, 3) for share in shares})},
        Remedy(f"Set dropout to {LIGHT}", partial(with_less_dropout, most=LIGHT)),
        weight=0.8,
        explains=("underfitting", "too_few_epochs", "lr_too_low", "capacity_too_small", "vanishing_gradient", "lr_too_high"),
    )
