"""The small values that a job is made of besides technique objects and data settings."""

from __future__ import annotations

import enum
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
