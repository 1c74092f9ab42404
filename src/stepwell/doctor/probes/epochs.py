"""too_few_epochs: the training ends while it still learns.

Rule: it has few steps (at most 150), or over the last quarter of them the loss over training rows fell by at least 3 % of
what it fell altogether; the same training over four or sixteen times the epochs reaches more validation skill. Where steps
hardly move the weights the rate is too low instead.
Source: seed 002 section 7.8.1, pattern "still falling at the end".
"""

from __future__ import annotations

from collections.abc import Iterator

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.probes.learning_rate import MOVES

FACTORS = (4, 16)
STILL_FALLING = 0.03
FEW_STEPS = 150
MOST_STEPS = 4000


def probe(bench: Bench) -> Iterator[Suspicion]:
    own, setup = bench.own, bench.setup
    if own.failed or not bench.complete or not bench.unfit:
        return
    losses = [look.train_loss for look in own.looks]
    fallen = losses[0] - min(losses)
    late = losses[-4] - losses[-1] if len(losses) > 4 else fallen
    falling = fallen > 0 and late >= STILL_FALLING * fallen
    if not falling and setup.num_steps > FEW_STEPS:
        return
    for factor in FACTORS:
        if setup.num_steps * factor > MOST_STEPS:
            return
        yield _suspicion(bench, factor, late / fallen if fallen > 0 else 0.0)


def _suspicion(bench: Bench, factor: int, late: float) -> Suspicion:
    epochs = bench.setup.epochs * factor
    return Suspicion(
        "too_few_epochs",
        f"the training ends after {bench.setup.num_steps} steps, of its loss's fall {late:.0%} in the last quarter",
        "the steps are too few to get where this training is going",
        {
            "epochs": bench.setup.epochs,
            "num_steps": bench.setup.num_steps,
            "late_share": round(late, 4),
            "update_ratio": bench.pace,
        },
        Remedy(
            f"Train for {epochs} epochs",
            lambda setup: setup.change(epochs=setup.epochs * factor),
            job={"budget": f"{epochs} epochs"},
        ),
        weight=0.55 if bench.pace >= MOVES else 0.4,
        explains=("underfitting",),
    )
