"""What can't work together is refused before training starts, with the reason and the remedy.

Most of it is data: the needs, provides and conflicts of the technique records. What depends on settings stands in `RULES`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from stepwell.core.catalog import Record, discover, lookup, record_of
from stepwell.core.errors import JobError, nearest
from stepwell.recipe.job import Recipe
from stepwell.recipe.tasks import task_of

# Tasks whose model gives one score per class, and whose targets are class numbers.
CLASS_TASKS = ("classification", "language_modeling")
# Tasks whose batches only some objectives can read: what these provide.
OWN_KIND = {"segmentation": "mask_targets", "pairs": "pair_inputs", "triplets": "triplet_inputs", "multi_task": "task_targets"}
# Objectives that would train on such targets, and learn nothing right.
WRONG_FOR_TASK = {("regression", "bce"): "targets of a regression are no probabilities"}


def check_recipe(recipe: Recipe, *, task: str | None, tags: Collection[str] = (), num_ranks: int = 1) -> None:
    """Refuse a recipe whose parts can't work together.

    Args:
        recipe: the whole of it.
        task: what is learned, see `stepwell.recipe.tasks`; None where only the recipe's own parts are checked.
        tags: what the model, the data and the task provide ("batch_norm", "images", ...).
        num_ranks: processes that train together.

    Raises:
        JobError: the first thing that doesn't go together, with the remedy.

    >>> check_recipe(Recipe(objective="cross_entropy", optimizer="adamw", techniques=["mixup"]), task="classification")
    >>> smoothed = Recipe(objective="mse", optimizer="adamw", techniques=["label_smoothing"])
    >>> check_recipe(smoothed, task="regression")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    stepwell.core.errors.JobError: label_smoothing needs class_scores, which nothing in this recipe provides; expected ...
    """
    objective = recipe.objective
    if objective is None and task is not None and task != "multi_task":  # whose objective follows from its targets
        objective = lookup(task_of(task).objective, slot="objective", role="base").factory()
    parts = [item for item in (objective, recipe.optimizer, recipe.schedule, *recipe.techniques) if item is not None]
    records = [record for item in parts if (record := record_of(item)) is not None]
    _check_task(record_of(objective), task)
    _check_needs(recipe, records, set(tags), task, objective_known=objective is None or record_of(objective) is not None)
    _check_conflicts(recipe, records, set(tags))
    _check_decomposable(recipe, parts, num_ranks)
    _check_drives(recipe, parts)
    for rule in RULES:
        rule.check(recipe)


def remedy(recipe: Recipe, id: str) -> str:
    """How a technique is left out of a recipe."""
    if recipe.preset is None:
        return f"leave {id} out"
    return f"leave {id} out (where the preset brings it: preset: {{name: {recipe.preset}, without: [{id}]}})"


def _check_task(record: Record | None, task: str | None) -> None:
    if record is None or task is None:
        return
    own = task_of(task).objective
    if (task, record.id) in WRONG_FOR_TASK:
        raise JobError(
            f"objective {record.id!r} can't learn a {task}: {WRONG_FOR_TASK[task, record.id]}",
            expected="an objective for the task",
            fix=f"Use {own}",
        )
    kinds = set(OWN_KIND.values()) & set(record.provides)
    if kinds != {OWN_KIND[task]} if task in OWN_KIND else kinds and "soft_targets" not in record.provides:
        raise JobError(
            f"objective {record.id!r} doesn't fit the task {task}",
            expected=f"an objective for {task}" if task in OWN_KIND else "one that takes plain inputs and targets",
            fix=f"Use {own}, which is taken where recipe.objective is left out, or change the task",
        )
    if (task in CLASS_TASKS) != ("class_scores" in record.provides):
        wants = "one score per class" if task in CLASS_TASKS else "a single value or one per label"
        raise JobError(
            f"objective {record.id!r} doesn't fit the task {task}",
            expected=f"an objective for {wants}",
            fix=f"Use {own}, which is taken where recipe.objective is left out, or change the task",
        )


def _fits(record: Record, task: str | None) -> bool:
    """Whether a technique can stand in a recipe for a task: what is proposed must not be refused in its turn."""
    try:
        _check_task(record if record.role == "base" and record.slot == "objective" else None, task)
    except JobError:
        return False
    return True


def _proposed(names: str, fitting: str) -> str:
    return f"Use {fitting}" if fitting else f"Change the task to one that {names} can learn"


def _check_needs(recipe: Recipe, records: list[Record], tags: set[str], task: str | None, *, objective_known: bool) -> None:
    known = discover().values()
    for record in records:
        provided = tags.union(*(other.provides for other in records if other is not record))
        for need in record.needs:
            givers = [other for other in known if need in other.provides]
            # What a user's own loss can take shows when it is first called, not here.
            if need in provided or (not objective_known and any(other.slot == "objective" for other in givers)):
                continue
            names = " or ".join(sorted(other.id for other in givers))
            fitting = " or ".join(sorted(other.id for other in givers if _fits(other, task)))
            raise JobError(
                f"{record.id} needs {need}, which nothing in this recipe provides",
                expected=names if names else f"a model or data with {need}",
                fix=f"{_proposed(names, fitting)}, or {remedy(recipe, record.id)}"
                if names
                else remedy(recipe, record.id).capitalize(),
            )


def _check_conflicts(recipe: Recipe, records: list[Record], tags: set[str]) -> None:
    for record in records:
        for other, reason in record.conflicts.items():
            against = next((item.id for item in records if item is not record and other in (item.id, *item.provides)), None)
            against = against or (f"the model or data ({other})" if other in tags else None)
            if against is not None:
                raise JobError(
                    f"{record.id} can't work together with {against}: {reason}",
                    expected="techniques that go together",
                    fix=f"Choose one of the two: {remedy(recipe, record.id)}",
                )


def _check_decomposable(recipe: Recipe, parts: list[Any], num_ranks: int) -> None:
    for part in parts:
        if getattr(part, "decomposable", True):
            continue
        name = record.id if (record := record_of(part)) is not None else type(part).__name__
        if recipe.micro_batch_size not in (None, recipe.batch_size):
            raise JobError(
                f"{name} can't be summed over parts of a batch, but micro_batch_size is {recipe.micro_batch_size}",
                expected="whole batches",
                fix="Leave micro_batch_size out, and lower batch_size where memory is short",
            )
        if num_ranks > 1:
            raise JobError(
                f"{name} can't be summed over parts of a batch, but {num_ranks} processes share each",
                expected="one process",
                fix="Train in one process, or choose another objective",
            )


def _check_drives(recipe: Recipe, parts: list[Any]) -> None:
    taken: dict[str, str] = {}
    for part in parts:
        record, target = record_of(part), getattr(part, "drives", None)
        if record is None or record.slot != "schedule" or not isinstance(target, str):
            continue
        if record.role == "" and target in taken:
            raise JobError(
                f"{taken[target]} and {record.id} both drive {target}",
                expected="one schedule for each value, and factors (warmup, fine_tuning_phase) beside it",
                fix=f"Leave one of the two out: {remedy(recipe, record.id)}",
            )
        if record.role == "":
            taken[target] = record.id
        _check_target(recipe, record, target)


def _check_target(recipe: Recipe, record: Record, target: str) -> None:
    owner, _, name = target.partition(".")
    driven = recipe.optimizer if owner == "optimizer" else _technique(recipe, owner)
    if driven is None:
        ids = ["optimizer", *(found.id for item in recipe.techniques if (found := record_of(item)) is not None)]
        raise JobError(
            f"{record.id} drives {target!r}, but the recipe has no {owner!r}",
            expected='"optimizer.FIELD", or "ID.FIELD" of a technique in the recipe',
            fix=nearest(owner, ids),
        )
    if record_of(driven) is None:
        return
    fields = [item.name for item in dataclasses.fields(driven)]
    if name not in fields and not (owner == "optimizer" and name == "momentum" and "betas" in fields):
        raise JobError(
            f"{record.id} drives {target!r}, but {technique_name(driven)} has no {name!r}",
            expected=f"a field of {technique_name(driven)}",
            fix=nearest(name, fields),
        )


def technique_name(value: Any) -> str:
    """The id of a technique object."""
    record = record_of(value)
    assert record is not None
    return record.id


def _technique(recipe: Recipe, id: str) -> Any:
    return next((item for item in recipe.techniques if (record := record_of(item)) is not None and record.id == id), None)


@dataclass(frozen=True)
class Rule:
    """Something that depends on settings: when it holds, what is wrong, and what to do."""

    holds: Callable[[Recipe], bool]
    what: str
    expected: str
    fix: str

    def check(self, recipe: Recipe) -> None:
        """Raise JobError where the rule holds."""
        if self.holds(recipe):
            raise JobError(self.what, expected=self.expected, fix=self.fix)


def _cycles_momentum(recipe: Recipe) -> bool:
    schedules = [
        item for item in (recipe.schedule, *recipe.techniques) if (record := record_of(item)) and record.id == "one_cycle"
    ]
    return any(item.momentum == "cycle" and item.drives == "optimizer.lr" for item in schedules)


def _lacks_momentum(recipe: Recipe) -> bool:
    record = record_of(recipe.optimizer)
    return record is not None and _cycles_momentum(recipe) and "momentum" not in record.provides


def _has_momentum_off(recipe: Recipe) -> bool:
    return _cycles_momentum(recipe) and getattr(recipe.optimizer, "momentum", None) == 0


def _has_two_averages(recipe: Recipe) -> bool:
    parts = [recipe.optimizer, *recipe.techniques]
    records = [record for item in parts if (record := record_of(item)) is not None]
    return sum(record.slot == "average" or "average" in record.provides for record in records) > 1


RULES = (
    Rule(
        _lacks_momentum,
        "one_cycle cycles the momentum, which this optimizer doesn't have",
        "an optimizer with momentum (sgd, adamw)",
        "Write schedule: {name: one_cycle, momentum: keep}, or choose another optimizer",
    ),
    Rule(
        _has_momentum_off,
        "one_cycle cycles the momentum, but optimizer.momentum is 0",
        "a momentum above 0, or one that is kept",
        "Write schedule: {name: one_cycle, momentum: keep} to train without, or momentum: 0.9",
    ),
    Rule(
        _has_two_averages,
        "two averages of the weights are in the recipe",
        "one average: it is what is evaluated and delivered",
        "Leave all but one of ema, swa and schedule_free_adamw out (the last averages by itself)",
    ),
)
