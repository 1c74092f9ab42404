"""Shipped recipes: one YAML file each, every value with its source beside it."""

from __future__ import annotations

import importlib.resources
from typing import Any

from stepwell.core.errors import JobError, nearest

__all__ = ["names", "preset", "text"]


def names() -> list[str]:
    """The names of all presets, sorted.

    >>> len(names()), names()[:3]
    (8, ['complete_configuration', 'eight_points', 'fine_tune'])
    """
    files = importlib.resources.files(__name__).iterdir()
    return sorted(item.name.removesuffix(".yaml") for item in files if item.name.endswith(".yaml"))


def text(name: str) -> str:
    """A preset's file, with its comments.

    Raises:
        JobError: no preset has this name.
    """
    known = names()
    if name not in known:
        raise JobError(f"unknown preset {name!r}", expected="the name of a shipped recipe", fix=nearest(name, known))
    return importlib.resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def preset(name: str) -> dict[str, Any]:
    """What a preset brings: a mapping as a job file holds it under `recipe:`.

    Raises:
        JobError: no preset has this name.

    >>> preset("transformer")["optimizer"]["betas"]
    [0.9, 0.98]
    """
    # Read when asked for: the reader stands beside this package, in recipe.
    from stepwell.recipe.values.yaml_reader import parse

    mapping: dict[str, Any] = parse(text(name), lambda line: f"preset {name}, line {line}")
    return mapping
