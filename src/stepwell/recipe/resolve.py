"""Resolving: every value that a recipe leaves open is derived from the data, with its reason on record."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stepwell.core.catalog import lookup, record_of
from stepwell.core.clock import Horizon
from stepwell.core.duration import Duration
from stepwell.core.errors import JobError
from stepwell.core.facts import DataFacts
from stepwell.core.slots import Objective
from stepwell.engine.plan import Plan
from stepwell.engine.records.saver import Retention
from stepwell.recipe.job import Job, Recipe
from stepwell.recipe.tasks import Task, infer_task, task_of
from stepwell.recipe.values.parts import parse_size

ROWS = 400  # of training windows a run writes unless told otherwise


@dataclass(frozen=True)
class Derived:
    """A value that nobody wrote down, and why it is what it is."""

    path: str
    value: Any
    reason: str


@dataclass
class Resolved:
    """A recipe with nothing left open.

    Args:
        base: the objective without its modifiers: what evaluation measures.
        techniques: everything beside objective and optimizer, in the order in which it acts.
    """

    base: Objective
    optimizer: Any
    techniques: list[Any]
    horizon: Horizon
    plan: Plan
    task: Task | None
    log_every: int
    derived: list[Derived] = field(default_factory=list)


def resolve(job: Job, facts: DataFacts) -> Resolved:
    """Settle everything that depends on data and budget.

    Raises:
        JobError: something needs a fact that the data doesn't have, or the budget can't be counted.
    """
    recipe, derived = job.recipe, []
    horizon = _horizon(job, facts)
    derived.append(Derived("budget", f"{horizon.total_steps} steps", f"{job.budget}" + _per_epoch(facts)))
    task = _task(job, facts, derived)
    base = _objective(recipe, task, derived)
    techniques = [_completed(item, facts, derived) for item in recipe.techniques]
    if recipe.schedule is not None:
        techniques.append(_completed(recipe.schedule, facts, derived))
    plan = _plan(job, recipe, horizon, facts, derived)
    if job.log_every is None:
        log_every = -(-horizon.total_steps // ROWS)
        derived.append(Derived("log_every", f"{log_every} steps", f"at most {ROWS} rows a run"))
    else:
        log_every = horizon.steps(job.log_every, name="log_every")
    optimizer = _completed(recipe.optimizer, facts, derived)
    for item in [*techniques, optimizer]:
        _durations(item, horizon, derived)
    return Resolved(base, optimizer, techniques, horizon, plan, task, log_every, derived)


def _horizon(job: Job, facts: DataFacts) -> Horizon:
    size = float(facts.num_samples or 0) if job.recipe.batch_size == "full" else float(job.recipe.batch_size)
    targets = facts.sample.targets
    per_sample = 0.0
    if isinstance(targets, Tensor) and not targets.is_floating_point() and targets.dim() > 1:
        per_sample = float(targets[0].numel())
    return Horizon.of(job.budget, steps_per_epoch=facts.steps_per_epoch, samples_per_step=size, tokens_per_step=size * per_sample)


def _per_epoch(facts: DataFacts) -> str:
    if facts.steps_per_epoch is None:
        return ""
    return f"; {facts.num_samples} training samples make {facts.steps_per_epoch} steps an epoch"


def _task(job: Job, facts: DataFacts, derived: list[Derived]) -> Task | None:
    if job.task is not None:
        return task_of(job.task)
    record = record_of(job.recipe.objective)
    custom = job.recipe.objective is not None and record is None
    task = None if custom else infer_task(facts.sample.targets, record.id if record else None)
    if custom and isinstance(facts.sample.targets, Tensor):
        integer = not facts.sample.targets.is_floating_point()
        task = infer_task(facts.sample.targets, None) if integer else None
    derived.append(Derived("task", task.name if task else None, "from the targets and the objective"))
    return task


def _objective(recipe: Recipe, task: Task | None, derived: list[Derived]) -> Objective:
    if recipe.objective is None:
        if task is None:
            raise JobError(
                "no objective is given and the targets don't say which fits",
                expected="an objective",
                fix='Give one, e.g. objective="cross_entropy", or a callable (outputs, targets) -> loss',
            )
        derived.append(Derived("recipe.objective", task.objective, f"the objective of the task {task.name}"))
        made: Objective = lookup(task.objective, slot="objective", role="base").factory()
        return made
    if isinstance(recipe.objective, Objective):
        return recipe.objective
    from stepwell.core.objectives.callable_loss import as_objective

    return as_objective(recipe.objective)


def _completed(item: Any, facts: DataFacts, derived: list[Derived]) -> Any:
    """Fill in what only the data can say."""
    record = record_of(item)
    if record is None:
        return item
    if hasattr(item, "completed"):
        found = item.completed(facts)
        derived += [Derived(f"{record.id}.{name}", value, reason) for name, (value, reason) in found.items()]
        item = dataclasses.replace(item, **{name: value for name, (value, _) in found.items()})
    if record.id == "distillation" and isinstance(item.teacher, str):
        from stepwell.recipe.delivered import load_model

        item = dataclasses.replace(item, teacher=load_model(item.teacher))
    return item


def _plan(job: Job, recipe: Recipe, horizon: Horizon, facts: DataFacts, derived: list[Derived]) -> Plan:
    watching = [item for item in (recipe.schedule, *recipe.techniques) if hasattr(item, "monitor")]
    for item in watching:
        name = record_of(item).id  # type: ignore[union-attr]
        if not facts.validated:
            raise JobError(
                f"{name} is in the recipe but there is no validation data",
                expected="validation data to watch",
                fix=f"Set split: {{validation: 0.2}} (or give val=), or leave {name} out",
            )
    early = next((item for item in watching if record_of(item).id == "early_stopping"), None)  # type: ignore[union-attr]
    monitor = early.monitor if early is not None else "loss"
    deliver = "best" if early is not None else "last"
    reason = "early_stopping restores the best weights" if early is not None else "no early_stopping: the last weights"
    derived.append(Derived("deliver", deliver, reason))
    return Plan(
        horizon,
        evaluate_every=_steps(job.evaluate_every, horizon, "evaluate_every") if facts.validated else None,
        checkpoint_every=_steps(job.checkpoint_every, horizon, "checkpoint_every"),
        max_seconds=Duration.parse(job.stop.max_time, name="stop.max_time").amount if job.stop.max_time else None,
        monitor=monitor,
        deliver=deliver,
        keep=Retention(
            newest=job.keep.newest,
            top=job.keep.top,
            every=_steps(job.keep.every, horizon, "keep.every") if job.keep.every else None,
            max_bytes=parse_size(job.keep.max_size, name="keep.max_size") if job.keep.max_size else None,
        ),
        saving=job.saving,
        on_nonfinite=recipe.on_nonfinite,
    )


def _steps(duration: str, horizon: Horizon, name: str) -> int | None:
    parsed = Duration.parse(duration, name=name)
    if parsed.unit == "epochs" and horizon.steps_per_epoch is None:
        return max(horizon.total_steps // 20, 1)
    return horizon.steps(parsed, name=name) or None


def _durations(item: Any, horizon: Horizon, derived: list[Derived]) -> None:
    record = record_of(item)
    if record is None:
        return
    for entry in dataclasses.fields(item):
        value = getattr(item, entry.name)
        if not isinstance(value, str) or not value[:1].isdigit():
            continue
        if entry.name in getattr(item, "unused", ()):
            derived.append(Derived(f"{record.id}.{entry.name}", "not used", "another setting is given in its place"))
            continue
        try:
            steps = horizon.steps(value, name=f"{record.id}.{entry.name}")
        except JobError:
            continue
        if not value.endswith("steps"):
            derived.append(Derived(f"{record.id}.{entry.name}", f"{steps} steps", value))


def class_counts(targets: Any) -> list[int] | None:
    """Samples of each class, where targets are class numbers, one per sample."""
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.dim() != 1 or targets.numel() == 0:
        return None
    targets = targets.long()  # truth values can't be counted as they are
    if int(targets.min()) < 0:
        return None
    return torch.bincount(targets).tolist()
