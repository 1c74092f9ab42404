"""Overfitting one batch: the smallest question that tells a network and a loss that fit each other from a pair that doesn't.

Dropout and weight decay are off; a few rates share a fixed number of steps, and the hopeless ones are given up early, so that
the answer depends on steps and never on the clock.
Source: seed 002 section 7.8.5 step 2; successive halving of the rates: Jamieson & Talwalkar, AISTATS 2016, arXiv:1502.07943.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.dropped import with_less_dropout
from stepwell.doctor.rows import Rows
from stepwell.doctor.setup import Setup
from stepwell.doctor.task import Task
from stepwell.doctor.trials import detached

MOST_ROWS = 64
MOST_STEPS = 150  # of all rates together
FIRST = 25  # steps that each rate gets
FITS, NOTHING = 0.95, 0.1  # of what there is to learn beyond always saying the same: by heart, and as good as not at all
MOVES = (1e-1, 1e-2, 1e-3)  # change of the weights by the first step, relative: the other rates are the first two that are new
NEAR = 2.0  # a rate within this factor of another isn't tried beside it


@dataclass
class Attempt:
    """The batch, again and again, at one rate.

    Args:
        factor: on the setup's rate.
        losses: of each step.
        learnt: the most so far of what there is to learn of the batch beyond always saying the same, 0 to 1, in training mode;
            over rows or over classes, whichever is more: a weighted loss is after the classes. None where it can't be told.
        grad_norm: the largest of all steps, over the norm of the weights.
        failed: a loss that isn't finite, or a crash.
    """

    factor: float
    losses: list[float] = field(default_factory=list)
    learnt: float | None = None
    grad_norm: float = 0.0
    failed: bool = False

    @property
    def fitted(self) -> bool:
        return self.learnt is not None and self.learnt >= FITS


@dataclass(frozen=True)
class BatchFit:
    """What overfitting one batch came to.

    Args:
        rows: of the batch.
        attempts: one for each rate, the setup's own first.
        lr: the setup's own rate.
    """

    rows: Rows
    attempts: tuple[Attempt, ...]
    lr: float

    @property
    def best(self) -> Attempt:
        return max(self.attempts, key=lambda one: (not one.failed, -1.0 if one.learnt is None else one.learnt))

    @property
    def num_steps(self) -> int:
        return sum(len(one.losses) for one in self.attempts)

    @property
    def verdict(self) -> Literal["fits", "fits at another rate", "learns", "stuck", "fails", "unknown"]:
        """ "learns": some of it, and not yet by heart; "stuck": as good as nothing at any rate."""
        if all(one.failed for one in self.attempts):
            return "fails"
        learnt = self.best.learnt
        if learnt is None:
            return "unknown"
        if self.attempts[0].fitted:
            return "fits"
        if self.best.fitted:
            return "fits at another rate"
        return "learns" if learnt >= NOTHING else "stuck"

    @property
    def told(self) -> str:
        """In one line."""
        best = self.best
        share = "" if best.learnt is None else f", {best.learnt:.0%} learnt at a rate of {self.lr * best.factor:.3g}"
        return f"{self.verdict}{share}, {len(self.rows)} rows, {self.num_steps} steps"


def fit_one_batch(setup: Setup, rows: Rows, task: Task, *, most_steps: int = MOST_STEPS) -> BatchFit:
    """Learn some rows by heart, on copies.

    Args:
        setup: its model is left as it is.
        rows: at most `MOST_ROWS` of them are taken.
        task: by which skill is judged.
        most_steps: of all rates together.
    """
    rows = rows.take(slice(0, MOST_ROWS))
    bare = unregularised(setup)
    own = _Racer(bare, 1.0, rows, task)
    first = min(FIRST, most_steps)
    own.run(first)
    racers = [own]
    if not own.attempt.fitted:
        for factor in _other_factors(own):
            racer = _Racer(bare, factor, rows, task)
            racers.append(racer)
            racer.run(min(first, most_steps - _steps(racers)))
            if racer.attempt.fitted:
                break
        _finish(racers, most_steps)
    return BatchFit(rows, tuple(racer.attempt for racer in racers), setup.lr)


def learnt_share(task: Task, outputs: Any, targets: Any) -> float | None:
    """What outputs have learnt beyond always saying the same, as a share of all there is, 0 to 1.

    >>> always_zero = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    >>> learnt_share(Task("classes", 2), always_zero, torch.tensor([0, 0, 0, 1]))
    0.0
    """
    skill = task.skill(outputs, targets)
    if skill is None:
        return None
    shares = [(skill, task.trivial(targets))]
    if task.categorical and bool(torch.isfinite(outputs).all()):
        num_kinds = len(torch.unique(task.labels(targets)))
        shares.append((task.skill(outputs, targets, weighting="classes") or 0.0, 1.0 / max(num_kinds, 1)))
    return max(0.0, *((one - trivial) / (1.0 - trivial) for one, trivial in shares if trivial < 1.0), 0.0)


def unregularised(setup: Setup) -> Setup:
    """A copy without dropout, weight decay, clipping and schedule."""
    copied = with_less_dropout(setup, 0.0)
    settings = dict(copied.optimizer)
    if settings.get("weight_decay"):
        settings["weight_decay"] = 0.0
    held = settings.get("params")
    if held and isinstance(held[0], dict):
        settings["params"] = [{**group, "weight_decay": 0.0} if "weight_decay" in group else group for group in held]
    return copied.change(optimizer=settings, clip_norm=None, schedule=None)


def _steps(racers: list[_Racer]) -> int:
    return sum(len(racer.attempt.losses) for racer in racers)


def _finish(racers: list[_Racer], most_steps: int) -> None:
    """The two best go on for half of what is left, the best one for the rest."""
    for num_left in (2, 1):
        if any(racer.attempt.fitted for racer in racers):
            return
        hopeful = sorted((racer for racer in racers if not racer.attempt.failed), key=_Racer.promise, reverse=True)[:num_left]
        if not hopeful:
            return
        room = (most_steps - _steps(racers)) // (len(hopeful) * num_left)
        for racer in hopeful:
            racer.run(room)
            if racer.attempt.fitted:
                return


def _other_factors(own: _Racer) -> list[float]:
    """Factors whose first step would move the weights by a fit amount; by tens where no step could be measured."""
    if not own.moved > 0 or not math.isfinite(own.moved):
        return [0.1, 10.0]
    found: list[float] = []
    for aim in MOVES:
        factor = aim / own.moved
        if len(found) < 2 and all(max(factor / one, one / factor) > NEAR for one in (1.0, *found)):
            found.append(factor)
    return found


class _Racer:
    """A copy in training."""

    def __init__(self, setup: Setup, factor: float, rows: Rows, task: Task) -> None:
        self.attempt = Attempt(factor)
        self.moved = 0.0  # by the first step, as a share of the weights: the median over tensors
        self._setup = setup.with_rate(factor).copied()
        self._rows, self._task = rows, task
        self._setup.model.train()
        self._weights = [part for part in self._setup.model.parameters() if part.requires_grad]
        self._optimizer = self._setup.build_optimizer()

    def run(self, num_steps: int) -> None:
        """So many steps more, or until the batch is learnt."""
        with seeded_defaults(len(self.attempt.losses)), torch.enable_grad():
            for _ in range(num_steps):
                if self.attempt.failed or self.attempt.fitted:
                    return
                try:
                    self._step()
                except Exception:
                    self.attempt.failed = True

    def promise(self) -> tuple[float, float]:
        """How much is learnt, then how low the loss is."""
        learnt = self.attempt.learnt
        return -1.0 if learnt is None else learnt, -self.attempt.losses[-1] if self.attempt.losses else -math.inf

    def _step(self) -> None:
        attempt, setup = self.attempt, self._setup
        self._optimizer.zero_grad()
        outputs: Any = setup.model(self._rows.inputs)
        loss = setup.loss(outputs, self._rows.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        attempt.losses.append(float(loss.detach()))
        if not math.isfinite(attempt.losses[-1]):
            attempt.failed = True
            return
        learnt = learnt_share(self._task, detached(outputs), self._rows.targets)
        if learnt is not None:
            attempt.learnt = learnt if attempt.learnt is None else max(learnt, attempt.learnt)
        first = len(attempt.losses) == 1
        before = [part.detach().clone() for part in self._weights] if first else []
        norm = math.hypot(*(float(part.detach().norm()) for part in self._weights)) if self._weights else 0.0
        gradient = math.hypot(*(float(part.grad.norm()) for part in self._weights if part.grad is not None), 0.0)
        attempt.grad_norm = max(attempt.grad_norm, gradient / max(norm, 1e-12))
        self._optimizer.step()
        if first:
            self.moved = _moved(before, self._weights)


def _moved(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> float:
    shares = sorted(
        float((new.detach() - old).norm() / old.norm()) for old, new in zip(before, after, strict=True) if float(old.norm()) > 0
    )
    positive = [share for share in shares if share > 0]
    return positive[len(positive) // 2] if positive else 0.0
