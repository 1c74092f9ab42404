"""Tasks: which objective and which metrics belong to a kind of target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from stepwell.core.batch import Tree
from stepwell.core.errors import JobError, nearest
from stepwell.core.slots import call_model


@dataclass(frozen=True)
class Task:
    """A kind of prediction.

    Args:
        name: as written in jobs.
        objective: id of its own objective.
        metrics: evaluated beside the loss; those of multi_task follow from its targets, see `metric_names`.
        headline: the metric that is shown first.
    """

    name: str
    objective: str
    metrics: tuple[str, ...]
    headline: str


TASKS = {
    task.name: task
    for task in (
        Task("classification", "cross_entropy", ("accuracy",), "accuracy"),
        Task("binary", "bce", ("accuracy", "auc"), "auc"),
        Task("multilabel", "bce", ("accuracy",), "accuracy"),
        Task("regression", "mse", ("mae", "rmse", "r2"), "r2"),
        Task("language_modeling", "cross_entropy", ("accuracy",), "perplexity"),
        Task("segmentation", "bce_dice", ("pixel_accuracy", "mean_iou", "dice"), "mean_iou"),
        Task("pairs", "contrastive", ("pair_auc", "pair_accuracy"), "pair_auc"),
        Task("triplets", "triplet", ("triplet_accuracy",), "triplet_accuracy"),
        Task("multi_task", "multi_task", (), "loss"),
    )
}


def task_of(name: str) -> Task:
    """A task by name.

    Raises:
        JobError: an unknown name.
    """
    if name not in TASKS:
        raise JobError(f"unknown task {name!r}", expected="the name of a task", fix=nearest(name, TASKS), where=None)
    return TASKS[name]


def infer_task(targets: Tree, objective: str | None) -> Task | None:
    """The task that targets and objective point to, or None where they don't: then only the loss is evaluated.

    Args:
        objective: the objective's id, None where it isn't said or isn't a technique.
    """
    if objective in _OWN:
        return TASKS[_OWN[objective]]
    if objective in ("bce", "binary_focal"):
        single = isinstance(targets, Tensor) and (targets.dim() == 1 or targets.shape[1] == 1)
        return TASKS["binary" if single else "multilabel"]
    if not isinstance(targets, Tensor):
        return None
    if targets.is_floating_point():
        return TASKS["regression"] if objective is None else None
    if objective in (None, "cross_entropy", "focal"):
        kinds = {1: "classification", 2: "language_modeling", 3: "segmentation"}
        return TASKS[kinds[targets.dim()]] if targets.dim() in kinds else None
    return None


# What an objective is for, whatever the targets look like.
_OWN = {"mse": "regression", "mae": "regression", "huber": "regression", "dice": "segmentation", "bce_dice": "segmentation"}
_OWN |= {"contrastive": "pairs", "triplet": "triplets", "multi_task": "multi_task"}


def objective_for(tasks: Mapping[str, str]) -> dict[str, Any]:
    """The objective of several tasks, each with its own and weight 1.

    >>> objective_for({"sold": "binary"})
    {'name': 'multi_task', 'tasks': {'sold': {'objective': {'name': 'bce'}, 'weight': 1.0}}}
    """
    each = {name: {"objective": {"name": task_of(task).objective}, "weight": 1.0} for name, task in tasks.items()}
    return {"name": "multi_task", "tasks": each}


def metric_names(task: Task | None, targets: Tree, objective: Any) -> tuple[str, ...]:
    """What is measured beside the loss; of several tasks each one's own: "TASK.accuracy".

    Args:
        targets: of a few examples.
        objective: the base objective; one of several tasks says what each is.
    """
    if task is None or task.name != "multi_task":
        return task.metrics if task is not None else ()
    tasks = getattr(objective, "tasks", None)
    if not isinstance(targets, Mapping) or not isinstance(tasks, Mapping):
        return ()
    found: list[str] = []
    for name, one in tasks.items():
        chosen = one.get("objective") if isinstance(one, Mapping) else None
        own = infer_task(targets.get(name), chosen.get("name") if isinstance(chosen, Mapping) else None)
        found += [f"{name}.{metric}" for metric in (own.metrics if own is not None else ())]
    return tuple(found)


def outputs_of(task: str, model: nn.Module, inputs: Tree) -> Tree:
    """A model's outputs for what `predict` reads: pairs and triplets are embedded element by element."""
    if task in ("pairs", "triplets") and isinstance(inputs, tuple):
        return tuple(call_model(model, part) for part in inputs)
    return call_model(model, inputs)
