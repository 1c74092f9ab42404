"""`--set path=value`: changes to a job before it is validated, read by the same rules as a job file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stepwell.core.errors import JobError
from stepwell.recipe.values.merge import expand
from stepwell.recipe.values.paths import set_at
from stepwell.recipe.values.places import copied
from stepwell.recipe.values.yaml_reader import parse

__all__ = ["Override", "apply", "parse_override", "set_at"]


@dataclass(frozen=True)
class Override:
    """A value for a path of a job."""

    path: str
    value: Any


def parse_override(text: str) -> Override:
    """Read one `path=value`. The value is YAML: `3e-3` is a number, `[128, 64]` a list, `null` takes something away.

    Raises:
        JobError: no "=", no path, or a value that is not YAML.

    >>> parse_override("recipe.optimizer.lr=3e-3"), parse_override("budget=60 epochs")
    (Override(path='recipe.optimizer.lr', value=0.003), Override(path='budget', value='60 epochs'))
    """
    path, equals, value = text.partition("=")
    path = path.strip()
    if not equals or not path:
        raise JobError(
            f"--set got {text!r}",
            expected="a path, an equals sign and a value",
            fix="Write for example --set recipe.optimizer.lr=3e-3",
        )
    return Override(path, parse(value, lambda line: f"--set {path}"))


def apply(mapping: Any, overrides: Iterable[Override | str]) -> Any:
    """A copy of a job's mapping with its preset merged in and every override applied, later ones winning.

    A preset is chosen first, whatever the order, so that the others can reach into what it brings.

    Raises:
        JobError: a path that leads nowhere.
    """
    parsed = [parse_override(item) if isinstance(item, str) else item for item in overrides]
    first = [item for item in parsed if item.path == "recipe" or item.path.startswith("recipe.preset")]
    made: Any = copied(mapping)
    for item in first:
        set_at(made, item.path, copied(item.value), place=f"--set {item.path}")
    if isinstance(made, dict) and isinstance(made.get("recipe"), Mapping):
        made["recipe"] = expand(made["recipe"])
    for item in parsed:
        if item not in first:
            set_at(made, item.path, copied(item.value), place=f"--set {item.path}")
    return made
