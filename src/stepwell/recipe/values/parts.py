"""The small values that a job is made of besides technique objects and data settings."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepwell.core.check import require
from stepwell.core.duration import Duration


class _Unset(enum.Enum):
    UNSET = "unset"


# A setting of a recipe that nobody gave: a preset may fill it, else its default does. None is something one can give.
UNSET: Any = _Unset.UNSET


class Merged(str):
    """The name of a preset that is already merged into a recipe: kept for the record, never merged again."""

    __slots__ = ()


def listed(value: Any) -> Any:
    """Tuples as lists, all the way down."""
    if isinstance(value, Mapping):
        return {key: listed(item) for key, item in value.items()}
    return [listed(item) for item in value] if isinstance(value, (list, tuple)) else value


def tupled(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    if isinstance(value, Mapping):
        return {key: tupled(item) for key, item in value.items()}
    return tuple(tupled(item) for item in value) if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True)
class ModelSpec:
    """A registered model and its settings, as a value; those left out keep the model's defaults.

    >>> ModelSpec("mlp", (("hidden", (128, 64)),)).settings
    {'hidden': [128, 64]}
    """

    name: str
    items: tuple[tuple[str, Any], ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """Name -> value, with lists where the model's builder expects lists."""
        return {key: listed(value) for key, value in self.items}


@dataclass(frozen=True, kw_only=True)
class KeepRules:
    """Which checkpoints stay. `keep: 3` is short for `keep: {newest: 3}`.

    Args:
        newest: how many of the newest, >= 2, since the last one may turn out damaged; the best one stays beside them.
        top: how many of those with the best evaluations stay, >= 0.
        every: those at multiples of this length stay too, e.g. "1000 steps".
        max_size: what all may take together, e.g. "2 GiB": the oldest go first, never the two newest or the best one.
    """

    newest: int = 2
    top: int = 0
    every: str | None = field(default=None, metadata={"example": "1000 steps"})
    max_size: str | None = field(default=None, metadata={"example": "2 GiB"})

    def __post_init__(self) -> None:
        text = "a whole number from 2: should the last checkpoint turn out damaged, the one before is there"
        require(2 <= self.newest <= 10**9, "keep.newest", self.newest, text, "Write for example keep: 2")
        require(0 <= self.top <= 10**9, "keep.top", self.top, "a whole number from 0", "Write for example keep: {top: 3}")
        if self.every is not None:
            duration = Duration.parse(self.every, name="keep.every")
            positive = duration.unit != "seconds" and 0 < duration.amount < float("inf")
            require(positive, "keep.every", self.every, "a length of training above 0", 'Write for example every: "1000 steps"')
        if self.max_size is not None:
            parse_size(self.max_size, name="keep.max_size")


_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def parse_size(text: str, *, name: str) -> int:
    """Bytes of a size such as "2 GiB" (binary) or "500 MB" (decimal).

    Raises:
        JobError: no such size.

    >>> parse_size("2 GiB", name="keep.max_size"), parse_size("1.5MB", name="keep.max_size")
    (2147483648, 1500000)
    """
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([A-Za-z]+)\s*", text) if isinstance(text, str) else None
    size = int(float(found[1]) * _BYTES.get(found[2].lower(), 0)) if found else 0
    require(size > 0, name, text, "a size above 0 with its unit", 'Write for example "2 GiB" or "500 MB"')
    return size


@dataclass(frozen=True, kw_only=True)
class StopRules:
    """What ends a run before its budget is spent, apart from techniques (early_stopping, target_reached).

    Args:
        max_time: wall-clock time, e.g. "10 minutes"; the state is saved and the reason recorded.
    """

    max_time: str | None = field(default=None, metadata={"example": "10 minutes"})

    def __post_init__(self) -> None:
        if self.max_time is not None:
            duration = Duration.parse(self.max_time, name="stop.max_time")
            positive = duration.unit == "seconds" and 0 < duration.amount < float("inf")
            require(
                positive, "stop.max_time", self.max_time, 'a time above 0, e.g. "10 minutes"', "Give it in s, minutes or hours"
            )
