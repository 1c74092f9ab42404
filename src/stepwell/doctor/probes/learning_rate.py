"""lr_too_high, lr_too_low: the same training at other rates, a factor of three to ten apart.

Rule: another rate must reach more validation skill at the same number of steps; the best of those tried is the remedy. A rate
is called too low only if its steps move the weights by less than a thousandth: else the training is too short.
Source: the learning-rate window of Smith, WACV 2017, arXiv:1506.01186, asked by whole trainings instead of a sweep, which
misjudges optimizers with memory.
"""

from __future__ import annotations

from collections.abc import Iterator

from stepwell.doctor.bench import SEEDS, Bench
from stepwell.doctor.findings import Remedy, Suspicion

MOVES = 1e-3  # of the weights' norm a step: that is no low rate (the usual figure: Karpathy, CS231n notes)
LOWER = (0.1, 0.01, 0.001, 1e-4, 0.3)
HIGHER = (10.0, 100.0, 1000.0, 3.0)
DEAR = 1.0  # CPU seconds of the setup's own training
NEAR = 0.02  # of skill: rates this close are equal, and the one nearer to the setup's own is taken


def probe(bench: Bench) -> Iterator[Suspicion]:
    own = bench.own
    if own.crash is not None or not bench.unfit:
        return
    down = best_of(bench, LOWER)
    up = 1.0 if own.failed or bench.pace >= MOVES or down != 1.0 else best_of(bench, HIGHER)
    gains = {factor: bench.course(bench.with_rate(factor)).skill() - own.skill() for factor in (down, up) if factor != 1.0}
    for factor, gain in sorted(gains.items(), key=lambda pair: -pair[1]):
        if gain > 0:
            yield _suspicion(bench, factor)


def best_of(bench: Bench, factors: tuple[float, ...]) -> float:
    """The factor with the most skill, 1 if none has more than the setup's own rate; larger changes only while they help.

    Of a dear training a quarter tells first which of them to look at.
    """
    best, most = 1.0, bench.own.skill()
    if bench.own.seconds > DEAR:
        factors = _promising(bench, factors)
    for factor in factors:
        if not bench.affords(bench.with_rate(factor), seeds=SEEDS[:1]):
            break
        skill = bench.course(bench.with_rate(factor)).skill()
        if skill > most + NEAR:
            best, most = factor, skill
        elif best != 1.0 and skill < most - NEAR:
            break
    return best


def _promising(bench: Bench, factors: tuple[float, ...]) -> tuple[float, ...]:
    """The factor whose loss is lowest after a quarter of the steps, where it is lower than the setup's own was then."""
    own, num_steps = bench.own, max(1, bench.trial_steps // 4)
    there = [look.train_loss for look in own.looks if look.step <= num_steps and not own.failed]
    lowest, found = min(there, default=float("inf")), tuple[float, ...]()
    for factor in factors:
        setup = bench.with_rate(factor)
        if bench.left <= bench.cost(setup, seeds=SEEDS[:1]):
            break
        course = bench.course(setup, num_steps=num_steps)
        loss = course.last.train_loss if course.looks and not course.failed else float("inf")
        if loss < lowest:
            lowest, found = loss, (factor,)
    return found


def _suspicion(bench: Bench, factor: float) -> Suspicion:
    lr = bench.setup.lr
    own, other = bench.own, bench.course(bench.with_rate(factor))
    high = factor < 1
    evidence = {
        "lr": lr,
        "better_lr": lr * factor,
        "skill": round(own.skill(), 4),
        "skill_at_better_lr": round(other.skill(), 4),
        "update_ratio": bench.pace,
        "nonfinite_step": own.nonfinite,
    }
    remedy = Remedy(
        f"Set the learning rate to {lr * factor:.3g}",
        # What was trained to find the rate needn't be trained again.
        lambda setup: bench.with_rate(factor) if setup is bench.setup else setup.with_rate(factor),
        job={"recipe.optimizer.lr": lr * factor},
    )
    if high:
        return Suspicion(
            "lr_too_high",
            "the loss becomes non-finite" if own.failed else "the training ends worse than at a lower rate",
            f"steps at {lr:.3g} overshoot: the same training at {lr * factor:.3g} learns more",
            evidence,
            remedy,
            weight=0.58,  # above too few epochs: at the lower rate as many steps are enough
            explains=("dead_relu", "saturated_activation", "exploding_gradient", "unstable_gradient", "underfitting"),
        )
    return Suspicion(
        "lr_too_low",
        "the loss falls slowly, in a straight line",
        f"at {lr:.3g} weights hardly move: the same number of steps at {lr * factor:.3g} learns more",
        evidence,
        remedy,
        weight=0.6,
        explains=("too_few_epochs", "vanishing_gradient", "underfitting"),
    )
