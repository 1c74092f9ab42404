"""dropout_too_high: so much is dropped that too little is left to learn from.

Rule: the training doesn't learn its own rows, a dropout of at least 0.55 is called in a forward pass, by modules or by
functions, and with 0.2 instead more validation skill is reached.
Source: Srivastava et al., JMLR 2014, figure 9: between 0.4 and 0.8 kept nothing changes, with less kept training suffers.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.modes import LighterDropout, dropped_shares
from stepwell.doctor.setup import Setup

HIGH = 0.55
LIGHT = 0.2


def probe(bench: Bench) -> Iterator[Suspicion]:
    if not bench.unfit:
        return
    with seeded_defaults(0):
        shares = dropped_shares(bench.setup.copied().model.train(), bench.first_batch.inputs)
    if not shares or max(shares) < HIGH:
        return
    yield Suspicion(
        "dropout_too_high",
        f"dropout of {max(shares):g} in training",
        f"{max(shares):.0%} of the values are zero in each step, and what is left says little",
        {"dropout": [round(share, 3) for share in shares]},
        Remedy(f"Set dropout to {LIGHT}", lighter, job={}),
        weight=0.8,
        explains=("underfitting", "too_few_epochs", "lr_too_low", "capacity_too_small", "vanishing_gradient", "lr_too_high"),
    )


def lighter(setup: Setup) -> Setup:
    """No dropout above `LIGHT`, in modules and in functions that the forward pass calls."""
    copied = setup.copied()
    modules = [part for part in copied.model.modules() if isinstance(part, nn.modules.dropout._DropoutNd)]
    for module in modules:
        module.p = min(module.p, LIGHT)
    with seeded_defaults(0):
        left = dropped_shares(setup.copied().model.train(), setup.train.take(slice(0, max(2, setup.batch_size))).inputs)
    if any(share > LIGHT for share in left) and len(left) > len(modules):
        return copied.change(model=LighterDropout(copied.model, LIGHT))
    return copied
