"""Examples: data whose samples have numbers, read a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from stepwell.core.batch import Batch, Tree, tree_leaves, tree_map
from stepwell.core.errors import DataError, StepwellError
from stepwell.data.failures import Failure
from stepwell.data.windows import TokenExamples, WindowExamples

__all__ = ["Examples", "MapExamples", "Subset", "TensorExamples", "TokenExamples", "WindowExamples", "WorkExamples"]

# Batch items that name their targets: ours first, then the name that text libraries use.
TARGET_NAMES = ("targets", "target", "labels", "label")


@runtime_checkable
class Examples(Protocol):
    """Numbered samples. `work_per_sample` says that each sample costs Python work (files, augmentation)."""

    @property
    def work_per_sample(self) -> bool: ...
    def __len__(self) -> int: ...
    def batch(self, index: Tensor) -> Batch:
        """The samples at `index` (int64), in that order."""
        ...


@runtime_checkable
class WorkExamples(Examples, Protocol):
    """Examples that are fetched one by one, possibly in worker processes, and then put together."""

    def item(self, place: int) -> Any: ...
    def collate(self, items: Sequence[Any]) -> Batch: ...


class TensorExamples:
    """Tensors whose first dimension counts the samples: a batch is one index operation per tensor.

    Tensors over memory-mapped files work too: only the rows of a batch are read.

    Args:
        inputs: a tree of tensors, each (N, ...).
        targets: a tree of tensors, each (N, ...), or None.
        weights: one weight per sample, (N,), or None.
        dtype: float64 rows are turned into this type as they are read; None keeps them.

    Raises:
        DataError: no tensors, no samples, or different numbers of samples.

    >>> TensorExamples(torch.arange(6.0).view(3, 2)).batch(torch.tensor([2, 0])).inputs.tolist()
    [[4.0, 5.0], [0.0, 1.0]]
    """

    work_per_sample = False

    def __init__(
        self, inputs: Tree, targets: Tree = None, weights: Tensor | None = None, *, dtype: torch.dtype | None = None
    ) -> None:
        self.inputs, self.targets, self.weights = inputs, targets, weights
        leaves = tree_leaves([inputs, targets, weights])
        _check_lengths(leaves)
        self.dtype = dtype if any(leaf.dtype == torch.float64 for leaf in leaves) and dtype != torch.float64 else None
        self._plain = isinstance(inputs, Tensor) and isinstance(targets, Tensor) and weights is None and self.dtype is None
        self._device = leaves[0].device
        self._length = int(leaves[0].shape[0])
        self.num_bytes = sum(leaf.numel() * leaf.element_size() for leaf in leaves)

    def __len__(self) -> int:
        return self._length

    def batch(self, index: Tensor) -> Batch:
        if self._device != index.device:
            index = index.to(self._device)
        if self._plain:
            return Batch(self.inputs.index_select(0, index), self.targets.index_select(0, index))

        def read(tensor: Tensor) -> Tensor:
            return self._narrowed(tensor.index_select(0, index))

        return self._each(read)

    def slice(self, start: int, stop: int) -> Batch:
        """The samples `start` to `stop`: views, where no type changes."""
        if self._plain:
            return Batch(self.inputs[start:stop], self.targets[start:stop])
        return self._each(lambda tensor: self._narrowed(tensor[start:stop]))

    def select(self, index: Tensor) -> TensorExamples:
        """A copy of some samples, in the order of `index` (int64)."""
        batch = self.batch(index)
        return TensorExamples(batch.inputs, batch.targets, batch.weights)

    def aligned(self, size: int) -> bool:
        """Whether every `size`-th row starts at a multiple of 64 bytes, as a tensor of its own would.

        Some matrix kernels choose their path by alignment, so only then has a slice the bits of a copy.
        """
        leaves = tree_leaves([self.inputs, self.targets, self.weights])
        return all((size * (leaf[0].numel() * leaf.element_size())) % 64 == 0 for leaf in leaves)

    def _narrowed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype) if self.dtype is not None and tensor.dtype == torch.float64 else tensor

    def _each(self, read: Callable[[Tensor], Tensor]) -> Batch:
        weights = None if self.weights is None else read(self.weights)
        return Batch(tree_map(read, self.inputs), tree_map(read, self.targets), weights)


class MapExamples:
    """A map-style dataset: anything with `__len__` and `__getitem__`.

    Items are (inputs, targets), (inputs, targets, weight), inputs alone, or a dict with "inputs", "targets" and
    "weights" (a dict without "inputs" is a dict of inputs, its "targets" or "labels" taken out).

    Args:
        dataset: the dataset.
        collate: makes one batch of a list of items, in the same forms; torch's default where None.
        dtype: float64 values become this type; None keeps them.

    Raises:
        DataError: the dataset is empty.

    >>> MapExamples([([1.0, 2.0], 0), ([3.0, 4.0], 1)]).batch(torch.tensor([1, 0])).targets.tolist()
    [1, 0]
    """

    work_per_sample = True

    def __init__(
        self, dataset: Any, *, collate: Callable[[list[Any]], Any] | None = None, dtype: torch.dtype | None = torch.float32
    ) -> None:
        if len(dataset) == 0:
            raise _empty("the dataset")
        self.dataset, self.dtype = dataset, dtype
        self._collate = collate

    def __len__(self) -> int:
        return len(self.dataset)

    def item(self, place: int) -> Any:
        return self.dataset[place]

    def collate(self, items: Sequence[Any]) -> Batch:
        if self._collate is not None:
            return as_batch(self._collate(list(items)), dtype=self.dtype)
        from torch.utils.data import default_collate

        try:
            return as_batch(default_collate([_as_arrays(item) for item in items]), dtype=self.dtype)
        except (TypeError, RuntimeError) as error:
            raise DataError(
                f"items of the dataset can't be put together into a batch ({str(error).splitlines()[0]})",
                expected="items with the same structure and shapes",
                fix="Make the dataset return tensors of one shape, or give a DataLoader with a collate_fn",
            ) from error

    def batch(self, index: Tensor) -> Batch:
        items = []
        for place in index.tolist():
            try:
                items.append(self.item(place))
            except StepwellError:
                raise
            except Exception as error:
                raise Failure.of_sample(error, place).error() from error
        return self.collate(items)


class Subset:
    """Some of the examples, in the order of an index; nothing is copied.

    Args:
        examples: all of them.
        index: which, (N,) int64.

    Raises:
        DataError: the index is empty.

    >>> Subset(TensorExamples(torch.arange(5.0)), torch.tensor([4, 2])).batch(torch.tensor([0])).inputs.tolist()
    [4.0]
    """

    def __init__(self, examples: Examples, index: Tensor) -> None:
        if len(index) == 0:
            raise _empty("the part")
        self.examples, self.index = examples, index

    @property
    def work_per_sample(self) -> bool:
        return self.examples.work_per_sample

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, index: Tensor) -> Batch:
        return self.examples.batch(self.index.index_select(0, index))

    def item(self, place: int) -> Any:
        assert isinstance(self.examples, WorkExamples)
        return self.examples.item(int(self.index[place]))

    def collate(self, items: Sequence[Any]) -> Batch:
        assert isinstance(self.examples, WorkExamples)
        return self.examples.collate(items)


def as_batch(value: Any, *, dtype: torch.dtype | None = None) -> Batch:
    """What a collate function or an iterable dataset gives, as a Batch. Float64 becomes `dtype` (None: kept).

    Raises:
        DataError: it holds no tensors.

    >>> as_batch({"ids": torch.ones(2, 3), "labels": torch.zeros(2)}).inputs.keys()
    dict_keys(['ids'])
    """
    if isinstance(value, Batch):
        batch = value
    elif isinstance(value, Mapping):
        rest = dict(value)
        weights = rest.pop("weights", None)
        found = [name for name in TARGET_NAMES if name in rest]
        targets = rest.pop(found[0]) if found else None
        batch = Batch(rest["inputs"] if set(rest) == {"inputs"} else rest, targets, weights)
    elif isinstance(value, (tuple, list)) and 1 <= len(value) <= 3:
        batch = Batch(*value)
    else:
        batch = Batch(value)
    if not tree_leaves(batch.inputs):
        raise DataError(
            f"an item of the dataset gives {type(value).__name__} where inputs should be",
            expected="(inputs, targets), (inputs, targets, weight) or a dict, of tensors, arrays or numbers",
            fix="Turn what the dataset returns into tensors",
        )
    if dtype is None or dtype == torch.float64:
        return batch

    def narrowed(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if tensor.dtype == torch.float64 else tensor

    weights = None if batch.weights is None else narrowed(batch.weights)
    return Batch(tree_map(narrowed, batch.inputs), tree_map(narrowed, batch.targets), weights, batch.position)


def _as_arrays(item: Any) -> Any:
    # Lists of numbers inside an item are vectors; torch's collate would take them apart, column by column.
    if isinstance(item, Mapping):
        return {key: _as_arrays(value) for key, value in item.items()}
    if isinstance(item, tuple):
        return tuple(_as_arrays(value) for value in item)
    if isinstance(item, list) and item and all(isinstance(value, (int, float)) for value in item):
        return torch.tensor(item)
    return item


def _empty(what: str) -> DataError:
    return DataError(f"{what} holds no examples", expected="at least one example", fix="Check what the data is made from")


def _check_lengths(leaves: list[Tensor]) -> None:
    if not leaves or any(leaf.dim() == 0 for leaf in leaves):
        raise DataError(
            "the data holds no tensors with a first dimension",
            expected="tensors whose first dimension counts the examples",
            fix="Give tensors or arrays, (N, ...)",
        )
    lengths = [int(leaf.shape[0]) for leaf in leaves]
    if len(set(lengths)) > 1:
        raise DataError(
            f"inputs, targets and weights have different numbers of examples: {', '.join(map(str, lengths))}",
            expected="the same first dimension everywhere",
            fix="Cut them alike, or check which rows were dropped",
        )
    if lengths[0] == 0:
        raise _empty("the data")
