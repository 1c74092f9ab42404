"""Recipes and jobs as plain mappings, in the order of a job file, and as something that can be hashed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from stepwell.core.catalog import record_of, settings_of
from stepwell.recipe.values.parts import ModelSpec
from stepwell.recipe.values.schema import source_name
from stepwell.recipe.values.types import plain_value

if TYPE_CHECKING:
    from stepwell.recipe.job import Job, Recipe

# What becomes of Python objects that have no name in a job file: "name" writes {"python": their name}, "keep" keeps them.
Code = Literal["name", "keep"]


def technique_id(value: Any) -> str:
    """The id of a technique object, or the Python name of anything else."""
    record = record_of(value)
    return record.id if record is not None else python_name(value)


def python_name(value: Any) -> str:
    """What a person would call a Python object: "mymodule.my_loss".

    >>> python_name(len), python_name([1, 2])
    ('builtins.len', 'builtins.list')
    """
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', '?')}.{named.__qualname__}"


def recipe_mapping(recipe: Recipe, *, code: Code) -> dict[str, Any]:
    """A recipe as a mapping. What is None is left out. The preset is already merged in; only "keep" keeps its name."""
    mapping: dict[str, Any] = {}
    for item in dataclasses.fields(recipe):
        value = getattr(recipe, item.name)
        if item.name == "techniques":
            mapping["techniques"] = [_part(technique, code) for technique in value]
        elif value is not None and (item.name != "preset" or code == "keep"):
            mapping[item.name] = _part(value, code) if item.name in ("objective", "optimizer", "schedule") else value
    return mapping


def job_mapping(job: Job, *, code: Code) -> dict[str, Any]:
    """A job as a mapping. What is None, or only a default that says nothing, is left out."""
    mapping: dict[str, Any] = {}
    for item in dataclasses.fields(job):
        value = getattr(job, item.name)
        if item.name == "recipe":
            mapping["recipe"] = recipe_mapping(value, code=code)
        elif item.name == "data" and value is not None:
            mapping["data"] = _source(value, code)
        elif item.name == "init_from" and value is not None:
            mapping["init_from"] = value.to_mapping()
        elif isinstance(value, ModelSpec):
            mapping["model"] = {"name": value.name} | _plain(value.settings, code)
        elif item.name == "keep":
            rules = {key: rule for key, rule in _settings(value, code).items() if rule != getattr(type(value), key)}
            mapping["keep"] = value.newest if set(rules) <= {"newest"} else rules
        elif item.name == "stop":
            rules = {key: rule for key, rule in _settings(value, code).items() if rule is not None}
            mapping |= {"stop": rules} if rules else {}
        elif item.name == "split" and value is not None:
            mapping["split"] = _settings(value, code)
        elif value is not None:
            mapping[item.name] = value
    return mapping


def _part(value: Any, code: Code) -> Any:
    if record_of(value) is not None:
        return _plain(settings_of(value), code)
    return value if code == "keep" else {"python": python_name(value)}


def _source(value: Any, code: Code) -> dict[str, Any]:
    settings = _settings(value, code)
    inner = getattr(value, "data", None)
    if dataclasses.is_dataclass(inner):
        settings["data"] = _source(inner, code)
    return {"source": source_name(value)} | settings


def _settings(value: Any, code: Code) -> dict[str, Any]:
    return {item.name: _plain(getattr(value, item.name), code) for item in dataclasses.fields(value)}


def _plain(value: Any, code: Code) -> Any:
    value = plain_value(value)
    if isinstance(value, dict):
        return {key: _plain(item, code) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, code) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)) or code == "keep":
        return value
    return value.tolist() if hasattr(value, "tolist") else {"python": python_name(value)}


def frozen(value: Any) -> Any:
    """Nested mappings and lists as something that can be hashed; equal values give equal hashes."""
    if isinstance(value, Mapping):
        return tuple(sorted((key, frozen(item)) for key, item in value.items() if _hashable(frozen(item))))
    if isinstance(value, (list, tuple)):
        return tuple(frozen(item) for item in value)
    return value


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
