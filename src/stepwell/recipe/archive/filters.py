"""Conditions on runs and their order: "recipe.optimizer.name=adamw", "steps>100", best first."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from stepwell.core.duration import Duration
from stepwell.core.errors import JobError, StepwellError, nearest
from stepwell.engine.metrics.streaming import metric_mode
from stepwell.recipe.job import Job
from stepwell.recipe.values.parts import parse_size
from stepwell.recipe.values.scalars import resolve

if TYPE_CHECKING:
    from stepwell.recipe.archive.runs import RunEntry

__all__ = ["Condition", "conditions", "ordered", "value_at"]

_COLUMNS: dict[str, Callable[[RunEntry], Any]] = {
    "name": lambda entry: entry.name,
    "state": lambda entry: entry.state,
    "metric": lambda entry: entry.value,
    "steps": lambda entry: entry.steps,
    "started": lambda entry: entry.started,
    "size": lambda entry: entry.num_bytes,
}
_FORM = re.compile(r"\s*([A-Za-z_][\w.\-]*)\s*(!=|<=|>=|==|=|<|>|~)\s*(.*?)\s*", flags=re.DOTALL)
_MISSING = object()


@dataclass(frozen=True)
class Condition:
    """One condition.

    Args:
        path: a column, a metric's name, or a path of the job.
        operator: = != < <= > >= ~.
        value: to compare with, as YAML reads it.
    """

    path: str
    operator: str
    value: Any

    def holds(self, entry: RunEntry) -> bool:
        """Whether a run has it. One without a value at the path has `!=` alone."""
        found = value_at(entry, self.path)
        if found is _MISSING:
            return self.operator == "!="
        if self.operator in ("=", "!="):
            return _equal(found, self.value) == (self.operator == "=")
        if self.operator == "~":
            return _contains(found, str(self.value))
        order = _order(found, self.value)
        if order is None:
            return False
        return {"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[self.operator]


def conditions(texts: Iterable[str], entries: list[RunEntry]) -> list[Condition]:
    """Read conditions.

    Args:
        entries: the runs that are asked for: they tell which metrics there are.

    Raises:
        JobError: a text that isn't one, or whose path none of the runs can have.

    >>> conditions(["recipe.optimizer.lr >= 1e-3"], [])
    [Condition(path='recipe.optimizer.lr', operator='>=', value=0.001)]
    """
    return [_condition(text, entries) for text in texts]


def _condition(text: str, entries: list[RunEntry]) -> Condition:
    match = _FORM.fullmatch(text)
    if match is None:
        raise JobError(
            f"{text!r} is no condition",
            expected="a path, one of = != < <= > >= ~, and a value",
            fix='Write for example --where "recipe.optimizer.name=adamw"',
        )
    path, operator, written = match.groups()
    _require_known(path, entries)
    value: Any = _size(written) if path == "size" else resolve(written.strip("\"'") if written[:1] in "\"'" else written)
    return Condition(path, "=" if operator == "==" else operator, value)


def _size(written: str) -> Any:
    return int(written) if written.isdecimal() else parse_size(written, name="size")


def ordered(entries: list[RunEntry], sort: str) -> list[RunEntry]:
    """Runs in an order; those without the value come last.

    Raises:
        JobError: no such column, metric or path.
    """
    _require_known(sort, entries)
    by_name = sorted(entries, key=lambda entry: entry.name)
    if sort == "metric":  # accuracies and losses don't compare: metric by metric, the best first
        return sorted(by_name, key=lambda entry: (entry.metric is None, entry.metric or "", _rank(entry.metric, entry.value)))
    if any(sort in entry.metrics for entry in entries):
        return sorted(by_name, key=lambda entry: _rank(sort, entry.metrics.get(sort)))
    found = {id(entry): value_at(entry, sort) for entry in by_name}
    there = [entry for entry in by_name if found[id(entry)] not in (_MISSING, None)]
    numbers = [entry for entry in there if _is_number(found[id(entry)])]
    texts = [entry for entry in there if not _is_number(found[id(entry)])]
    numbers.sort(key=lambda entry: found[id(entry)], reverse=sort in ("size", "steps"))
    texts.sort(key=lambda entry: str(found[id(entry)]), reverse=sort == "started")
    return numbers + texts + [entry for entry in by_name if found[id(entry)] in (_MISSING, None)]


def value_at(entry: RunEntry, path: str) -> Any:
    """What a run has in a column, as a metric, or at a path of its job."""
    if path in _COLUMNS:
        value = _COLUMNS[path](entry)
        return _MISSING if value is None else value
    if path in entry.metrics:
        return entry.metrics[path]
    inside: Any = entry.job
    for name in path.split("."):
        if isinstance(inside, list):
            inside = _item(inside, name)
        elif isinstance(inside, Mapping) and name in inside:
            inside = inside[name]
        elif not (name in ("name", "source") and isinstance(inside, str)):  # "model: mlp" is short for {name: mlp}
            return _MISSING
    return inside


def _item(items: list[Any], name: str) -> Any:
    if name.isdecimal() and name.isascii() and len(name) < 10:
        return items[int(name)] if int(name) < len(items) else _MISSING
    ids = [item.get("name") if isinstance(item, Mapping) else item for item in items]
    return items[ids.index(name)] if name in ids else _MISSING


def _require_known(path: str, entries: list[RunEntry]) -> None:
    """Refuse a path that begins like nothing a job can hold: a slip of the pen, which would find no run."""
    known = {*_COLUMNS, *(item.name for item in fields(Job)), *(name for entry in entries for name in entry.metrics)}
    first = path.split(".", maxsplit=1)[0]
    told = any(entry.metrics for entry in entries)
    if first in known or path in known or ("." not in path and not told):  # a bare word may be a metric of runs to come
        return
    raise JobError(f"no run can have {path!r}", expected="a column, a metric or a path of the job", fix=nearest(first, known))


def _equal(found: Any, value: Any) -> bool:
    if _is_number(found) and _is_number(value):
        return bool(found == value)
    if isinstance(found, Mapping):  # "recipe.optimizer=adamw" means its name
        found = found.get("name", found.get("source", found))
    return found is value if found is None or value is None else str(found) == str(value)


def _contains(found: Any, text: str) -> bool:
    if isinstance(found, Mapping):
        return any(_contains(item, text) for item in (found.get("name"), found.get("source")) if item is not None)
    if isinstance(found, list):
        return any(_contains(item, text) for item in found)
    return text.lower() in str(found).lower()


def _order(found: Any, value: Any) -> int | None:
    """-1, 0 or 1; None where the two don't compare."""
    if _is_number(found) and _is_number(value):
        return None if math.isnan(found) or math.isnan(value) else (found > value) - (found < value)
    if not isinstance(found, str) or value is None:
        return None
    with suppress(StepwellError):
        one, other = Duration.parse(found), Duration.parse(str(value))
        return (one.amount > other.amount) - (one.amount < other.amount) if one.unit == other.unit else None
    return (found > str(value)) - (found < str(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _rank(metric: str | None, value: float | None) -> float:
    """Ascending from the best; what isn't a number comes last."""
    if metric is None or value is None or math.isnan(value):
        return math.inf
    return -value if metric_mode(metric) == "max" else value
