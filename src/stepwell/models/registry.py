"""The models that a job can name: a builder function each, found by name, built from the data's signature."""

from __future__ import annotations

import copy
import importlib
import inspect
import pkgutil
import sys
import traceback
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any, NoReturn, TypeVar, final

from torch import nn

from stepwell.core.catalog import Field, discover
from stepwell.core.errors import JobError, StepwellError, nearest
from stepwell.core.randomness import derive, seeded_defaults
from stepwell.core.signature import InputKind, Signature

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])

KINDS: tuple[InputKind, ...] = typing.get_args(InputKind)


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    builder: Callable[..., nn.Module]
    kinds: tuple[InputKind, ...]


_ENTRIES: dict[str, _Entry] = {}


def model(name: str, *, kinds: tuple[InputKind, ...] = KINDS) -> Callable[[Builder], Builder]:
    """Register a builder function under a name that jobs can use.

    The builder takes the signature of the data, then typed keyword settings: from its own signature and hints follow
    the fields of a job's `model:` block.

    Args:
        name: what a job calls it, e.g. "mlp".
        kinds: the input kinds it can take; all of them unless said otherwise.

    Raises:
        JobError: another builder already has this name, or a setting has no type or can be given by position.

    >>> @model("one_layer", kinds=("vector",))
    ... def one_layer(signature: Signature, *, bias: bool = True) -> nn.Module:
    ...     return nn.Linear(signature.shape[0], signature.num_outputs, bias=bias)
    >>> build("one_layer", Signature("vector", (4,), 3), {"bias": False}, seed=0)
    Linear(in_features=4, out_features=3, bias=False)
    """

    def register(builder: Builder) -> Builder:
        _check_builder(name, builder)
        known = _ENTRIES.get(name)
        if known is not None and _place(known.builder) != _place(builder):
            raise JobError(
                f"two models are called {name!r}: one in {_place(known.builder)[0]}, one in {_place(builder)[0]}",
                expected="one model per name",
                fix="Rename one of them",
            )
        _ENTRIES[name] = _Entry(name, builder, kinds)
        return builder

    return register


def names() -> list[str]:
    """The names of all registered models, sorted.

    >>> {"mlp", "convnet", "resnet", "recurrent", "transformer"} <= set(names())
    True
    """
    return sorted(_entries())


def kinds(name: str) -> tuple[InputKind, ...]:
    """The input kinds that a model can take.

    Raises:
        JobError: no model has this name.
    """
    return _lookup(name).kinds


def settings(name: str) -> dict[str, Field]:
    """The settings of a model, in order, with types and defaults.

    Raises:
        JobError: no model has this name.

    >>> settings("mlp")["hidden"].default
    [128, 64]
    """
    return _fields(_lookup(name).builder)


def build(name: str, signature: Signature, settings: Mapping[str, Any], *, seed: int) -> nn.Module:
    """Build a model for data of a signature.

    Its initial weights are a function of the seed alone: the global generators are neither read nor moved.

    Args:
        name: a registered name.
        signature: what the data look like.
        settings: the model's settings by name; those left out keep their defaults.
        seed: the run's seed.

    Raises:
        JobError: an unknown name or setting, a value of the wrong type or out of range, or data of a kind that the
            model can't take.

    >>> build("mlp", Signature("vector", (4,), 3), {"hidden": [8]}, seed=0).head
    Linear(in_features=8, out_features=3, bias=True)
    """
    entry = _lookup(name)
    if signature.kind not in entry.kinds:
        able = [other.name for other in _entries().values() if signature.kind in other.kinds]
        raise JobError(
            f"model {name!r} can't take {signature.kind} data",
            expected=f"{' or '.join(entry.kinds)} data",
            fix=f"Models that take {signature.kind} data: {', '.join(sorted(able)) or 'none; register your own'}",
        )
    values = _checked(name, _fields(entry.builder), settings)
    with seeded_defaults(derive(seed, "model")):
        built = entry.builder(signature, **values)
    if not isinstance(built, nn.Module):
        raise JobError(
            f"the builder of model {name!r} returned {type(built).__name__}",
            expected="a torch.nn.Module",
            fix=f"Return the model at the end of the function {entry.builder.__name__}",
        )
    return built


def import_file(path: str | Path) -> list[str]:
    """Load a Python file of the user's that registers own models; its code runs.

    Only a person may name such a file (on the command line or in Python): a job file never can.

    Args:
        path: of a .py file that uses `@stepwell.models.model("name")`.

    Returns:
        The names of the models that it registered.

    Raises:
        JobError: the file is missing, raises while it is imported, or registers no model and no technique.
    """
    file = Path(path)
    if not file.is_file():
        raise JobError(
            f"{file} is {'a folder' if file.is_dir() else 'missing'}",
            expected="a Python file that registers models",
            fix="Check the path given to --import",
        )
    _entries()  # the built-in names must be known, or the file could take one of them
    before = dict(_ENTRIES)
    module = _execute(file, before)
    registered = sorted(name for name, entry in _ENTRIES.items() if before.get(name) is not entry)
    if not registered and not any(record.factory.__module__ == module for record in discover().values()):
        raise JobError(
            f"{file} registers nothing",
            expected="at least one model or technique",
            fix='Decorate a builder function with @stepwell.models.model("my_model")',
        )
    return registered


@final
class _Fresh(SourceFileLoader):
    # Without a time stamp nothing is cached: a file changed within a second is read again, and no __pycache__
    # appears beside it.
    def path_stats(self, path: str) -> NoReturn:
        raise OSError


def _execute(file: Path, before: dict[str, _Entry]) -> str:
    # The module's name holds the whole path: two files called models.py can't replace each other.
    name = f"stepwell_import_{'_'.join(file.resolve().with_suffix('').parts[1:])}"
    spec = spec_from_loader(name, _Fresh(name, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        _ENTRIES.clear()
        _ENTRIES.update(before)
        where = _line(file, error)
        if isinstance(error, StepwellError):
            raise error.at(where) from error.__cause__
        raise JobError(
            f"{file} raised {type(error).__name__} while it was imported: {error}",
            expected="a Python file that can be imported",
            fix=f"Mend it; `python {file}` shows the whole traceback",
            where=where,
        ) from error
    return name


def _line(file: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{file}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"{file}:{lines[-1]}" if lines else str(file)


def _entries() -> dict[str, _Entry]:
    package = importlib.import_module("stepwell.models")
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)
    return _ENTRIES


def builder_of(name: str) -> Callable[..., Any]:
    """The function that builds a model.

    Raises:
        JobError: no such model.
    """
    return _lookup(name).builder


def _lookup(name: str) -> _Entry:
    entries = _entries()
    if name not in entries:
        raise JobError(f"unknown model {name!r}", expected="the name of a known model", fix=nearest(name, entries))
    return entries[name]


def _place(builder: Callable[..., Any]) -> tuple[str, str]:
    # A file imported again (a notebook, a test) may replace its own models, nobody else's.
    return (inspect.getsourcefile(builder) or builder.__module__, builder.__qualname__)


def _check_builder(name: str, builder: Callable[..., Any]) -> None:
    hints = typing.get_type_hints(builder)
    for parameter in list(inspect.signature(builder).parameters.values())[1:]:
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.name not in hints:
            raise JobError(
                f"setting {parameter.name!r} of model {name!r} has no type, or is not keyword-only",
                expected="def builder(signature: Signature, *, width: int = 128) -> nn.Module",
                fix="Put a * after the signature and give each setting a type",
            )


def _fields(builder: Callable[..., Any]) -> dict[str, Field]:
    hints = typing.get_type_hints(builder)
    fields = {}
    for parameter in list(inspect.signature(builder).parameters.values())[1:]:
        default = MISSING if parameter.default is inspect.Parameter.empty else copy.deepcopy(parameter.default)
        fields[parameter.name] = Field(parameter.name, hints[parameter.name], default)
    return fields


def _checked(name: str, fields: Mapping[str, Field], values: Mapping[str, Any]) -> dict[str, Any]:
    checked = {}
    for key, value in values.items():
        if key not in fields:
            raise JobError(f"model {name!r} has no setting {key!r}", expected="one of its settings", fix=nearest(key, fields))
        value = list(value) if isinstance(value, tuple) else value
        if not _fits(value, fields[key].type):
            default = "" if fields[key].required else f"; its default is {fields[key].default!r}"
            raise JobError(
                f"model.{key} is {value!r}",
                expected=_words(fields[key].type),
                fix=f"Change {key}, or leave it out{default}" if default else f"Change {key}",
            )
        checked[key] = value
    missing = [key for key, field in fields.items() if field.required and key not in checked]
    if missing:
        raise JobError(f"model.{missing[0]} is not set", expected=_words(fields[missing[0]].type), fix=f"Set {missing[0]}")
    return checked


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in parts
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, parts[0]) for item in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) else True


def _words(hint: Any) -> str:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "one of " + ", ".join(str(part) for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(part) for part in parts)
    if origin is list:
        return f"a list of {({int: 'whole numbers', float: 'numbers', str: 'words'}).get(parts[0], str(parts[0]))}"
    plain = {int: "a whole number", float: "a number", str: "a word", bool: "true or false", type(None): "nothing (null)"}
    return plain.get(hint, getattr(hint, "__name__", str(hint)))
