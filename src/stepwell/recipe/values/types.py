"""Whether a value has the type of a setting, strictly, and what to say where it hasn't."""

from __future__ import annotations

import functools
import inspect
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING
from pathlib import PurePath
from typing import Any

from stepwell.core.catalog import Field
from stepwell.core.duration import Duration
from stepwell.core.errors import JobError
from stepwell.recipe.values.places import place_of
from stepwell.recipe.values.scalars import resolve
from stepwell.recipe.values.yaml_writer import dump

_WORDS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true"),
    int: ("a whole number", "10"),
    float: ("a number", "0.1"),
    str: ("text", "name"),
    type(None): ("null", "null"),
}


def checked(value: Any, field: Field, *, path: str, container: Any) -> Any:
    """A value as the field's type: lists become tuples where a tuple is wanted, whole numbers numbers. Nothing else changes.

    Strict: true is not 1, "3" is not 3, 3.0 is not 3; a number must be finite.

    Args:
        path: what the error calls it, e.g. "recipe.optimizer.lr".
        container: the mapping that holds it under the field's name, for the line it stands on.

    Raises:
        JobError: it has another type.
    """
    plain = plain_value(value)
    try:
        text = json.dumps(plain, allow_nan=False)
    except ValueError:  # not finite, or a loop
        text = None
    except TypeError:  # Python objects
        return _checked_object(value, field, path, container)
    if text is not None:
        from pydantic import ValidationError

        try:
            made = _adapter(field.type).validate_json(text, strict=True)
            if _is_finite(made):
                return made
        except ValidationError:
            pass
    raise _wrong_type(plain, field, path, place_of(container, field.name))


def _is_finite(value: Any) -> bool:
    # A whole number of hundreds of digits becomes an infinite float.
    if isinstance(value, Mapping):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def plain_value(value: Any) -> Any:
    """Tuples as lists, paths and durations as text, numpy scalars as numbers; the rest as it is."""
    if isinstance(value, Mapping):
        return {key: plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    if isinstance(value, (PurePath, Duration)):
        return str(value)
    if not isinstance(value, (int, float)) and getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return value


@functools.lru_cache(maxsize=512)
def _adapter(hint: Any) -> Any:
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter

    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # dataclasses and models bring their own configuration
        return TypeAdapter(hint)


def _checked_object(value: Any, field: Field, path: str, container: Any) -> Any:
    from pydantic import ValidationError

    try:
        _adapter(field.type).validate_python(value, strict=True)
    except ValidationError:
        raise _wrong_type(value, field, path, place_of(container, field.name)) from None
    return value


def _wrong_type(value: Any, field: Field, path: str, place: str | None) -> JobError:
    expected = describe(field.type)
    example = _example(field)
    name = path.rsplit(".", 1)[-1]
    fix = f"Write for example {name}: {example}"
    read = _resolved(value)
    if _is_number(value) and _is_duration(field):
        expected = 'a duration such as "5%", "3 epochs" or "500 steps"'
        fix = f"Write for example {name}: {value if value > 0 else 1} {'minutes' if name == 'max_time' else 'steps'}"
    elif isinstance(value, float) and not math.isfinite(value):
        expected = f"{expected}, finite"
    elif isinstance(value, str) and not isinstance(read, str) and read is not None and _fits(read, field.type):
        fix = f"Remove the quotes: {name}: {value}"
    elif isinstance(value, str) and value.lower() in ("yes", "no", "on", "off", "y", "n") and _fits(True, field.type):
        fix = f"Write {name}: {'true' if value.lower() in ('yes', 'on', 'y') else 'false'}"
    elif not isinstance(value, (list, dict)) and _fits([value], field.type):
        fix = f"Write it as a list: {name}: [{shown(value)}]"
    return JobError(f"{path} is {shown(value)}{_kind(value)}", expected=f"{expected}, e.g. {example}", fix=fix, where=place)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_duration(field: Field) -> bool:
    if not (field.type is str or str in typing.get_args(field.type)):
        return False
    try:
        return field.default not in (MISSING, None) and bool(Duration.parse(field.default))
    except JobError:
        return False


def _resolved(value: Any) -> Any:
    try:
        return resolve(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _fits(value: Any, hint: Any) -> bool:
    from pydantic import ValidationError

    try:
        _adapter(hint).validate_json(json.dumps(value), strict=True)
    except (ValidationError, ValueError, TypeError):
        return False
    return True


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return " (text)" if not isinstance(_resolved(value), str) else ""
    return ""


def shown(value: Any) -> str:
    """A value as a job would spell it, cut where it is long.

    >>> shown({"a": [1, "2"]}), shown(None)
    ('{a: [1, "2"]}', 'null')
    """
    try:
        text = dump({"x": value})[3:].strip() if not isinstance(value, str) else repr(value)
    except (TypeError, AttributeError):
        text = repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:77] + "..."


def describe(hint: Any) -> str:
    """A type in words.

    >>> describe(tuple[float, float]), describe(int | None), describe(typing.Literal["fp32", "bf16"])
    ('a list of 2 numbers', 'a whole number or null', 'one of fp32, bf16')
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint in _WORDS:
        return _WORDS[hint][0]
    if origin is typing.Annotated:
        return describe(parts[0])
    if origin is typing.Literal:
        names = ", ".join(str(part) for part in parts)
        return f"one of {names}" if len(parts) > 1 else names
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(part) for part in parts))
    if origin is tuple and parts and parts[-1] is not Ellipsis:
        kinds = list(dict.fromkeys(parts))
        items = _plural(kinds[0]) if len(kinds) == 1 else "values: " + ", ".join(describe(part) for part in parts)
        return f"a list of {len(parts)} {items}"
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "a mapping"
    if origin is not None and parts and origin is not typing.Callable:
        return f"a list of {_plural(parts[0])}"
    return "a mapping" if hint is dict else "a list" if hint in (list, tuple) else getattr(hint, "__name__", str(hint))


def _plural(hint: Any) -> str:
    plain = {int: "whole numbers", float: "numbers", str: "texts", bool: "true or false values"}
    return plain.get(hint, "values" if hint is Any else f"items, each {describe(hint)}")


def _example(field: Field) -> str:
    if field.example:
        return field.example
    if field.default is not MISSING and field.default is not None:
        return shown(plain_value(field.default)).replace("'", "")
    return _example_of(field.type)


def _example_of(hint: Any) -> str:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint in _WORDS:
        return _WORDS[hint][1]
    if origin is typing.Annotated:
        return _example_of(parts[0])
    if origin is typing.Literal:
        return str(parts[0])
    if origin in (typing.Union, types.UnionType):
        return _example_of(next((part for part in parts if part is not type(None)), str))
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "{" + ", ".join([f"{_example_of(parts[0])}: {_example_of(parts[1])}"] if len(parts) == 2 else []) + "}"
    if parts and origin is not typing.Callable:
        items = parts[:1] * 2 if parts[-1] is Ellipsis or len(parts) == 1 else parts
        return f"[{', '.join(_example_of(part) for part in items)}]"
    return "{name: value}" if hint is dict else "[1, 2]" if hint in (list, tuple) else "null"
