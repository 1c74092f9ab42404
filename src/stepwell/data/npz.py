"""The data source "npz": arrays in an .npz archive."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Literal

from stepwell.core.errors import DataError, nearest
from stepwell.data.arrays import flat_target, guess_layout, loaded_pair, require_same_length, shaped_as, weights_in
from stepwell.data.limits import refuse_growth
from stepwell.data.registry import DataSource, LoadedData, existing, refuse_split, refuse_task, source
from stepwell.data.split import SplitSpec

__all__ = ["Npz", "array_in", "open_npz"]


@source("npz")
class Npz(DataSource):
    """Arrays of an .npz file (of numbers; pickled objects are never loaded).

    Args:
        path: the file, relative to the job file.
        inputs: key of the inputs, (N, ...).
        targets: key of the targets, (N,), or (N, K) for task multilabel and for a regression with several targets.
        weights: key of sample weights, (N,), >= 0; they weigh in evaluations too.
        layout: "vector" (N, D), "image" (N, H, W), (N, C, H, W) or (N, H, W, C), "series" (N, T, D); "auto" tells by
            the number of dimensions, and bytes (N, H, W) as images.
        scale: "standard" subtracts the training part's mean and divides by its spread; "none" leaves values (bytes
            are divided by 255).
    """

    path: str
    inputs: str = "inputs"
    targets: str = "targets"
    weights: str | None = None
    layout: Literal["auto", "vector", "image", "series"] = "auto"
    scale: Literal["standard", "none"] = "standard"

    def load(self, *, base: Path, split: SplitSpec, task: str, seed: int) -> LoadedData:
        """Read, split and prepare; see `DataSource.load`."""
        refuse_task("npz", task, "classification", "binary", "multilabel", "regression")
        split = split.filled(validation=0.2, test=0.2, by="random")
        refuse_split("npz", split, "random", "stratified", "time")
        path = existing(self.path, base=base)
        arrays = open_npz(path)
        values, targets = array_in(arrays, self.inputs, path), flat_target(array_in(arrays, self.targets, path))
        require_same_length(values, targets, (self.inputs, self.targets), where=path.name)
        weights = None
        if self.weights is not None:
            weights = weights_in(array_in(arrays, self.weights, path), values, self.weights, where=path.name)
        layout = self.layout if self.layout != "auto" else guess_layout(values)
        shaped = shaped_as(values, layout)
        settings: dict[str, Any] = {"split": split, "task": task, "seed": seed, "files": [path]}
        return loaded_pair(self, shaped, targets, weights, form="npz", layout=layout, **settings)


def open_npz(path: Path) -> Any:
    """An .npz file's arrays, read when asked for.

    Raises:
        DataError: it isn't such a file, names an array twice, or would unpack to far more than its size lets expect.
    """
    import numpy as np

    try:
        arrays = np.load(path, allow_pickle=False)
    except Exception as error:  # whatever a damaged or hostile file makes of the reader
        raise DataError(
            f"{path.name} can't be read as .npz ({_reason(error)})",
            expected="a file written by numpy.savez with arrays of numbers",
            fix="Write it again with numpy.savez(path, inputs=..., targets=...)",
            where=path.name,
        ) from error
    if not isinstance(arrays, np.ndarray):
        members = arrays.zip.infolist()  # type: ignore[attr-defined]
        names = [member.filename for member in members]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(
                f"{path.name} holds {twice!r} twice", expected="each array once", fix="Write it again", where=path.name
            )
        total = sum(member.file_size for member in members)
        refuse_growth(path, total, fix="Write it again with numpy.savez, which doesn't compress")
    else:
        raise DataError(
            f"{path.name} holds one array",
            expected="an .npz file with inputs and targets",
            fix="Write it with numpy.savez",
            where=path.name,
        )
    return arrays


def array_in(arrays: Any, key: str, path: Path) -> Any:
    if key not in arrays:
        raise DataError(
            f"{path.name} has no array {key!r}", expected="the key of an array", fix=nearest(key, list(arrays)), where=path.name
        )
    try:
        _check_header(arrays, key)
    except Exception as error:  # whatever a damaged or hostile header makes of the reader, of its nesting too
        raise _no_numbers(key, path, error) from error
    try:
        array = arrays[key]
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged or hostile member makes of the reader
        raise _no_numbers(key, path, error) from error
    if array.ndim == 0 or array.size == 0:
        raise DataError(f"array {key!r} is empty", expected="one entry per example", fix="Check how it was made", where=path.name)
    return array


def _no_numbers(key: str, path: Path, error: Exception) -> DataError:
    return DataError(
        f"array {key!r} of {path.name} can't be read ({_reason(error)})",
        expected="numbers, or text for classes",
        fix="Save it as an array of numbers",
        where=path.name,
    )


def _check_header(arrays: Any, key: str) -> None:
    """Refuse what numpy would make room for before it looks: an array of other values, or larger than its member."""
    from numpy.lib import format as npy

    name = key if key in arrays.zip.namelist() else f"{key}.npy"
    with arrays.zip.open(name) as member:
        version = npy.read_magic(member)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"version {version} of the format has names that are no ASCII")
        shape, _, dtype = read(member)
        if dtype.hasobject:
            raise ValueError("it holds pickled objects")
        if dtype.kind not in "biufUS":
            raise ValueError(f"it holds values of type {str(dtype)[:40]}")
        room = arrays.zip.getinfo(name).file_size - member.tell()
        if min(shape, default=0) < 0 or math.prod(shape) * max(dtype.itemsize, 1) > room:
            raise ValueError(f"its header says shape {str(shape)[:60]}, which is more than it holds")


def _reason(error: Exception) -> str:
    # Of a header that is no plain value, Python tells the node of its tree and where that lies in memory.
    told = (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r": <.*", "", told)[:200]
