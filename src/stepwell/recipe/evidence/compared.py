"""What comparing two runs, or one run with itself, has found: hashes, tensors, rows and other values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from stepwell.engine.records.same_bytes import RowDifference, TensorDifference, weight_hash
from stepwell.engine.state import separate

# Where each part of a trainer's state is; what is left of its tensors is "other".
_PLACES = {"weights": "step/model/", "optimizer": "step/optimizer/", "averages": "step/averages/"}
# What must be the same in equal runs. Counts of rows and reasons for stopping belong to how often a run was interrupted.
_KEPT = ("step", "best", "best_weights")

Verdict = Literal["identical", "changed", "unexplained"]


@dataclass(frozen=True)
class Part:
    """One part of a state, or what was delivered.

    Args:
        name: weights, optimizer, averages or other (what techniques and the trainer keep).
        before, now: SHA-256 of both, see `stepwell.engine.records.same_bytes.weight_hash`; "" where there is none.
    """

    name: str
    before: str
    now: str


@dataclass
class Compared:
    """What is the same, and what differs.

    Args:
        parts: hashes of the tensors.
        tensors: those that differ.
        num_rows: logged rows that both have.
        row: the first logged value that differs.
        values: paths of other values that differ, such as "step.cursor".
    """

    parts: list[Part] = field(default_factory=list)
    tensors: list[TensorDifference] = field(default_factory=list)
    num_rows: int = 0
    row: RowDifference | None = None
    values: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.tensors or self.row or self.values) and all(part.before == part.now for part in self.parts)

    def take_row(self, found: RowDifference | None) -> None:
        """Keep the earlier of two rows."""
        if found is not None and (self.row is None or found.step < self.row.step):
            self.row = found


def comparable(state: dict[str, Any]) -> tuple[dict[str, Tensor], Any]:
    """Tensors and plain values of a trainer's state that must be the same in equal runs."""
    tensors, rest = separate({key: state[key] for key in _KEPT if key in state})
    return tensors, json.loads(json.dumps(rest))  # as a checkpoint has it: lists for tuples, texts for keys


def parts_of(old: dict[str, Tensor], new: dict[str, Tensor]) -> list[Part]:
    """The hashes of the parts that one of two states has."""

    def place(name: str) -> str:
        return next((part for part, prefix in _PLACES.items() if name.startswith(prefix)), "other")

    def side(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value for name, value in tensors.items() if place(name) == part}

    pairs = [(part, side(part, old), side(part, new)) for part in (*_PLACES, "other")]
    return [Part(part, weight_hash(before), weight_hash(now)) for part, before, now in pairs if before or now]


def first_difference(before: Any, now: Any, path: str = "") -> str | None:
    """The path of the first value that differs in two trees of plain values, None where they are the same.

    >>> first_difference({"a": [1, 0.0]}, {"a": [1, -0.0]})
    'a.1'
    """
    if isinstance(before, (dict, list)) and type(before) is type(now):
        old, new = (dict(enumerate(item)) if isinstance(item, list) else item for item in (before, now))
        for key in [*old, *(key for key in new if key not in old)]:
            place = f"{path}.{key}" if path else str(key)
            found = first_difference(old[key], new[key], place) if key in old and key in new else place
            if found is not None:
                return found
        return None
    return None if repr(before) == repr(now) else path  # repr tells -0.0 from 0.0, and gives every bit of a float
