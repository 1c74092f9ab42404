"""momentum_too_high: steps that go on long after their reason is gone.

Rule: momentum of at least 0.97 (a first beta of at least 0.98) remembers more than 33 (50) steps, and 0.9 reaches more
validation skill.
Source: the effective rate lr / (1 - momentum); Goh, "Why momentum really works", Distill 2017.
"""

from __future__ import annotations

from collections.abc import Iterator

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion

HIGH, HIGH_BETA, USUAL = 0.97, 0.98, 0.9


def probe(bench: Bench) -> Iterator[Suspicion]:
    settings = bench.setup.optimizer
    momentum = float(settings.get("momentum", 0.0))
    betas = tuple(settings.get("betas", (USUAL, 0.999)))
    if momentum < HIGH and betas[0] < HIGH_BETA:
        return
    changes = {"momentum": USUAL} if momentum >= HIGH else {"betas": (USUAL, betas[1])}
    value = max(momentum, betas[0] if momentum < HIGH else 0.0)
    yield Suspicion(
        "momentum_too_high",
        f"momentum is {value:g}: {1 / max(1 - value, 1e-9):.0f} steps are remembered",
        "the weights swing past where the gradient points, ever further",
        {"momentum": value, "remembered_steps": 1 / max(1 - value, 1e-9)},
        Remedy(
            f"Set momentum to {USUAL}",
            lambda setup: setup.with_optimizer(**changes),
            job={f"recipe.optimizer.{key}": list(new) if isinstance(new, tuple) else new for key, new in changes.items()},
        ),
        weight=0.85,
        explains=("lr_too_high", "unstable_gradient", "exploding_gradient", "dead_relu", "saturated_activation", "underfitting"),
    )
