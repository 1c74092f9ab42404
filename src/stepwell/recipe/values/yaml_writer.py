"""A job as YAML: short mappings on one line, as people write them, and every value back as it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepwell.recipe.values.scalars import write

WIDTH = 110


def dump(mapping: Mapping[str, Any]) -> str:
    """Plain mappings, lists and scalars as a YAML document that reads back to the same value.

    >>> print(dump({"model": {"name": "mlp", "hidden": [128, 64]}, "budget": "60 epochs", "seed": 0}), end="")
    model: {name: mlp, hidden: [128, 64]}
    budget: 60 epochs
    seed: 0
    """
    return "".join(line + "\n" for line in _block(mapping, 0)) if mapping else "{}\n"


def _block(value: Any, indent: int) -> list[str]:
    pad = " " * indent
    lines = []
    entries = (
        [(f"{pad}{write(str(key))}:", item) for key, item in value.items()]
        if isinstance(value, Mapping)
        else [(f"{pad}-", item) for item in value]
    )
    for head, item in entries:
        flow = f"{head} {_flow(item)}"
        # A mapping inside a mapping inside a mapping is easier to read as a block, however short.
        if len(flow) <= WIDTH and not _is_deep(item):
            lines.append(flow)
        elif isinstance(item, (Mapping, list, tuple)) and item:
            lines.append(head)
            lines.extend(_block(item, indent + 2))
        else:
            lines.append(flow)
    return lines


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{write(str(key))}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return write(value)


def _is_deep(value: Any) -> bool:
    items = list(value.values()) if isinstance(value, Mapping) else list(value) if isinstance(value, (list, tuple)) else []
    return any(isinstance(item, Mapping) and item for item in items)
