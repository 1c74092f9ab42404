"""Checks of values before anything trains on them: finite, with the place of the first bad one."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import types
import typing
from typing import Any

import torch
from torch import Tensor

from stepwell.core.batch import Tree
from stepwell.core.errors import DataError

logger = logging.getLogger("stepwell.data")

# Rows are checked some at a time, so that memory-mapped data never has to fit in memory; beyond the limit, reading
# all of it would delay the first step by minutes.
_CHUNK_BYTES = 64 << 20
_LARGEST_CHECKED = 4 << 30


def require_finite(
    tensor: Tensor, what: str, *, columns: list[str] | None = None, where: str | None = None, first_row: int = 0
) -> None:
    """Refuse NaN and Inf.

    Args:
        tensor: (N, ...); only floating types are looked at.
        what: "inputs", "targets", "weights", for the message.
        columns: names of the second dimension, where it has names.
        where: the file it came from.
        first_row: what row 0 is called, where the tensor is a piece of something larger.

    Raises:
        DataError: naming row (counted from 0) and column of the first bad value.

    >>> require_finite(torch.tensor([[1.0], [float("nan")]]), "inputs", columns=["age"])
    Traceback (most recent call last):
    ...
    stepwell.core.errors.DataError: inputs hold nan in row 1, column 'age'; expected finite numbers. Drop or impute that row (rows are counted from 0).
    """  # noqa: E501
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return
    row_bytes = tensor[0].numel() * tensor.element_size()
    if row_bytes * len(tensor) > _LARGEST_CHECKED:
        logger.info("%s are larger than %d GiB and were not checked for NaN and Inf", what, _LARGEST_CHECKED >> 30)
        return
    rows = max(_CHUNK_BYTES // max(row_bytes, 1), 1)
    for start in range(0, len(tensor), rows):
        part = tensor[start : start + rows]
        # A sum is non-finite wherever a value is, and one pass without a mask; a sum that overflows is looked at too.
        if bool(torch.isfinite(part.sum())):
            continue
        bad = torch.nonzero(~torch.isfinite(part))
        if len(bad):
            _refuse(float(part[tuple(bad[0])]), [int(place) for place in bad[0]], first_row + start, what, columns, where)


def _refuse(value: float, place: list[int], start: int, what: str, columns: list[str] | None, where: str | None) -> None:
    row, rest = start + place[0], place[1:]
    column = ""
    if rest and columns is not None:
        column = f", column {columns[rest[0]]!r}"
    elif rest:
        column = f", column {rest[0] if len(rest) == 1 else tuple(rest)}"
    raise DataError(
        f"{what} hold {value:g} in row {row}{column}",
        expected="finite numbers",
        fix="Drop or impute that row (rows are counted from 0)",
        where=where,
    )


def require_finite_tree(tree: Tree, what: str) -> None:
    """`require_finite` for every tensor of a tree, saying which one."""
    if isinstance(tree, Tensor):
        require_finite(tree, what)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            require_finite_tree(value, f"{what}[{key!r}]")
    elif isinstance(tree, (list, tuple)):
        for place, value in enumerate(tree):
            require_finite_tree(value, f"{what}[{place}]")


def require_types(made: Any) -> None:
    """Refuse a dataclass whose fields, or those of dataclasses in them, hold other types than they declare.

    Raises:
        TypeError: naming the first such field. Types that this doesn't know pass.
    """
    hints = typing.get_type_hints(type(made))
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        if not _fits(value, hints[field.name]):
            raise TypeError(f"{field.name} is {str(value)[:60]!r}")
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if dataclasses.is_dataclass(item) and not isinstance(item, type):
                require_types(item)


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is typing.Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin is tuple and parts:
        if not isinstance(value, (tuple, list)):
            return False
        if parts[-1] is Ellipsis:
            return all(_fits(item, parts[0]) for item in value)
        return len(value) == len(parts) and all(map(_fits, value, parts))
    if origin is list and parts:
        return isinstance(value, list) and all(_fits(item, parts[0]) for item in value)
    if origin is dict and parts:
        return isinstance(value, dict) and all(_fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items())
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64
    if hint in (str, bool):
        return isinstance(value, hint)
    if hint in (None, type(None)):
        return value is None
    if inspect.isclass(hint) and dataclasses.is_dataclass(hint):
        return isinstance(value, hint)
    return True
