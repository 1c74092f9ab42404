"""The catalog on a terminal: a table of all techniques, and one technique's card."""

from __future__ import annotations

import inspect
import shutil
import sys
import typing
from typing import Any

from stepwell.core.catalog import Field, Record, discover, lookup
from stepwell.report.text import aligned, plain

__all__ = ["card", "table"]


def table() -> str:
    """Every technique: id, slot with its role, and what it does; cut to the terminal's width where there is one."""
    rows = [[record.id, _place(record), record.summary] for record in discover().values()]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return aligned(rows, header=["id", "slot", "what it does"], width=width)


def card(id: str) -> str:
    """All there is to know about one technique.

    Args:
        id: its name in recipes.

    Raises:
        JobError: there is no such technique.
    """
    record = lookup(id)
    parts = [f"{record.id}  ({_place(record)})", inspect.getdoc(record.factory) or ""]
    if record.fields:
        rows = [[item.name, _type(item.type), _default(item), _range(item)] for item in record.fields.values()]
        parts.append("Settings\n" + _indented(aligned(rows, header=["name", "type", "default", "search range"])))
    facts = [["paper", record.paper], ["needs", ", ".join(record.needs)], ["provides", ", ".join(record.provides)]]
    parts.append(aligned([row for row in facts if row[1]]))
    if record.conflicts:
        parts.append("Can't be used with\n" + _indented(aligned([[name, why] for name, why in record.conflicts.items()])))
    parts.append("In a job file\n" + _indented(_in_a_job(record)))
    builtin = record.factory.__module__.startswith("stepwell.techniques.")
    home = "stepwell.techniques" if builtin else record.factory.__module__
    name, settings = record.factory.__name__, record.fields.values()
    arguments = ", ".join(f"{item.name}=..." if item.required else f"{item.name}={item.default!r}" for item in settings)
    parts.append("In Python\n" + _indented(f"from {home} import {name}\n{name}({arguments})"))
    return plain("\n\n".join(parts), keep="\n")


def _place(record: Record) -> str:
    return f"{record.slot}, {record.role}" if record.role else record.slot


def _in_a_job(record: Record) -> str:
    settings = ["name: " + record.id]
    for item in record.fields.values():
        if item.required or item.default is not None:
            settings.append(f"{item.name}: {'...' if item.required else _yaml(item.default)}")
    entry = "{" + ", ".join(settings) + "}"
    own_line = record.slot == "schedule" or (record.slot in ("objective", "optimizer") and record.role == "base")
    return f"recipe:\n  {record.slot}: {entry}" if own_line else f"recipe:\n  techniques:\n    - {entry}"


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    return str(value) if isinstance(value, (int, float, str)) else repr(value)


def _type(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(repr(value) for value in typing.get_args(hint))
    text = inspect.formatannotation(hint) if not isinstance(hint, str) else hint
    return text.replace("typing.", "").replace("collections.abc.", "").replace("stepwell.core.duration.", "")


def _default(field: Field) -> str:
    return "required" if field.required else _yaml(field.default) if field.default is not None else "-"


def _range(field: Field) -> str:
    search = field.search
    if search is None:
        return ""
    if len(search) == 3 and search[2] in ("log", "linear"):
        return f"{search[0]:g} to {search[1]:g} ({search[2]})"
    return " | ".join(_yaml(value) for value in search)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.split("\n"))
