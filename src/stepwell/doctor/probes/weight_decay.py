"""over_regularised: decay pulls weights to zero faster than the loss can hold them.

Rule: there is weight decay, and a hundredth of it reaches more validation skill. Source: the balance of decay and gradient,
van Laarhoven, "L2 regularization versus batch and weight normalization", 2017, arXiv:1706.05350.
"""

from __future__ import annotations

from collections.abc import Iterator

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion

FACTOR = 0.01


def probe(bench: Bench) -> Iterator[Suspicion]:
    decay = float(bench.setup.optimizer.get("weight_decay", 0.01 if bench.setup.optimizer["name"] == "adamw" else 0.0))
    if decay <= 0 or not bench.unfit:
        return
    name = bench.setup.optimizer["name"]
    # What decay alone would leave of a weight: decoupled decay multiplies by 1 - lr * decay a step.
    shrinks = min(1.0, bench.setup.lr * decay) * bench.setup.num_steps if name in ("adamw", "sgd") else None
    if name == "adamw" and shrinks is not None and shrinks < 0.05:
        return
    yield Suspicion(
        "over_regularised",
        f"weight decay {decay:g} holds the weights near zero",
        "decay and gradient balance where the loss is still high",
        {"weight_decay": decay, "shrinkage_over_the_training": shrinks},
        Remedy(
            f"Set weight_decay to {decay * FACTOR:.3g}",
            lambda setup: setup.with_optimizer(weight_decay=decay * FACTOR),
            job={"recipe.optimizer.weight_decay": decay * FACTOR},
        ),
        weight=0.8,
        explains=("underfitting", "vanishing_gradient", "lr_too_low", "too_few_epochs", "capacity_too_small", "lr_too_high"),
    )
