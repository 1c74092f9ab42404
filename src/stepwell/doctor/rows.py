"""Data as the doctor looks at it: stacked rows, taken once from whatever the user trains on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from stepwell.core.errors import DataError

MOST_ROWS = 4096  # more are sampled: every test of the checklist is decided by far fewer


@dataclass(frozen=True)
class Rows:
    """Inputs and targets, stacked along the first dimension.

    Args:
        inputs: (num_rows, ...) tensor, or a dict or tuple of such.
        targets: (num_rows, ...) tensor, or a dict or tuple of such.
        num_there: rows that the user's data has; more than `len` where it was sampled.
        source: what the user gave, and gets back where nothing about it was mended.
    """

    inputs: Any
    targets: Any
    num_there: int
    source: Any = None

    def __len__(self) -> int:
        return len(_first(self.targets))

    def take(self, index: Tensor | slice) -> Rows:
        """A copy of some of the rows: a model that writes into its inputs doesn't reach these."""

        def some(part: Tensor) -> Tensor:
            return part[index].clone() if isinstance(index, slice) else part[index]

        rows = Rows(tree(self.inputs, some), tree(self.targets, some), 0)
        return replace(rows, num_there=len(rows))

    def with_inputs(self, inputs: Any) -> Rows:
        """The same targets with other inputs."""
        return replace(self, inputs=inputs, source=None)

    def with_targets(self, targets: Any) -> Rows:
        """The same inputs with other targets."""
        return replace(self, targets=targets, source=None)

    def given(self) -> Any:
        """As `diagnose` takes it: the user's own object, or a Dataset of the mended rows."""
        if self.source is not None:
            return self.source
        if isinstance(self.inputs, Tensor) and isinstance(self.targets, Tensor):
            return torch.utils.data.TensorDataset(self.inputs, self.targets)
        return Stacked(self)


class Stacked(torch.utils.data.Dataset[Any]):
    """Rows as a map-style Dataset of (inputs, targets)."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return tree(self.rows.inputs, lambda part: part[index]), tree(self.rows.targets, lambda part: part[index])


def tree(value: Any, use: Callable[[Tensor], Any]) -> Any:
    """Apply a function to every tensor in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return use(value)
    if isinstance(value, Mapping):
        return {key: tree(part, use) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return like(value, [tree(part, use) for part in value])
    return value


def like(value: Any, parts: Sequence[Any]) -> Any:
    """A tuple, named tuple or list of the same kind with other parts."""
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def tensors(value: Any) -> list[Tensor]:
    """All tensors of a nested value, in order."""
    found: list[Tensor] = []
    tree(value, found.append)
    return found


def joined(parts: Sequence[Any]) -> Any:
    """Rows of several values of the same form, one after the other."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts)) if first.dim() else first
    if isinstance(first, dict):
        return {key: joined([part[key] for part in parts]) for key in first}
    if isinstance(first, (tuple, list)):
        return like(first, [joined([part[at] for part in parts]) for at in range(len(first))])
    return first


def _first(value: Any) -> Tensor:
    return tensors(value)[0]


def rows_of(given: Any, name: str, *, seed: int = 0) -> Rows:
    """Stack what a user trains on; of more than `MOST_ROWS` rows a sample that follows from the seed, in their order.

    Args:
        given: a pair of tensors or arrays, or a map-style Dataset of (inputs, targets), or a DataLoader of one.
        name: what errors call it.

    Raises:
        DataError: no rows, no pairs, nothing that can be indexed, rows of different shapes, or unequal numbers of inputs and
            targets.
    """
    if isinstance(given, Rows):
        return given
    if isinstance(given, torch.utils.data.DataLoader):
        return rows_of(given.dataset, name, seed=seed)
    if isinstance(given, (tuple, list)) and len(given) == 2 and all(isinstance(part, (Tensor, np.ndarray)) for part in given):
        inputs, targets = (_as_tensor(part, name) for part in given)
        if len(inputs) != len(targets) or len(inputs) == 0:
            raise DataError(
                f"{name} has {len(inputs)} inputs and {len(targets)} targets",
                expected="as many inputs as targets, one at least",
                fix="Give the targets of the same rows",
            )
        chosen = _sample(len(inputs), seed)
        return Rows(inputs[chosen], targets[chosen], len(inputs), given)
    tensors_of_rows = getattr(given, "tensors", None)
    if isinstance(given, torch.utils.data.TensorDataset) and tensors_of_rows is not None and len(tensors_of_rows) == 2:
        return replace(rows_of(tuple(tensors_of_rows), name, seed=seed), source=given)
    return _rows_of_items(given, name, seed)


def _rows_of_items(given: Any, name: str, seed: int) -> Rows:
    try:
        num_there = len(given)
    except Exception as error:
        raise DataError(
            f"{name} is a {type(given).__name__}, whose length can't be told: {str(error)[:200]}",
            expected="a pair of tensors, or a map-style Dataset: rows that can be looked at twice",
            fix=f"Take some thousand rows from it: {name}=(inputs, targets)",
        ) from error
    if num_there == 0:
        raise DataError(f"{name} has no rows", expected="one row at least", fix="Look at how it is made")
    items = []
    for index in _sample(num_there, seed).tolist():
        try:
            item = given[index]
        except Exception as error:
            raise DataError(
                f"row {index} of {name} can't be taken: {type(error).__name__}: {error}",
                expected="rows that can be indexed, each time with the same answer",
                fix="Mend the Dataset's __getitem__",
            ) from error
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise DataError(
                f"row {index} of {name} is {_kind(item)}",
                expected="a pair (inputs, targets)",
                fix="Wrap the Dataset in one that returns a pair; inputs may be a dict or a tuple"
                if isinstance(given, torch.utils.data.Dataset)
                else f"Give two tensors, {name}=(inputs, targets), or a Dataset of such pairs",
            )
        items.append(item)
    try:
        inputs, targets = default_collate([tuple(item) for item in items])
    except Exception as error:
        raise DataError(
            f"the rows of {name} can't be stacked: {(str(error).splitlines() or [type(error).__name__])[0]}",
            expected="rows of one shape",
            fix="Pad them to one length, as the model would get them in a batch",
        ) from error
    for part, word in ((inputs, "inputs"), (targets, "targets")):
        if not tensors(part):
            raise DataError(
                f"the {word} of {name} hold no tensor: row 0 has a {type(items[0][word == 'targets']).__name__}",
                expected="tensors, arrays or numbers, or a dict or tuple of them",
                fix="Turn them into numbers, as the model would get them in a batch",
            )
    return Rows(inputs, targets, num_there, given)


def _as_tensor(part: Tensor | np.ndarray, name: str) -> Tensor:
    try:
        made = torch.as_tensor(part)
        if made.dim() == 0 or made.layout != torch.strided:
            raise TypeError("a single number" if made.dim() == 0 else "its layout is sparse")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name} has {part.dtype} values that are no rows: {error}",
            expected="numbers, one row after the other along the first dimension",
            fix="Turn them into a dense array of numbers",
        ) from error
    return made


def _sample(num_rows: int, seed: int) -> Tensor:
    if num_rows <= MOST_ROWS:
        return torch.arange(num_rows)
    draw = torch.Generator().manual_seed(seed)
    return torch.randperm(num_rows, generator=draw)[:MOST_ROWS].sort().values


def _kind(item: Any) -> str:
    return f"{len(item)} values" if isinstance(item, Sequence) and not isinstance(item, str) else f"a {type(item).__name__}"
