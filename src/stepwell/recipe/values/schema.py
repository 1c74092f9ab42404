"""From mappings to technique objects, sources, splits and models: strict, with the line and the nearest known name."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING
from typing import Any

from stepwell.core.catalog import Field, Record, lookup, record_of
from stepwell.core.errors import JobError, StepwellError, nearest
from stepwell.core.slots import Objective, Slot
from stepwell.recipe.values.places import place_of
from stepwell.recipe.values.types import checked, shown


def fields_of(kind: type) -> dict[str, Field]:
    """The settings of a dataclass, with resolved types: what `Record.fields` is for a technique.

    A field that defaults to None may carry an example for error messages in its metadata.
    """
    hints = typing.get_type_hints(kind)
    fields = {}
    for item in dataclasses.fields(kind):
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        default = item.metadata.get("example") if default is None else default
        fields[item.name] = Field(item.name, hints[item.name], default)
    return fields


def located(error: StepwellError, place: str | None) -> StepwellError:
    """The same error with its place filled in, where one is known."""
    return error.at(place) if place else error


def mapping_at(value: Any, *, path: str, example: str, place: str | None) -> Mapping[str, Any]:
    """The value, which must be a mapping with names as keys.

    Raises:
        JobError: it is something else.
    """
    if not isinstance(value, Mapping):
        raise JobError(f"{path} is {shown(value)}", expected="a mapping", fix=f"Write for example {example}", where=place)
    for key in value:
        if not isinstance(key, str):
            raise JobError(
                f"{path} has the key {key!r}", expected="names as keys", fix=f"Write for example {example}", where=place
            )
    return value


def refuse_unknown(mapping: Mapping[str, Any], known: Iterable[str], *, path: str) -> None:
    """Refuse the first key that isn't known.

    Args:
        path: of the mapping; "" for the job itself.

    Raises:
        JobError: with the nearest known name, then all of them.
    """
    known = list(known)
    for key in mapping:
        if key not in known:
            raise JobError(
                f"unknown key {key!r}" + (f" in {path}" if path else ""),
                expected="a known key" if known else "no settings here",
                fix=nearest(key, known),
                where=place_of(mapping, key),
            )


def settings_from(
    mapping: Mapping[str, Any], fields: Mapping[str, Field], *, path: str, besides: Sequence[str] = ()
) -> dict[str, Any]:
    """The settings that a mapping gives, each of its field's type; those left out are left out.

    Args:
        besides: keys that are allowed but no settings ("name").

    Raises:
        JobError: an unknown key, a wrong type, or a required setting that is missing.
    """
    refuse_unknown(mapping, [*besides, *fields], path=path)
    prefix = f"{path}." if path else ""
    given = [key for key in mapping if key not in besides]
    settings = {key: checked(mapping[key], fields[key], path=f"{prefix}{key}", container=mapping) for key in given}
    missing = [name for name, field in fields.items() if field.required and name not in settings]
    if missing:
        raise JobError(
            f"{prefix}{missing[0]} is missing",
            expected=f"the setting {missing[0]}" if len(missing) == 1 else f"the settings {', '.join(missing)}",
            fix=f"Add {missing[0]}: to {path}",
            where=place_of(mapping),
        )
    return settings


def make(factory: Any, settings: Mapping[str, Any], mapping: Any, *, path: str) -> Any:
    """Call a factory of validated settings; what it refuses gets the line of the setting it speaks of.

    Raises:
        JobError: it refuses them.
    """
    try:
        return factory(**settings)
    except StepwellError as error:
        match = re.match(r"[\w.]*?(\w+) (is|are) ", error.what)
        where = place_of(mapping, match[1] if match and match[1] in settings else None)
        raise located(error, where) from error.__cause__
    except (TypeError, ValueError) as error:
        raise JobError(
            f"{path} was refused: {error}", expected="settings that it takes", fix=f"Change {path}", where=place_of(mapping)
        ) from None


def technique_from(value: Any, *, path: str, slot: Slot | None = None, role: str | None = None, place: str | None = None) -> Any:
    """A technique object from its name, a mapping with its name and settings, its class, or itself.

    Args:
        path: what an error calls it, e.g. "recipe.techniques[1]".
        slot, role: what it must be; None for any.
        place: where it was written, if it doesn't know that itself.

    Raises:
        JobError: unknown name, another slot's, or settings that it doesn't take.

    >>> technique_from({"name": "mixup", "alpha": 1}, path="recipe.techniques[0]")
    Mixup(alpha=1.0, probability=1.0, num_classes=None)
    """
    where = place_of(value) or place
    if isinstance(value, type) and hasattr(value, "technique_id"):
        value = {"name": value.technique_id}
    record = record_of(value)
    if record is not None:
        _lookup(record.id, slot, role, path, where)
        return value
    if isinstance(value, str):
        value = {"name": value}
    example = "{name: NAME}, or just NAME"
    mapping = mapping_at(value, path=path, example=example, place=where)
    record = _lookup(_name(mapping, path, where), slot, role, path, place_of(mapping, "name") or where)
    settings = settings_from(
        mapping, record.fields, path=f"{path} ({record.id})" if path.endswith("]") else path, besides=("name",)
    )
    return make(record.factory, settings, mapping, path=path)


def _name(mapping: Mapping[str, Any], path: str, where: str | None, key: str = "name") -> str:
    if "python" in mapping and key not in mapping:
        raise JobError(
            f"{path} was Python code: {shown(mapping['python'])}",
            expected="something that has a name; a job file never names code",
            fix="Give the same object again from Python",
            where=where,
        )
    if key not in mapping:
        raise JobError(f"{path} has no {key}", expected=f"a mapping with a {key}", fix=f"Add {key}: to {path}", where=where)
    name = mapping[key]
    if not isinstance(name, str):
        raise JobError(
            f"{path}.{key} is {shown(name)}",
            expected="a name",
            fix=f"Write {key}: and a name",
            where=place_of(mapping, key) or where,
        )
    return name


def _lookup(name: str, slot: Slot | None, role: str | None, path: str, where: str | None) -> Record:
    try:
        return lookup(name, slot=slot, role=role)
    except JobError as error:
        error.what = f"{path}: {error.what}"
        raise located(error, where) from None


def objective_from(value: Any, *, place: str | None = None) -> Any:
    """An objective: None for the task's own, a technique object, or the user's callable as it is."""
    if value is None or (isinstance(value, Objective) and record_of(value) is None):
        return value
    if callable(value) and record_of(value) is None and not hasattr(value, "technique_id"):
        return value
    return technique_from(value, path="recipe.objective", slot="objective", role="base", place=place)


def optimizer_from(value: Any, *, place: str | None = None) -> Any:
    """An optimizer: a technique object, or the user's callable (parameter groups -> Optimizer) as it is."""
    if callable(value) and record_of(value) is None and not hasattr(value, "technique_id"):
        return value
    return technique_from(value, path="recipe.optimizer", slot="optimizer", role="base", place=place)


def source_from(value: Any, *, place: str | None = None) -> Any:
    """A data source's settings: an object of one of `stepwell.data.catalog.SOURCES`, or a mapping with `source: NAME`."""
    if value is None:
        return None
    from stepwell.data.catalog import SOURCES

    if type(value) in SOURCES.values():
        return value
    if isinstance(value, str):
        value = {"source": value}
    mapping = mapping_at(value, path="data", example="data: {source: digits}", place=place_of(value) or place)
    name = _name(mapping, "data", place_of(mapping) or place, key="source")
    if name not in SOURCES:
        raise JobError(
            f"unknown source {name!r}",
            expected="the name of a known source",
            fix=nearest(name, SOURCES),
            where=place_of(mapping, "source"),
        )
    fields = fields_of(SOURCES[name])
    if "data" in fields and isinstance(mapping.get("data"), (str, Mapping)):
        # A source inside a source; what is an object already is checked as any other value.
        rest = {key: field for key, field in fields.items() if key != "data"}
        settings = settings_from(mapping, rest, path="data", besides=("source", "data"))
        settings["data"] = source_from(mapping["data"], place=place_of(mapping, "data"))
    else:
        settings = settings_from(mapping, fields, path="data", besides=("source",))
    return make(SOURCES[name], settings, mapping, path="data")


def source_name(source: Any) -> str:
    """The name under which a source's settings are found in a job."""
    from stepwell.data.catalog import SOURCES

    names: list[str] = [name for name, kind in SOURCES.items() if type(source) is kind]
    return names[0]


def dataclass_from(kind: type, value: Any, *, path: str, example: str, place: str | None = None) -> Any:
    """An object of a settings class from a mapping, or itself; None stands for its defaults.

    Raises:
        JobError: an unknown key, a wrong type, or a value that the class refuses.
    """
    if isinstance(value, kind):
        return value
    where = place_of(value) or place
    mapping = mapping_at({} if value is None else value, path=path, example=example, place=where)
    return make(kind, settings_from(mapping, fields_of(kind), path=path), mapping, path=path)


def model_name(mapping: Mapping[str, Any], place: str | None) -> str:
    """The name in a `model:` mapping, which must be a registered model's."""
    from stepwell.models import registry

    where = place_of(mapping) or place
    name = _name(mapping, "model", where)
    if name not in registry.names():
        raise JobError(
            f"unknown model {name!r}",
            expected="the name of a known model",
            fix=f"{nearest(name, registry.names())}; own models come from a file given with --import",
            where=place_of(mapping, "name") or where,
        )
    return name
