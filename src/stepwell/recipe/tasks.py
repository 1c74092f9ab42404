"""Tasks: which objective and which metrics belong to a kind of target."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stepwell.core.batch import Tree
from stepwell.core.errors import JobError, nearest


@dataclass(frozen=True)
class Task:
    """A kind of prediction.

    Args:
        name: as written in jobs.
        objective: id of its own objective.
        metrics: evaluated beside the loss.
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
    if objective == "bce":
        single = isinstance(targets, Tensor) and (targets.dim() == 1 or targets.shape[1] == 1)
        return TASKS["binary" if single else "multilabel"]
    if objective == "mse":
        return TASKS["regression"]
    if not isinstance(targets, Tensor):
        return None
    if targets.is_floating_point():
        return TASKS["regression"] if objective is None else None
    if objective in (None, "cross_entropy"):
        return TASKS["language_modeling" if targets.dim() > 1 else "classification"]
    return None
