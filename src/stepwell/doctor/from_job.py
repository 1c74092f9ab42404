"""A job, or a recipe with a module and data of one's own, as the doctor holds a training setup."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import record_of, settings_of
from stepwell.core.clock import Horizon
from stepwell.core.errors import DataError
from stepwell.core.randomness import seeded_defaults
from stepwell.core.slots import Objective
from stepwell.data.examples import TensorExamples
from stepwell.data.from_python import as_tensor
from stepwell.data.loading import host_state_kept
from stepwell.data.sources import ShuffledSource
from stepwell.doctor.lr_subjects import copied
from stepwell.doctor.rows import MOST_ROWS, Rows, rows_of, tree
from stepwell.doctor.setup import Setup, read_off
from stepwell.engine.evaluate import evaluating
from stepwell.engine.train_step import TrainStep
from stepwell.recipe.fit import ingredients
from stepwell.recipe.job import Job, Recipe
from stepwell.recipe.run import Assembly, Ingredients
from stepwell.recipe.values.blame import blaming
from stepwell.recipe.verbs import ready

logger = logging.getLogger("stepwell.doctor")


@dataclass
class JobSetup:
    """A setup made of a job.

    Args:
        setup: what trains.
        notes: what of the job it leaves out.
    """

    setup: Setup
    notes: list[str] = field(default_factory=list)


class ObjectiveLoss:
    """An objective as a loss of outputs and targets: each term's sum over its count, weighted and added up.

    >>> from stepwell.techniques import Mse
    >>> float(ObjectiveLoss(Mse())(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [1.0]])))
    2.0
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def __call__(self, outputs: Tree, targets: Tree) -> Tensor:
        batch = Batch(targets, targets)  # counts and terms of a loss read the targets; inputs only stand for the batch's size
        counts = self.objective.counts(batch)
        total = torch.zeros(())
        for term in self.objective.terms(outputs, batch).values():
            total = total + (term.sum * term.weight / counts[term.unit]).sum()
        return total


class Forwarded(nn.Module):
    """A model as an objective calls it: a dict of inputs by keyword, pairs element by element.

    Args:
        inner: the model.
        objective: whose forward pass it is.
    """

    def __init__(self, inner: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.inner, self.objective = inner, objective

    def forward(self, inputs: Tree) -> Any:
        return self.objective.forward(self.inner, Batch(inputs))


def setup_of_job(job: Job, base: str | Path | None = None) -> JobSetup:
    """What `stepwell train` would train: data, model, objective, optimizer, schedule, clipping, batch size and budget.

    Raises:
        JobError, DataError: what `check` would raise too; data without a length.
    """
    job = dataclasses.replace(job, device="cpu", workers=0)
    with host_state_kept():
        parts = ready(job, base)
        with blaming(job, "recipe", "model", "data"):
            return _of_parts(parts, None, None)


def setup_of_recipe(model: nn.Module, train: Any, val: Any, *, recipe: Recipe, budget: str, loss: Any = None) -> JobSetup:
    """What `stepwell.fit` would train.

    Args:
        loss: in place of the recipe's objective; None takes that.
    """
    if loss is not None:
        recipe = dataclasses.replace(recipe, objective=loss)
    job = Job(recipe=recipe, budget=budget, device="cpu")
    with host_state_kept():
        parts = ingredients(copied(model), _unchecked(train, "train", model), _unchecked(val, "val", model), job)
        return _of_parts(parts, train, val)


def _unchecked(given: Any, name: str, model: nn.Module) -> Any:
    """Rows as they are: what `fit` refuses in them (cells that aren't finite, say) is a finding here. Else what was given."""
    if given is None:
        return None
    try:
        rows = rows_of(given, name)
    except DataError:
        return given
    dtype = torch.float64 if any(part.dtype == torch.float64 for part in model.parameters()) else torch.float32
    return TensorExamples(
        tree(rows.inputs, lambda part: as_tensor(part, "inputs", dtype=dtype)),
        tree(rows.targets, lambda part: as_tensor(part, "targets", dtype=dtype, role="targets")),
    )


def _of_parts(parts: Ingredients, train: Any, val: Any) -> JobSetup:
    if not hasattr(parts.train, "batch"):
        raise DataError(
            "the training data has no known length",
            expected="data whose rows can be looked at twice",
            fix="Take some thousand rows from it and give them as (inputs, targets)",
        )
    # Each tensor by itself: copies of a model whose parameters share one buffer would share it too.
    recipe = dataclasses.replace(parts.job.recipe, plan="tensors", precision="fp32", micro_batch_size=None)
    parts = dataclasses.replace(parts, job=dataclasses.replace(parts.job, recipe=recipe), derived=[])
    assembly = Assembly(parts)
    if isinstance(assembly.source, ShuffledSource):
        assembly.source.close()
    step, horizon = assembly.step, assembly.resolved.horizon
    notes: list[str] = []
    rows = _rows(parts.train, train, notes)
    held_out = None if parts.validation is None or callable(parts.validation) else _rows(parts.validation, val, notes)
    objective = step.parts.objective
    model = step.model if _called_plainly(step.model, objective, rows) else Forwarded(step.model, objective)
    size = assembly.source.batch_size
    setup = Setup(
        model=model,
        train=rows,
        val=held_out,
        loss=_loss(objective, recipe),
        optimizer=_optimizer(assembly, model),
        batch_size=min(size, rows.num_there),
        epochs=max(1, math.ceil(horizon.total_steps / max(1, horizon.steps_per_epoch or 1))),
        clip_norm=next((float(item.max_norm) for item in step.parts.grad.values() if _id(item) == "clip_norm"), None),
        schedule=_schedule(step, horizon),
    )
    return JobSetup(setup, [*notes, *_left_out(step)])


def _called_plainly(model: nn.Module, objective: Objective, rows: Rows) -> bool:
    """Whether the objective does nothing but call the model with the inputs as they are."""
    if type(objective).forward is Objective.forward and isinstance(rows.inputs, Tensor):
        return True
    some = tree(rows.inputs, lambda part: part[:4])
    try:
        with torch.no_grad(), evaluating(model), seeded_defaults(0):
            mine = model(some)
        with torch.no_grad(), evaluating(model), seeded_defaults(0):
            return isinstance(mine, Tensor) and torch.equal(mine, objective.forward(model, Batch(some)))
    except Exception:  # it needs more than the inputs, or other ones
        return False


def _rows(examples: Any, given: Any, notes: list[str]) -> Rows:
    num_there = len(examples)
    chosen = torch.arange(num_there)
    if num_there > MOST_ROWS:
        chosen = torch.randperm(num_there, generator=torch.Generator().manual_seed(0))[:MOST_ROWS].sort().values
    batch = examples.batch(chosen)
    if batch.weights is not None and "sample weights" not in notes:
        notes.append("sample weights")
    if batch.targets is None:
        raise DataError(
            "the data has no targets", expected="inputs and targets", fix="Give the targets: a diagnosis asks what is learnt"
        )
    detach: Callable[[Tensor], Tensor] = lambda part: part.detach().clone()  # noqa: E731
    is_pair = isinstance(given, (tuple, list)) and len(given) == 2
    source = given if is_pair or isinstance(given, torch.utils.data.Dataset) else None
    return Rows(tree(batch.inputs, detach), tree(batch.targets, detach), num_there, source)


def _loss(objective: Objective, recipe: Recipe) -> Any:
    """A user's own loss as it is, where nothing modifies it; else the objective as a loss."""
    own = recipe.objective
    modified = any(_slot(item) == "objective" for item in recipe.techniques)
    if callable(own) and record_of(own) is None and not isinstance(own, Objective) and not modified:
        return own
    return ObjectiveLoss(objective)


def _optimizer(assembly: Assembly, model: nn.Module) -> dict[str, Any]:
    """The recipe's optimizer as a mapping; its parameter groups where they differ, or where something isn't held."""
    technique, built = assembly.resolved.optimizer, assembly.step.optimizer
    record = record_of(technique)
    if record is None:
        return read_off(built, model)
    settings = settings_of(technique)
    if record.id == "adagrad":  # what torch calls it
        settings["initial_accumulator_value"] = settings.pop("initial_accumulator")
    rules = [item for item in assembly.resolved.techniques if _slot(item) == "optimizer"]
    held = [part for group in built.param_groups for part in group["params"]]
    everything = {id(part) for part in model.parameters() if part.requires_grad}
    if rules:
        settings["params"] = [_group(group, settings, built) for group in built.param_groups]
    elif {id(part) for part in held} != everything:
        settings["params"] = held
    return settings


def _group(group: dict[str, Any], settings: dict[str, Any], built: Optimizer) -> dict[str, Any]:
    """The tensors of a group, and what it sets differently."""
    changed = {key: value for key, value in group.items() if key in settings and value != built.defaults.get(key)}
    return {"params": group["params"], **changed}


def _schedule(step: TrainStep, horizon: Horizon) -> Callable[[float], float] | None:
    """What the schedules make of the rate, by the share of the training that is done."""
    drives = [drive for drive in step.parts.values if drive.target == "optimizer.lr"]
    if not drives:
        return None
    [drive] = drives
    peak = float(step.optimizer.defaults.get("lr") or step.optimizer.param_groups[0]["lr"])

    def factor(share: float) -> float:
        value = drive.value(share * horizon.total)
        return value if drive.mode == "scale" else value / peak

    return factor


def _left_out(step: TrainStep) -> list[str]:
    """What acts in the job's training and not in the doctor's: the question is whether the rest can learn."""
    parts = step.parts
    kept = {"clip_norm"}
    named = [*parts.moving, *parts.batch, *(key for key in parts.grad if key not in kept), *parts.averages]
    schedules = [key for key, item in parts.schedules.items() if not any(d.target == "optimizer.lr" for d in item.drives)]
    return [*named, *schedules]


def _id(item: Any) -> str | None:
    record = record_of(item)
    return None if record is None else record.id


def _slot(item: Any) -> str | None:
    record = record_of(item)
    return None if record is None else record.slot


def mended_job(job: Job, changes: dict[str, Any]) -> Job:
    """A job with the changes of a repair; a path that ends in "+" appends to a list.

    Raises:
        JobError: a change that this job can't take.

    >>> mended_job(Job(recipe=Recipe(optimizer="sgd"), budget="1 epochs"), {"recipe.techniques+": ["mixup"]}).recipe.techniques
    (Mixup(alpha=0.2, probability=1.0, num_classes=None),)
    """
    for path, value in changes.items():
        if path == "recipe.techniques+":
            techniques = [*job.recipe.techniques, *value]
            job = dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, techniques=techniques))
        elif path == "recipe.optimizer.name":
            kept = {"lr": getattr(job.recipe.optimizer, "lr", None)}
            settings = {"name": value, **{key: number for key, number in kept.items() if number is not None}}
            job = dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, optimizer=settings))
        else:
            job = job.replace_at(path, value)
    return job
