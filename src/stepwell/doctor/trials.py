"""Trainings on copies: what a setup does, and what it would do with one thing changed."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.findings import Measure, Tried
from stepwell.doctor.rows import Rows, joined, tree
from stepwell.doctor.setup import Setup
from stepwell.doctor.task import Task

LOOKED_AT = 512  # rows of either split by which a state is judged


@dataclass(frozen=True)
class Look:
    """How good the weights are at one step, in evaluation mode.

    Args:
        step: completed optimizer steps.
        train_loss, val_loss: over at most `LOOKED_AT` rows; nan where there are none.
        train_skill, val_skill: see `Task.skill`; None where it can't be told.
        val_balanced: the mean over classes of the validation skill; of training rows where there is no validation.
    """

    step: int
    train_loss: float
    val_loss: float
    train_skill: float | None
    val_skill: float | None
    val_balanced: float | None = None


@dataclass
class Course:
    """A training on a copy.

    Args:
        setup: what was trained; its model has the weights of the end.
        losses: of each step, in training mode.
        grad_norms: of each step, before clipping.
        looks: states judged on the way, the first before any step, the last at the end.
        update_ratios: parameter name -> norm of a step's change over the norm of the values, at the steps looked at.
        nonfinite: the step (from 1) whose loss was not finite, or None.
        crash: what a step raised, or None; `crash_step` is that step.
        seconds: of the process on the CPU; `stepping` of them went into steps, the rest into looks.
    """

    setup: Setup
    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    update_ratios: dict[str, list[float]] = field(default_factory=dict)
    nonfinite: int | None = None
    crash: Exception | None = None
    crash_step: int | None = None
    seconds: float = 0.0
    stepping: float = 0.0

    @property
    def model(self) -> nn.Module:
        return self.setup.model

    @property
    def step_seconds(self) -> float:
        """Of one step."""
        return self.stepping / max(len(self.losses), 1)

    @property
    def look_seconds(self) -> float:
        """Of one look, and of what goes with it."""
        return max(0.0, self.seconds - self.stepping) / max(len(self.looks), 1)

    @property
    def last(self) -> Look:
        return self.looks[-1]

    @property
    def end_loss(self) -> float:
        """Over training rows; infinite where the training failed."""
        return math.inf if self.failed or not self.looks else self.last.train_loss

    @property
    def failed(self) -> bool:
        return self.crash is not None or self.nonfinite is not None

    def skill(self, measure: Measure = "skill") -> float:
        """Validation skill at the end; of training rows where there is no validation; 0 for a course that failed.

        Where outputs and targets of no known kind meet, how much of the first loss is gone, x, as x / (1 + x).
        """
        if self.failed or not self.looks:
            return 0.0
        skill = self.last.val_skill if self.last.val_skill is not None else self.last.train_skill
        if measure == "balanced":
            skill = self.last.val_balanced
        return self._loss_gone() if skill is None else skill

    def _loss_gone(self) -> float:
        losses = [look.train_loss if math.isnan(look.val_loss) else look.val_loss for look in (self.looks[0], self.last)]
        if not all(math.isfinite(loss) for loss in losses) or losses[0] == 0:
            return 0.0
        gone = max(0.0, (losses[0] - losses[1]) / abs(losses[0]))
        return gone / (1.0 + gone)  # a loss may have no floor: what is gone may be more than there was


def tried_of(befores: Sequence[Course], afters: Sequence[Course], measure: Measure = "skill") -> Tried:
    """What pairs of courses, a seed each, say of a remedy."""
    return Tried(
        tuple(course.skill(measure) for course in befores),
        tuple(course.skill(measure) for course in afters),
        tuple(course.end_loss for course in befores),
        tuple(course.end_loss for course in afters),
        len(afters[0].losses),
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Where trials are made: on one thread, for on small trainings others only wait, and their waiting counts as CPU time; and
    without warnings of torch's about what is wrong with a setup, which is told as a finding."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(before)


def index_batches(setup: Setup, seed: int) -> Iterator[Tensor]:
    """Row numbers of one batch after the other, epoch by epoch, without end."""
    order = torch.Generator().manual_seed(seed)
    while True:
        rows = torch.randperm(len(setup.train), generator=order) if setup.shuffle else torch.arange(len(setup.train))
        yield from torch.split(rows, setup.batch_size)


def train(setup: Setup, num_steps: int, *, task: Task, seed: int = 0, num_looks: int = 8) -> Course:
    """Train a copy of the setup's model; the setup, global random state and modes stay as they were.

    Args:
        num_steps: optimizer steps, >= 0.
        task: by which skill is judged.
        seed: of the order of rows, and of what the model draws.
        num_looks: how often weights are judged, the start not counted.
    """
    started = time.process_time()
    course = Course(setup.copied())
    with seeded_defaults(seed), torch.enable_grad():
        try:
            _run(course, num_steps, task, seed, num_looks)
        except Exception as error:
            course.crash, course.crash_step = error, len(course.losses) + 1
    course.seconds = time.process_time() - started
    return course


def _run(course: Course, num_steps: int, task: Task, seed: int, num_looks: int) -> None:
    setup = course.setup
    model = setup.model
    optimizer = setup.build_optimizer()
    rates = [group["lr"] for group in optimizer.param_groups]
    weights = {name: part for name, part in model.named_parameters() if part.requires_grad}
    due = {round(number * num_steps / num_looks) for number in range(1, num_looks + 1)}
    watched = {1, 2, 3} | due
    course.looks.append(look(setup, task, 0))
    model.train()
    batches = index_batches(setup, seed)
    for step in range(1, num_steps + 1):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate if setup.schedule is None else rate * setup.schedule((step - 1) / setup.num_steps)
        before = {name: part.detach().clone() for name, part in weights.items()} if step in watched else {}
        started = time.process_time()
        loss, grad_norm = take_step(setup, optimizer, setup.train.take(next(batches)))
        course.stepping += time.process_time() - started
        course.losses.append(loss)
        course.grad_norms.append(grad_norm)
        if not math.isfinite(loss):
            course.nonfinite = step
            return
        for name, old in before.items():
            ratio = (weights[name].detach() - old).norm() / old.norm().clamp(min=1e-12)
            course.update_ratios.setdefault(name, []).append(float(ratio))
        if step in due:
            course.looks.append(look(setup, task, step))
            model.train()


def take_step(setup: Setup, optimizer: torch.optim.Optimizer, rows: Rows) -> tuple[float, float]:
    """One step as everybody writes it; the loss, and the norm of the gradient before clipping."""
    optimizer.zero_grad()
    loss = setup.loss(setup.model(rows.inputs), rows.targets)
    loss.backward()  # type: ignore[no-untyped-call]
    held = [part for group in optimizer.param_groups for part in group["params"] if part.grad is not None]
    norm = nn.utils.get_total_norm([part.grad for part in held if part.grad is not None]) if held else torch.zeros(())
    if setup.clip_norm is not None:
        nn.utils.clip_grads_with_norm_(held, setup.clip_norm, norm)
    if bool(torch.isfinite(loss)):
        optimizer.step()
    return float(loss.detach()), float(norm)


def outputs_over(model: nn.Module, rows: Rows, *, batch_size: int = 256) -> Any:
    """Outputs in evaluation mode, without gradients; modes stay as they were."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            parts = [model(rows.take(slice(at, at + batch_size)).inputs) for at in range(0, len(rows), batch_size)]
    finally:
        for module, training in modes:
            module.training = training
    return parts[0] if len(parts) == 1 else joined(parts)


def look(setup: Setup, task: Task, step: int) -> Look:
    """Judge the weights as they are."""
    train_loss, train_skill, train_balanced = _judged(setup, setup.train, task)
    val_loss, val_skill, balanced = (math.nan, None, train_balanced) if setup.val is None else _judged(setup, setup.val, task)
    return Look(step, train_loss, val_loss, train_skill, val_skill, balanced)


def _judged(setup: Setup, rows: Rows, task: Task) -> tuple[float, float | None, float | None]:
    if len(rows) > LOOKED_AT:
        rows = rows.take(torch.linspace(0, len(rows) - 1, LOOKED_AT).long())
    outputs = outputs_over(setup.model, rows)
    try:
        with torch.no_grad():
            loss = float(setup.loss(outputs, rows.targets))
    except Exception:  # a loss that fails on evaluation outputs: what fails in training is told there
        loss = math.nan
    balanced = task.skill(outputs, rows.targets, weighting="classes") if task.categorical else None
    return loss, task.skill(outputs, rows.targets), balanced


def detached(value: Any) -> Any:
    """The same without gradients."""
    return tree(value, lambda part: part.detach())
