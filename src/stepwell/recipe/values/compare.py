"""What differs between two jobs, path by path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stepwell.recipe.job import Job

# Keys that say what a mapping is: where they differ, the mappings are different things and not compared inside.
_NAMES = ("name", "source", "python")


@dataclass(frozen=True)
class Change:
    """One difference.

    Args:
        path: as `Job.replace_at` takes it; techniques by id.
        before, after: plain values; None where there is none.
        kind: "changed", "added" or "removed"; "moved" for the order of techniques.
    """

    path: str
    before: Any
    after: Any
    kind: Literal["changed", "added", "removed", "moved"] = "changed"


def diff(before: Job, after: Job) -> list[Change]:
    """Every difference, in the order of a job file. Empty exactly where the jobs are equal, Python objects by name.

    >>> job = Job(recipe={"optimizer": "sgd", "techniques": ["mixup"]}, budget="3 epochs")
    >>> diff(job, job.replace_at("recipe.techniques.mixup.alpha", 0.4))
    [Change(path='recipe.techniques.mixup.alpha', before=0.2, after=0.4, kind='changed')]
    """
    return mapping_diff(before.to_mapping(), after.to_mapping())


def mapping_diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """The same of two jobs as mappings, which may be of versions whose settings this one doesn't know."""
    return _mappings(before, after, "")


def _mappings(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str) -> list[Change]:
    changes = []
    for key in [*before, *(key for key in after if key not in before)]:
        path = f"{prefix}{key}"
        if key not in after:
            changes.append(Change(path, before[key], None, "removed"))
        elif key not in before:
            changes.append(Change(path, None, after[key], "added"))
        elif path == "recipe.techniques":
            changes += _techniques(before[key], after[key])
        else:
            changes += _values(before[key], after[key], path)
    return changes


def _values(before: Any, after: Any, path: str) -> list[Change]:
    both = isinstance(before, Mapping) and isinstance(after, Mapping)
    if both and all(before.get(name) == after.get(name) for name in _NAMES):
        return _mappings(before, after, f"{path}.")
    return [] if before == after else [Change(path, before, after)]


def _techniques(before: list[Any], after: list[Any]) -> list[Change]:
    old, new = _keyed(before), _keyed(after)
    changes = _mappings(old, new, "recipe.techniques.")
    kept_before, kept_after = [key for key in old if key in new], [key for key in new if key in old]
    if kept_before != kept_after:
        changes.append(Change("recipe.techniques", kept_before, kept_after, "moved"))
    return changes


def _keyed(items: list[Any]) -> dict[str, Any]:
    keyed: dict[str, Any] = {}
    for index, item in enumerate(items):
        name = item.get("name") or item.get("python") if isinstance(item, Mapping) else str(item)
        # Of two with one id, the second is only reached by its index.
        keyed[str(index) if name is None or name in keyed else name] = item
    return keyed
