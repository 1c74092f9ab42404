"""The catalog: one record per technique, from which recipe fields, cards, docs and contract tests follow.

A technique is one file: a pure function, a small frozen dataclass around it, and this decorator.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import inspect
import pkgutil
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any, TypeVar, dataclass_transform

from stepwell.core.errors import JobError, nearest
from stepwell.core.slots import SLOTS, Slot

ENTRY_POINTS = "stepwell.techniques"
# The order in which model techniques act, whatever their order in the recipe: what is drawn anew must exist, what is
# adapted must have its weights, what is frozen must be complete, and wrappers come last.
STAGES = ("head", "structure", "init", "refine", "adapter", "freeze", "sync", "wrap")
Class = TypeVar("Class", bound=type)


@dataclass(frozen=True, slots=True)
class Field:
    """One setting of a technique: its type, its default (REQUIRED where there is none) and its search range.

    An example, as a job file writes it, stands in messages where neither default nor type shows what is well formed.
    """

    name: str
    type: Any
    default: Any
    search: tuple[Any, ...] | None = None
    example: str = ""

    @property
    def required(self) -> bool:
        return self.default is MISSING


@dataclass(frozen=True)
class Record:
    """Everything the rest of stepwell knows about a technique.

    Args:
        id: its name in recipes, also its file's name.
        slot: where it acts. Extra slots it fills are seen from the object it makes.
        role: "base" (one per recipe), "modifier" (objective), "groups" (optimizer), "factor" (a schedule that multiplies
            what the others give), or "" elsewhere.
        factory: the frozen dataclass of its settings.
        paper: where it comes from.
        needs: tags that something else in the recipe must provide.
        provides: tags that it provides.
        conflicts: id or tag of something else -> the cited reason why the two can't work together.
        search: field -> range for tuning, (low, high, "log" | "linear") or (choice, choice, ...).
        stage: of a model technique, one of `STAGES`.
    """

    id: str
    slot: Slot
    factory: type
    paper: str
    role: str = ""
    needs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    conflicts: Mapping[str, str] = field(default_factory=dict)
    search: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    stage: str = "structure"

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self.factory) or "").split("\n", 1)[0]

    @property
    def fields(self) -> dict[str, Field]:
        """The settings, in order, with resolved types."""
        hints = typing.get_type_hints(self.factory)
        fields = {}
        for item in dataclasses.fields(self.factory):
            default = item.default_factory() if item.default_factory is not MISSING else item.default
            fields[item.name] = Field(
                item.name, hints[item.name], default, self.search.get(item.name), item.metadata.get("example", "")
            )
        return fields


_RECORDS: dict[str, Record] = {}
_discovered = False


def _apply_at_once(cls: type, *runtime: Any, **settings: Any) -> Any:
    # `Ema(model, half_life="100 steps")` is `Ema(half_life="100 steps")(model)`: settings are keyword-only, so a
    # positional argument can only be what the slot gives at run time. What is returned is no instance of the
    # class then, and Python skips __init__.
    if runtime:
        return cls(**settings)(*runtime)
    return object.__new__(cls)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def technique(
    *,
    id: str,
    slot: Slot,
    paper: str,
    role: str = "",
    needs: tuple[str, ...] = (),
    provides: tuple[str, ...] = (),
    conflicts: Mapping[str, str] | None = None,
    search: Mapping[str, tuple[Any, ...]] | None = None,
    stage: str = "structure",
) -> Callable[[Class], Class]:
    """Make a class a technique: a frozen, keyword-only dataclass with a record in the catalog.

    The class docstring is the card (what, why, when not, Args with ranges, Paper, an example that runs).
    `__post_init__` checks ranges and raises JobError; `__call__` takes the slot's runtime argument, see
    `stepwell.core.slots`. Given a positional argument, the class applies itself at once.

    Raises:
        JobError: another class already has this id.
    """
    assert slot in SLOTS
    assert stage in STAGES

    def register(cls: Class) -> Class:
        made: Any = dataclass(frozen=True, kw_only=True)(cls)
        made.__new__ = _apply_at_once
        made.technique_id = id
        known = _RECORDS.get(id)
        if known is not None and (known.factory.__module__, known.factory.__qualname__) != (cls.__module__, cls.__qualname__):
            raise JobError(
                f"two techniques are called {id!r}: {known.factory.__module__} and {cls.__module__}",
                expected="one technique per id",
                fix="Rename one of them, or uninstall the package that brings it",
            )
        _RECORDS[id] = Record(id, slot, made, paper, role, needs, provides, conflicts or {}, search or {}, stage)
        return typing.cast(Class, made)

    return register


def discover() -> dict[str, Record]:
    """Import every technique file of stepwell and every entry point in the group "stepwell.techniques"."""
    global _discovered
    if not _discovered:
        package = importlib.import_module("stepwell.techniques")
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
        for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
            entry.load()
        _discovered = True
    return dict(sorted(_RECORDS.items()))


def lookup(name: str, *, slot: Slot | None = None, role: str | None = None) -> Record:
    """The record of a technique.

    Raises:
        JobError: no such technique, or it belongs to another slot.
    """
    records = discover()
    wanted = [r for r in records.values() if (slot is None or r.slot == slot) and (role is None or r.role == role)]
    kind = (f"{slot} " if slot else "") + "technique"
    if name not in records:
        raise JobError(
            f"unknown {kind} {name!r}", expected=f"the name of a known {kind}", fix=nearest(name, [r.id for r in wanted])
        )
    record = records[name]
    if record not in wanted:
        place = f"{record.slot} ({record.role})" if record.role else record.slot
        raise JobError(
            f"{name!r} is a technique of the {place} slot",
            expected=f"a technique of the {slot} slot" + (f" ({role})" if role else ""),
            fix=nearest(name, [r.id for r in wanted]),
        )
    return record


def record_of(value: Any) -> Record | None:
    """The record of a technique object, or None for anything else."""
    name = getattr(type(value), "technique_id", None)
    return _RECORDS.get(name) if name is not None else None


def settings_of(value: Any) -> dict[str, Any]:
    """A technique object as the mapping a recipe would hold: its name, then every field."""
    record = record_of(value)
    assert record is not None, f"{value!r} is not a technique"
    return {"name": record.id} | {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
