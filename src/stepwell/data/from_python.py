"""What people hold in Python (tensors, arrays, frames, Datasets) as Examples."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate
from torch.utils.data import Subset as TorchSubset

from stepwell.core.batch import Tree
from stepwell.core.errors import DataError
from stepwell.data.checks import require_finite, require_finite_tree
from stepwell.data.examples import Examples, MapExamples, Subset, TensorExamples

__all__ = ["as_tensor", "examples_of"]

logger = logging.getLogger("stepwell.data")


def examples_of(
    data: Any, *, targets: Any = None, weights: Any = None, dtype: torch.dtype = torch.float32
) -> Examples | IterableDataset[Any]:
    """Examples of anything that data is held in.

    Args:
        data: tensor, numpy array (a memory-mapped one stays on disk), pandas or polars frame, dict of inputs, a tuple
            (inputs, targets) or (inputs, targets, weights), map-style or iterable Dataset, DataLoader, or Examples.
        targets: where they are not in `data`: tensor, array, Series or list.
        weights: one per example, likewise.
        dtype: what float64 becomes; give torch.float64 to keep it. Tensors are never changed.

    Returns:
        Examples; an iterable Dataset is returned as it is.

    Raises:
        DataError: different lengths, no examples, text where numbers should be, NaN or Inf; weights beside data that
            has its own, or that is read sample by sample.

    >>> examples = examples_of(([[1.0, 2.0], [3.0, 4.0]], [0, 1]))
    >>> len(examples), examples.batch(torch.tensor([1])).targets.tolist()
    (2, [1])
    """
    if weights is not None:
        _require_bare(data)
    if isinstance(data, DataLoader):
        return _of_loader(data, dtype)
    if isinstance(data, TorchSubset):
        # What random_split gives: the part of a TensorDataset is read as fast as the whole.
        whole, index = examples_of(data.dataset, dtype=dtype), torch.as_tensor(list(data.indices), dtype=torch.int64)
        assert isinstance(whole, Examples)
        return whole.select(index) if isinstance(whole, TensorExamples) and len(index) else Subset(whole, index)
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, IterableDataset) or (isinstance(data, Examples) and not isinstance(data, Dataset)):
        return data
    if isinstance(data, tuple) and len(data) in (1, 2, 3):
        own = [*data, None, None][:3]  # what the tuple lacks may be given beside it
        data, targets, weights = (part if part is not None else beside for part, beside in zip(own, (None, targets, weights)))
    elif _is_dataset(data):
        return MapExamples(data, dtype=dtype)
    elif isinstance(data, tuple):
        raise DataError(
            f"data is a tuple of {len(data)}",
            expected="(inputs, targets) or (inputs, targets, weights)",
            fix="For a model with several inputs, put them in a dict or a list: ({'a': a, 'b': b}, targets)",
        )
    inputs = _as_tree(data, "inputs", dtype)
    goal = None if targets is None else _as_tree(targets, "targets", dtype, role="targets")
    require_finite_tree(goal, "targets")
    require_finite_tree(inputs, "inputs")
    share = None if weights is None else _shares(weights, dtype)
    return TensorExamples(inputs, goal, share, dtype=dtype)


def _shares(weights: Any, dtype: torch.dtype) -> Tensor:
    share = as_tensor(weights, "weights", dtype=dtype)
    require_finite(share, "weights")
    if bool((share < 0).any()):
        raise DataError("weights hold a negative number", expected="weights of 0 or more", fix="Check how weights are computed")
    if not bool((share > 0).any()):
        raise DataError("all weights are 0", expected="weights above 0", fix="Check how weights are computed")
    return share if share.is_floating_point() else share.to(dtype)


def _require_bare(data: Any) -> None:
    own = isinstance(data, tuple) and len(data) == 3 and data[2] is not None
    if (
        own
        or isinstance(data, (DataLoader, IterableDataset, Examples))
        or (_is_dataset(data) and not isinstance(data, TensorDataset))
    ):
        raise DataError(
            "weights are given twice" if own else f"weights are given beside a {type(data).__name__}",
            expected="weights beside (inputs, targets) of tensors, arrays or frames",
            fix="Leave one of them out" if own else "Let each item of the dataset be (inputs, targets, weight)",
        )


def as_tensor(value: Any, what: str, *, dtype: torch.dtype = torch.float32, role: str = "inputs") -> Tensor:
    """A tensor of an array, a Series, a frame or a list, without a copy where none is needed.

    Floats of 64 bits become `dtype` (memory-mapped ones when they are read), whole numbers int64 (bytes stay bytes
    as inputs), truth values 0.0 and 1.0. Frames of inputs become floats.

    Args:
        value: what to turn into a tensor.
        what: how messages call it.
        dtype: for 64-bit floats.
        role: "inputs" or "targets".

    Raises:
        DataError: it holds text or objects, or a bad value in a named column.
    """
    import numpy as np

    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad else value  # a graph behind the data could be walked back only once
    columns: list[str] | None = None
    if hasattr(value, "columns") and hasattr(value, "to_numpy"):
        columns = [str(name) for name in value.columns]
        value = _frame_array(value, what)
        if role == "inputs" and value.dtype.kind in "iub":
            value = value.astype("float64")
        elif role == "targets" and value.shape[1] == 1:
            value = value[:, 0]
    elif hasattr(value, "to_numpy"):
        value = value.to_numpy()
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.dtype.kind == "O":
        array = _numbers(array, what)
    if array.dtype.kind not in "biuf":
        raise _not_numbers(f"{what} hold values of type {array.dtype}")
    tensor = _of_array(array, dtype, role)
    if columns is not None:
        require_finite(tensor, what, columns=columns)
    return tensor


def _of_array(array: Any, dtype: torch.dtype, role: str) -> Tensor:
    import numpy as np

    on_disk = isinstance(array, np.memmap)
    if array.dtype.kind == "b":
        return torch.from_numpy(array.astype("float32")).to(dtype)
    if array.dtype.kind in "iu" and not on_disk and not (array.dtype == np.uint8 and role == "inputs"):
        array = array.astype("int64", copy=False)
    if array.dtype.byteorder not in "=|" or any(stride < 0 for stride in array.strides):
        array = np.array(array, dtype=array.dtype.newbyteorder("="))
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype("float64")
    with warnings.catch_warnings():
        # A read-only array gives a tensor that must not be written to; nothing here writes to data.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensor = torch.from_numpy(array)
    return tensor.to(dtype) if tensor.dtype == torch.float64 and not on_disk else tensor


def _as_tree(value: Any, what: str, dtype: torch.dtype, role: str = "inputs") -> Tree:
    if isinstance(value, Mapping):
        return {str(key): _as_tree(part, f"{what}[{key!r}]", dtype, role) for key, part in value.items()}
    if isinstance(value, (list, tuple)) and value and all(_is_array(part) for part in value):
        parts = [_as_tree(part, f"{what}[{place}]", dtype, role) for place, part in enumerate(value)]
        return tuple(parts) if isinstance(value, tuple) else parts
    return as_tensor(value, what, dtype=dtype, role=role)


def _is_array(value: Any) -> bool:
    if isinstance(value, (Mapping, tuple)):  # a tree of arrays, such as one of a pair of inputs that are dicts
        parts = list(value.values()) if isinstance(value, Mapping) else list(value)
        return bool(parts) and all(_is_array(part) for part in parts)
    return hasattr(value, "shape") and len(value.shape) > 0


def _is_dataset(data: Any) -> bool:
    if isinstance(data, Dataset):
        return True
    arraylike = isinstance(data, (Tensor, Mapping, str, list)) or hasattr(data, "to_numpy") or hasattr(data, "__array__")
    return not arraylike and not isinstance(data, tuple) and hasattr(data, "__getitem__") and hasattr(data, "__len__")


def _of_loader(loader: DataLoader[Any], dtype: torch.dtype) -> Examples | IterableDataset[Any]:
    dataset = loader.dataset
    kept = "" if loader.collate_fn is default_collate else " with its collate_fn"
    logger.info(
        "data is a DataLoader: its dataset is used%s; batch size %s, its sampler and its workers are not: "
        "batch_size belongs to the recipe, and the order of examples is a function of (seed, epoch)",
        kept,
        loader.batch_size,
    )
    if isinstance(dataset, IterableDataset):
        return dataset
    if not kept:
        return examples_of(dataset, dtype=dtype)
    return MapExamples(dataset, collate=loader.collate_fn, dtype=dtype)


def _frame_array(frame: Any, what: str) -> Any:
    import numpy as np

    for name in frame.columns:
        kind = str(frame[name].dtype).lower()
        if not any(word in kind for word in ("int", "float", "bool", "double", "decimal")):
            raise _not_numbers(f"{what} column {str(name)!r} holds values of type {kind}")
    array = np.asarray(frame.to_numpy())
    return _numbers(array, what) if array.dtype.kind == "O" else array


def _numbers(array: Any, what: str) -> Any:
    # Python numbers, or a nullable column whose missing values are None or pandas' NA, come as objects.
    import numpy as np

    try:
        return np.asarray([[_number(x) for x in row] for row in array] if array.ndim == 2 else [_number(x) for x in array])
    except (TypeError, ValueError) as error:
        first = next((value for value in array.ravel() if isinstance(value, str)), array.ravel()[0])
        raise _not_numbers(f"{what} hold {first!r}") from error


def _number(value: Any) -> Any:
    if isinstance(value, str):
        raise TypeError(value)
    missing = value is None or type(value).__name__ == "NAType"
    return float("nan") if missing else value if isinstance(value, (bool, int)) else float(value)


def _not_numbers(what: str) -> DataError:
    return DataError(
        what,
        expected="numbers",
        fix="Turn text and dates into numbers first, or read the file with the data source 'table', which encodes categories",
    )
