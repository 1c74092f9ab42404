"""Several tasks at once: a weighted sum of objectives, each on an output and a target of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import lookup, record_of, settings_of, technique
from stepwell.core.check import require
from stepwell.core.errors import DataError, JobError, StepwellError, nearest
from stepwell.core.objectives.callable_loss import as_objective
from stepwell.core.slots import Counts, Objective, Terms

__all__ = ["MultiTask"]


@technique(
    id="multi_task",
    slot="objective",
    role="base",
    paper="Caruana 1997, doi:10.1023/A:1007379606734",
    provides=("task_targets",),
)
class MultiTask(Objective):
    """A weighted sum of objectives, one for each task of a model with several outputs.

    What: sum over tasks of weight * loss. Each task's sum is divided by its own count (unit "TASK.samples",
    "TASK.tokens" ...), so one with few labels isn't drowned by the others' samples. Why: related tasks share what they
    learn. When not: tasks that pull against each other, or losses of different size whose weights nobody has set.

    Missing labels: a class target equal to the objective's ignore_index (with ignored: everywhere for single labels)
    counts in no task; the sample still counts in the others.

    Args:
        tasks: name -> {objective: NAME or {name: NAME, its settings}, weight: a number >= 0, 1 where left out}, or just
            the objective. From Python an objective may be a technique object, or any callable (outputs, targets).

    Shapes: outputs a dict with a tree for every task, in the shape that its objective takes; targets likewise, each
    (N, ...). More outputs or targets than tasks are left alone. Sample weights count in every task.

    Raises:
        JobError: no task; an unknown objective or setting; an objective that needs inputs of its own (contrastive,
            triplet); a weight out of range, or all of them 0.
        DataError: outputs or targets that are no dict, or lack a task; what the task's objective refuses.

    Paper: Caruana, "Multitask Learning", Machine Learning 28, 1997.

    >>> import torch
    >>> both = MultiTask(tasks={"price": "mse", "sold": {"objective": "bce", "weight": 0.5}})
    >>> batch = Batch(torch.zeros(2, 1), {"price": torch.tensor([0.0, 4.0]), "sold": torch.tensor([1, 0])})
    >>> terms = both.terms({"price": torch.tensor([1.0, 2.0]), "sold": torch.zeros(2)}, batch)
    >>> {name: (round(float(term.sum), 4), term.unit, term.weight) for name, term in terms.items()}
    {'price.mse': (5.0, 'price.values', 1.0), 'sold.bce': (1.3863, 'sold.samples', 0.5)}
    """

    tasks: dict[str, Any]

    def __post_init__(self) -> None:
        expected = "a mapping from the name of each task to its objective"
        fix = "Write for example tasks: {price: mse, sold: {objective: bce, weight: 0.5}}"
        named = isinstance(self.tasks, Mapping) and bool(self.tasks) and all(isinstance(name, str) for name in self.tasks)
        require(named, "multi_task.tasks", self.tasks, expected, fix)
        plain = {name: _plain(name, value) for name, value in self.tasks.items()}
        fix = "Leave a task out rather than weigh all with 0"
        require(any(task["weight"] for task in plain.values()), "multi_task.tasks", self.tasks, "a weight above 0", fix)
        objectives = {name: _objective(name, task["objective"]) for name, task in plain.items()}
        # What a job file would hold, whatever was given; the objectives themselves are no setting.
        object.__setattr__(self, "tasks", plain)
        object.__setattr__(self, "_objectives", objectives)
        object.__setattr__(self, "decomposable", all(objective.decomposable for objective in objectives.values()))

    @property
    def objectives(self) -> dict[str, Objective]:
        """The objective of each task."""
        found: dict[str, Objective] = self.__dict__["_objectives"]
        return found

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        terms: Terms = {}
        for name, objective in self.objectives.items():
            output = _member(outputs, name, "outputs", self._remedy)
            part = _of_task(batch, name)
            try:
                found = objective.terms(output, part)
            except StepwellError as error:
                error.what = f"task {name}: {error.what}"
                raise
            weight = self.tasks[name]["weight"]
            for key, term in found.items():
                terms[f"{name}.{key}"] = term._replace(unit=f"{name}.{term.unit}", weight=weight * term.weight)
        return terms

    @property
    def _remedy(self) -> str:
        """What the model has to return, and how it comes to that."""
        returned = ", ".join(f"{name!r}: self.{name}(states)" if name.isidentifier() else f"{name!r}: ..." for name in self.tasks)
        return (
            f"Return one output for each task from forward(): {{{returned}}}, each made by a layer of its own, e.g. an "
            "nn.Linear, from the states that they share; or take the model multi_head, which has a head for each task"
        )

    def counts(self, batch: Batch) -> Counts:
        return {
            f"{name}.{unit}": count
            for name, objective in self.objectives.items()
            for unit, count in objective.counts(_of_task(batch, name)).items()
        }


def _of_task(batch: Batch, name: str) -> Batch:
    fix = "Give the data as (inputs, {TASK: targets, ...})"
    return replace(batch, targets=_member(batch.targets, name, "targets", fix))


def _member(tree: Tree, name: str, kind: str, fix: str) -> Tree:
    if not isinstance(tree, Mapping):
        what = f"that are one tensor {tuple(tree.shape)}" if isinstance(tree, Tensor) else f"of type {type(tree).__name__}"
        raise DataError(f"multi_task got {kind} {what}", expected="a dict with every task's own", fix=fix)
    if name not in tree:
        raise DataError(
            f"multi_task got {kind} without the task {name!r}",
            expected="a dict with every task's own",
            fix=nearest(name, [str(key) for key in tree]),
        )
    return tree[name]


def _plain(name: str, value: Any) -> dict[str, Any]:
    """A task as {objective, weight}; the objective as a mapping with its name where it has one."""
    path = f"multi_task.tasks.{name}"
    task = dict(value) if isinstance(value, Mapping) and "name" not in value else {"objective": value}
    unknown = [key for key in task if key not in ("objective", "weight")]
    if unknown:
        expected = "an objective and its weight"
        raise JobError(
            f"{path} has the key {unknown[0]!r}", expected=expected, fix=nearest(str(unknown[0]), ["objective", "weight"])
        )
    require("objective" in task, path, value, "an objective", f"Write for example {name}: {{objective: mse, weight: 1.0}}")
    objective, weight = task["objective"], task.get("weight", 1.0)
    number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    require(number and 0 <= weight < math.inf, f"{path}.weight", weight, "a finite number of at least 0", "1.0 is usual")
    if isinstance(objective, str):
        objective = {"name": objective}
    elif record_of(objective) is not None:
        objective = settings_of(objective)
    return {"objective": objective, "weight": weight}


def _objective(name: str, value: Any) -> Objective:
    path = f"multi_task.tasks.{name}.objective"
    try:
        made = as_objective(value) if not isinstance(value, Mapping) else _from_mapping(path, value)
    except JobError as error:
        error.what = error.what if error.what.startswith(path) else f"{path}: {error.what}"
        raise
    if type(made).forward is not Objective.forward:
        raise JobError(
            f"{path} is {_name_of(made)}, which calls the model in its own way",
            expected="an objective on the outputs of one call",
            fix="Train on pairs or triplets alone",
        )
    return made


def _name_of(objective: Objective) -> str:
    record = record_of(objective)
    return record.id if record is not None else type(objective).__name__


def _from_mapping(path: str, value: Mapping[str, Any]) -> Objective:
    settings = dict(value)
    require(
        isinstance(settings.get("name"), str), path, value, "a mapping with a name", "Write for example {name: huber, delta: 1.0}"
    )
    record = lookup(settings.pop("name"), slot="objective", role="base")
    unknown = [key for key in settings if key not in record.fields]
    if unknown:
        raise JobError(
            f"{path} has no setting {unknown[0]!r}", expected=f"a setting of {record.id}", fix=nearest(unknown[0], record.fields)
        )
    try:
        made: Objective = record.factory(**settings)
    except TypeError as error:
        raise JobError(
            f"{path} was refused: {error}", expected=f"settings that {record.id} takes", fix=f"Change {path}"
        ) from None
    return made
