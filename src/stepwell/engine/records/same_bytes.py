"""Whether two states, or two records of metrics, are the same to the byte, and where they first part.

Bytes, never `==`: that takes -0.0 for 0.0, and a NaN for another thing than itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class TensorDifference:
    """A tensor that isn't the same.

    Args:
        name: of the tensor.
        what: "values", "shape", "dtype", or "missing" in one of the two.
        num_different: elements whose bytes differ, of `num_elements`; 0 unless `what` is "values".
        largest: the largest absolute difference of two elements; NaN where one of them is no finite number.
    """

    name: str
    what: Literal["values", "shape", "dtype", "missing"]
    num_different: int = 0
    num_elements: int = 0
    largest: float = 0.0


@dataclass(frozen=True)
class RowDifference:
    """The first logged value that isn't the same.

    Args:
        file: "train", "validation" or "layers".
        step: of the row.
        after: the last logged step at which all was the same, None where there is none.
        column: of the first value that differs; "row" where one of the two has no such row.
        before, now: both values; None where there is none.
    """

    file: str
    step: int
    after: int | None
    column: str
    before: Any
    now: Any


def raw_bytes(tensor: Tensor) -> bytes:
    """The elements' bytes in order, little-endian."""
    dense = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    raw = dense.view(torch.uint8)
    if sys.byteorder == "big":
        size = dense.element_size() // (2 if dense.is_complex() else 1)
        raw = raw.reshape(-1, size).flip(1).reshape(-1)
    return raw.numpy().tobytes()


def weight_hash(tensors: Mapping[str, Any]) -> str:
    """SHA-256 over each tensor's name, dtype, shape and bytes, in the order of the names.

    Equal tensors have equal hashes on every machine and in every form in which they are stored.

    Args:
        tensors: a state_dict; what isn't a tensor doesn't count.

    >>> weight_hash({"b": torch.zeros(2), "a": torch.ones(1)})[:16]
    '6866898f4861c149'
    >>> weight_hash({"a": torch.zeros(2)}) == weight_hash({"a": -torch.zeros(2)})
    False
    """
    digest = hashlib.sha256()
    for name in sorted(name for name, value in tensors.items() if isinstance(value, Tensor)):
        tensor = tensors[name]
        kind = str(tensor.dtype).removeprefix("torch.")
        digest.update(json.dumps([name, kind, list(tensor.shape)]).encode() + b"\n")
        digest.update(raw_bytes(tensor))
    return digest.hexdigest()


def bit_sum(tensors: Iterable[Tensor]) -> int:
    """The sum of the elements read as whole numbers: tells states of one model apart, for a step's cost or less."""
    total = 0
    for tensor in tensors:
        dense = tensor.detach()
        total += int(dense.contiguous().view(_INTEGERS.get(dense.element_size(), torch.uint8)).sum(dtype=torch.int64))
    return total


def tensor_differences(before: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> list[TensorDifference]:
    """Every tensor that isn't the same, in the order of `now`.

    >>> tensor_differences({"w": torch.zeros(2)}, {"w": torch.tensor([0.0, 0.5])})
    [TensorDifference(name='w', what='values', num_different=1, num_elements=2, largest=0.5)]
    """
    found = []
    for name in [*now, *(name for name in before if name not in now)]:
        old, new = before.get(name), now.get(name)
        if old is None or new is None:
            found.append(TensorDifference(name, "missing"))
        elif old.dtype != new.dtype:
            found.append(TensorDifference(name, "dtype"))
        elif old.shape != new.shape:
            found.append(TensorDifference(name, "shape"))
        elif raw_bytes(old) != raw_bytes(new):
            found.append(_values(name, old.detach().cpu().contiguous(), new.detach().cpu().contiguous()))
    return found


def _values(name: str, old: Tensor, new: Tensor) -> TensorDifference:
    size = old.element_size()
    rows = [item.reshape(-1).view(torch.uint8).reshape(-1, size) for item in (old, new)]
    differs = (rows[0] != rows[1]).any(1)
    wide = torch.complex128 if old.is_complex() else torch.float64
    distance = (old.reshape(-1)[differs].to(wide) - new.reshape(-1)[differs].to(wide)).abs()
    return TensorDifference(name, "values", int(differs.sum()), old.numel(), float(distance.max()))


def first_row_difference(
    file: str, before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], *, after: int | None = None
) -> RowDifference | None:
    """Where two records of rows, each with its step, first part; None where they are the same.

    Args:
        file: what they are, for the record.
        after: the last step before the first row.

    >>> first_row_difference("train", [{"step": 1, "loss": 0.5}], [{"step": 1, "loss": 0.25}])
    RowDifference(file='train', step=1, after=None, column='loss', before=0.5, now=0.25)
    """
    for old, new in zip(before, now, strict=False):
        for column in [*old, *(column for column in new if column not in old)]:
            if not same_value(old.get(column), new.get(column)):
                return RowDifference(file, int(old["step"]), after, column, old.get(column), new.get(column))
        after = int(old["step"])
    if len(before) == len(now):
        return None
    left = (before if len(before) > len(now) else now)[min(len(before), len(now))]
    there = [int(left["step"]) if len(rows) > min(len(before), len(now)) else None for rows in (before, now)]
    return RowDifference(file, int(left["step"]), after, "row", *there)


def same_value(before: Any, now: Any) -> bool:
    """Whether two logged values are the same to the bit; whole numbers are stored as floats, and NaN as a word without a sign.

    >>> same_value(0.0, -0.0), same_value(float("nan"), -float("nan")), same_value(1, 1.0)
    (False, True, True)
    """
    if not all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in (before, now)):
        return type(before) is type(now) and before == now
    return struct.pack("<d", before) == struct.pack("<d", now) or (math.isnan(before) and math.isnan(now))
