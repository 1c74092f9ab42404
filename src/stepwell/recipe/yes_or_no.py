"""Before the first step: are the targets of a loss on yes-or-no targets 0, 1 or probabilities between them?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from stepwell.core.batch import Tree
from stepwell.core.catalog import record_of
from stepwell.core.errors import DataError
from stepwell.core.slots import Objective
from stepwell.data.loading import host_state_kept
from stepwell.recipe.run import Assembly

__all__ = ["refuse_no_probabilities"]

# Samples that are read where each costs Python work.
NUM_READ = 64


def refuse_no_probabilities(assembly: Assembly) -> None:
    """Class numbers under a loss on yes-or-no targets give a loss without a lower end, which trains without complaint.

    Targets in memory are all looked at, of a Dataset some from all over it, of an iterable one its first batch.

    Raises:
        DataError: a target below 0 or above 1, in the training or the validation part.
    """
    names = dict(_yes_or_no(assembly.resolved.base, ()))
    for part in (assembly.parts.train, assembly.parts.validation) if names else ():
        held = _targets_of(part)
        for tasks, name in names.items():
            targets = held
            for task in tasks:
                targets = targets.get(task) if isinstance(targets, Mapping) else None
            _refuse(targets, "".join(f"task {task}: " for task in tasks) + f"targets of {name}")


def _yes_or_no(loss: Objective, tasks: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The losses on yes-or-no targets: the tasks that each lies in, outermost first, and its name."""
    for task, inner in getattr(loss, "objectives", {}).items():
        yield from _yes_or_no(inner, (*tasks, task))
    record = record_of(loss)
    if "yes_or_no" in (record.provides if record is not None else getattr(loss, "provides", ())):
        # Torch's losses are wrapped: their own name is what was written.
        yield tasks, record.id if record is not None else type(getattr(loss, "loss", loss)).__name__


def _targets_of(part: Any) -> Tree:
    held = getattr(part, "targets", None)
    if held is not None or part is None:
        return held
    with host_state_kept():
        if hasattr(part, "batch"):
            num = min(len(part), NUM_READ)
            return part.batch(torch.arange(num) * (len(part) - 1) // max(num - 1, 1)).targets
        first = next(iter(part()), None) if callable(part) else part.next(0)
    return None if first is None else first.targets


def _refuse(targets: Tree, name: str) -> None:
    if not isinstance(targets, Tensor) or targets.numel() == 0:
        return
    low, high = (float(value) for value in torch.aminmax(targets.detach().float()))
    if low < 0 or high > 1:
        raise DataError(
            f"{name} hold {low if low < 0 else high:g}",
            expected="yes or no: 0, 1, or probabilities between them",
            fix="Write the positive class as 1 and the other as 0; for more than two classes use cross_entropy",
        )
