"""JSON without what JSON doesn't have: no bare NaN, no key twice, and a word for each number that is not finite."""

from __future__ import annotations

import json
import math
from typing import Any

WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def parse_json(content: bytes) -> Any:
    """JSON from somebody else, strictly. See `read_json`."""
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return read


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def worded(value: Any) -> Any:
    """The same tree with every non-finite float as its word."""
    if isinstance(value, float):
        return value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(key): worded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [worded(item) for item in value]
    return value


def number(value: Any) -> float:
    """A number as `worded` wrote it.

    >>> number("-Infinity"), number(2)
    (-inf, 2.0)
    """
    return WORDS[value] if isinstance(value, str) else float(value)
