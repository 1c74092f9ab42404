"""What a recipe or a job was given, validated and in its one stored form."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Collection, Mapping
from dataclasses import MISSING
from typing import Any

from stepwell.core.catalog import Field, record_of
from stepwell.core.check import require
from stepwell.core.duration import Duration
from stepwell.core.errors import JobError, nearest
from stepwell.recipe.tasks import TASKS
from stepwell.recipe.values.merge import expand
from stepwell.recipe.values.parts import KeepRules, Merged, ModelSpec, StopRules, tupled
from stepwell.recipe.values.places import place_of
from stepwell.recipe.values.plain import technique_id
from stepwell.recipe.values.schema import (
    dataclass_from,
    located,
    mapping_at,
    model_name,
    objective_from,
    optimizer_from,
    refuse_unknown,
    settings_from,
    source_from,
    technique_from,
)
from stepwell.recipe.values.types import plain_value, shown

RECIPE_DEFAULTS: dict[str, Any] = {
    "batch_size": 32,
    "micro_batch_size": None,
    "precision": "fp32",
    "plan": "flat",
    "on_nonfinite": "stop",
}
# What an error message offers where the default is no example.
_EXAMPLES = {"budget": "60 epochs", "log_every": "100 steps", "micro_batch_size": 16, "task": "classification"}
# More than any run lasts, in any unit; what is longer is a slip, and beyond what can be counted exactly.
LONGEST = 1e15
_PARTS = ("data", "split", "model", "recipe", "stop", "keep", "init_from")


def recipe_values(given: Any) -> dict[str, Any]:
    """Every field of a Recipe from what was given of it.

    Raises:
        JobError: anything unknown, of the wrong type, missing or out of range.
    """
    from stepwell.recipe.job import Recipe

    example = "recipe: {optimizer: adamw, batch_size: 64}"
    mapping = mapping_at(given, path="recipe", example=example, place=place_of(given))
    hints = typing.get_type_hints(Recipe)
    refuse_unknown(mapping, hints, path="recipe")
    mapping = expand(mapping)
    if mapping.get("optimizer") is None:
        raise JobError(
            "recipe.optimizer is missing",
            expected="an optimizer, or a preset that brings one",
            fix="Write for example optimizer: {name: adamw, lr: 3e-3}, or preset: tabular_small",
            where=place_of(mapping, "optimizer"),
        )
    fields = {name: Field(name, hints[name], _EXAMPLES.get(name, default)) for name, default in RECIPE_DEFAULTS.items()}
    values = RECIPE_DEFAULTS | settings_from(
        mapping, fields, path="recipe", besides=[name for name in hints if name not in fields]
    )
    name = mapping.get("preset")
    values["preset"] = name if isinstance(name, Merged) else None
    values["objective"] = objective_from(mapping.get("objective"), place=place_of(mapping, "objective"))
    values["optimizer"] = optimizer_from(mapping["optimizer"], place=place_of(mapping, "optimizer"))
    schedule = mapping.get("schedule")
    if schedule is not None:
        schedule = technique_from(schedule, path="recipe.schedule", slot="schedule", place=place_of(mapping, "schedule"))
    values["schedule"] = schedule
    values["techniques"] = _techniques(mapping, schedule)
    _check_sizes(values, mapping)
    return values


def _techniques(mapping: Mapping[str, Any], schedule: Any) -> tuple[Any, ...]:
    given = mapping.get("techniques")
    if given is None:
        return ()
    if not isinstance(given, (list, tuple)):
        raise JobError(
            f"recipe.techniques is {shown(given)}",
            expected="a list of techniques",
            fix="Write for example techniques: [{name: clip_norm, max_norm: 1.0}]",
            where=place_of(mapping, "techniques"),
        )
    made: list[Any] = []
    base = record_of(schedule)
    driven = {} if base is None or base.role == "factor" else {_drives(schedule): f"recipe.schedule ({technique_id(schedule)})"}
    for index, item in enumerate(given):
        place = place_of(given, index) or place_of(mapping, "techniques")
        technique = technique_from(item, path=f"recipe.techniques[{index}]", place=place)
        _refuse_second(technique, made, driven, index, place)
        made.append(technique)
    return tuple(made)


def _drives(technique: Any) -> str | None:
    named = record_of(technique) is not None and any(item.name == "drives" for item in dataclasses.fields(technique))
    return technique.drives if named else None


def _refuse_second(technique: Any, before: list[Any], driven: dict[str | None, str], index: int, place: str | None) -> None:
    record = record_of(technique)
    assert record is not None
    path, target = f"recipe.techniques[{index}]", _drives(technique)
    if record.role == "base":
        raise JobError(
            f"{path} {record.id!r} is a second {record.slot}",
            expected=f"one {record.slot}, under recipe.{record.slot}",
            fix=f"Write {record.slot}: {record.id}, or leave it out",
            where=place,
        )
    for number, other in enumerate(before):
        if technique_id(other) == record.id and _drives(other) == target:
            fix = "Remove one of the two" + ("" if target is None else ", or let it drive something else")
            raise JobError(
                f"{path} is {record.id!r} again, after recipe.techniques[{number}]",
                expected="each technique once",
                fix=fix,
                where=place,
            )
    if record.slot == "schedule" and record.role != "factor" and target is not None:
        if target in driven:
            raise JobError(
                f"{path} ({record.id}) drives {target}, which {driven[target]} drives already",
                expected="one schedule per value, and factors (warmup, fine_tuning_phase) beside it",
                fix="Remove one of the two, or let it drive something else",
                where=place,
            )
        driven[target] = f"{path} ({record.id})"


def _check_sizes(values: Mapping[str, Any], mapping: Mapping[str, Any]) -> None:
    for name in ("batch_size", "micro_batch_size"):
        size = values[name]
        if isinstance(size, int) and size < 1:
            raise JobError(
                f"recipe.{name} is {size}",
                expected="at least 1",
                fix=f"Write for example {name}: 32",
                where=place_of(mapping, name),
            )
    batch, micro = values["batch_size"], values["micro_batch_size"]
    if micro is not None and isinstance(batch, int) and micro > batch:
        raise JobError(
            f"recipe.micro_batch_size is {micro}, more than recipe.batch_size {batch}",
            expected="parts of a batch",
            fix=f"Make it at most {batch}, or leave it out",
            where=place_of(mapping, "micro_batch_size"),
        )


def job_values(given: Any, *, needs: Collection[str]) -> dict[str, Any]:
    """Every field of a Job from what was given of it.

    Args:
        needs: which of them must be there.

    Raises:
        JobError: anything unknown, of the wrong type, missing or out of range.
    """
    from stepwell.recipe.job import Job, Recipe

    mapping = mapping_at(given, path="the job", example="data:, model:, task:, recipe: and budget:", place=place_of(given))
    hints = typing.get_type_hints(Job)
    refuse_unknown(mapping, hints, path="")
    missing = [name for name in needs if mapping.get(name) is None]
    if missing:
        raise JobError(
            f"the job has no {' and no '.join(missing)}",
            expected=f"the keys {', '.join(needs)}",
            fix=f"Add {missing[0]}:" + (f" {_EXAMPLES[missing[0]]}" if missing[0] in _EXAMPLES else ""),
            where=place_of(mapping),
        )
    defaults = {name: getattr(Job, name, MISSING) for name in hints if name not in _PARTS}
    fields = {name: Field(name, hints[name], _EXAMPLES.get(name, default)) for name, default in defaults.items()}
    values = {name: default for name, default in defaults.items() if default is not MISSING}
    values |= settings_from(mapping, fields, path="", besides=_PARTS)
    _check_task(values["task"], mapping)
    _check_numbers(values, mapping)
    for name in ("budget", "evaluate_every", "checkpoint_every", "log_every"):
        _check_duration(name, values[name], mapping)
    recipe = mapping.get("recipe")
    values["recipe"] = recipe if isinstance(recipe, Recipe) else Recipe.from_mapping(_placed(recipe, mapping, "recipe"))
    values["stop"] = dataclass_from(
        StopRules, mapping.get("stop"), path="stop", example="stop: {max_time: 10 minutes}", place=place_of(mapping, "stop")
    )
    values["keep"] = _keep(mapping.get("keep"), place_of(mapping, "keep"))
    values["init_from"] = _initial(mapping.get("init_from"), place_of(mapping, "init_from"))
    values["model"] = _model(mapping.get("model"), place_of(mapping, "model"))
    values["data"] = source_from(mapping.get("data"), place=place_of(mapping, "data"))
    values["split"] = _split(mapping, values["data"])
    return values


def _placed(recipe: Any, mapping: Mapping[str, Any], key: str) -> Any:
    return mapping_at(
        recipe, path=key, example="recipe: {optimizer: adamw, batch_size: 64}", place=place_of(recipe) or place_of(mapping, key)
    )


def _check_task(task: str | None, mapping: Mapping[str, Any]) -> None:
    if task is not None and task not in TASKS:
        raise JobError(
            f"unknown task {task!r}",
            expected="the name of a known task",
            fix=nearest(task, TASKS),
            where=place_of(mapping, "task"),
        )


def _check_numbers(values: Mapping[str, Any], mapping: Mapping[str, Any]) -> None:
    limits = {"seed": (0, 2**63 - 1), "workers": (0, 1024)}
    for name, (low, high) in limits.items():
        if not low <= values[name] <= high:
            raise JobError(
                f"{name} is {values[name]}",
                expected=f"a whole number from {low} to {high}",
                fix=f"Write for example {name}: {max(low, 1)}",
                where=place_of(mapping, name),
            )


def _check_duration(name: str, text: str | None, mapping: Mapping[str, Any]) -> None:
    if text is None:
        return
    try:
        duration = Duration.parse(text, name=name)
        fix = f'Write for example {name}: "{_EXAMPLES.get(name, "1 epochs")}"'
        require(0 < duration.amount <= LONGEST, name, text, "a length above 0, and one that ends", fix)
        if name == "budget":
            fix = 'Give the budget in work, e.g. "10 epochs"; to stop after a time, add stop: {max_time: "10 minutes"}'
            require(duration.unit not in ("%", "seconds"), name, text, "a number of epochs, steps, samples or tokens", fix)
        elif name != "checkpoint_every":
            require(duration.unit != "seconds", name, text, "a length of training, not of time", fix)
    except JobError as error:
        raise located(error, place_of(mapping, name)) from None


def _model(value: Any, place: str | None) -> ModelSpec | None:
    if value is None:
        return None
    from stepwell.models import registry

    if isinstance(value, ModelSpec):
        value = {"name": value.name} | value.settings
    if isinstance(value, str):
        value = {"name": value}
    mapping = mapping_at(value, path="model", example="model: {name: mlp, hidden: [128, 64]}", place=place_of(value) or place)
    name = model_name(mapping, place)
    fields = registry.settings(name)
    settings = settings_from(mapping, fields, path="model", besides=("name",))
    items = {key: settings.get(key, field.default) for key, field in fields.items()}
    return ModelSpec(name, tuple((key, tupled(plain_value(item))) for key, item in items.items() if _is_plain(item)))


def _keep(value: Any, place: str | None) -> KeepRules:
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return KeepRules(newest=value)
        except JobError as error:
            raise located(error, place) from None
    rules: KeepRules = dataclass_from(KeepRules, value, path="keep", example="keep: {newest: 2, top: 3}", place=place)
    return rules


def _initial(value: Any, place: str | None) -> Any:
    from stepwell.recipe.initial import initial_weights_from

    try:
        return initial_weights_from(value)
    except JobError as error:
        raise located(error, place) from None


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(plain_value(value))
    except (TypeError, ValueError):
        return False
    return True


def _split(mapping: Mapping[str, Any], data: Any) -> Any:
    value = mapping.get("split")
    if value is None and data is None:
        return None
    from stepwell.data.catalog import SplitSpec

    return dataclass_from(
        SplitSpec, value, path="split", example="split: {validation: 0.2, test: 0.2}", place=place_of(mapping, "split")
    )
