"""The data source "npy": arrays in .npy files that stay on disk, for data larger than memory."""

from __future__ import annotations

import copy
import mmap
from pathlib import Path
from typing import Any, Literal

from stepwell.core.errors import DataError
from stepwell.data.arrays import ArrayKind, flat_target, guess_layout, loaded_pair, require_same_length, shaped_as, weights_in
from stepwell.data.preparation import WithTargets
from stepwell.data.registry import DataSource, LoadedData, existing, refuse_split, refuse_task, source
from stepwell.data.split import SplitSpec

__all__ = ["MappedRows", "Npy", "npy_pair", "npy_weights", "open_npy"]

# So much of a file may count as the process's memory while a pass goes over it.
MAPPED_BYTES = 64 << 20


@source("npy")
class Npy(DataSource):
    """Arrays of numbers in two .npy files that may be larger than memory: each batch reads its rows from disk.

    Only the targets and the numbers of the examples are held in memory. The training part's mean and spread are
    computed in passes over the file, and applied to each batch; pickled objects are never loaded.

    Args:
        path: the folder, relative to the job file.
        inputs: file of the inputs, (N, ...).
        targets: file of the targets, (N,), or (N, K) for task multilabel and for a regression with several targets.
        weights: file of sample weights, (N,), >= 0; they weigh in evaluations too.
        layout: "vector" (N, D), "image" (N, H, W), (N, C, H, W) or (N, H, W, C), "series" (N, T, D); "auto" tells by
            the number of dimensions, and bytes (N, H, W) as images.
        scale: "standard" subtracts the training part's mean and divides by its spread; "none" leaves values (bytes
            are divided by 255).
    """

    path: str
    inputs: str = "inputs.npy"
    targets: str = "targets.npy"
    weights: str | None = None
    layout: Literal["auto", "vector", "image", "series"] = "auto"
    scale: Literal["standard", "none"] = "standard"

    def load(self, *, base: Path, split: SplitSpec, task: str, seed: int) -> LoadedData:
        """Map, split and prepare; see `DataSource.load`."""
        refuse_task("npy", task, "classification", "binary", "multilabel", "regression")
        split = split.filled(validation=0.2, test=0.2, by="random")
        refuse_split("npy", split, "random", "stratified", "time")
        folder = existing(self.path, base=base, what="folder of .npy files")
        values, targets = npy_pair(folder, self.inputs, self.targets, with_targets="required")
        targets = flat_target(targets)
        layout = self.layout if self.layout != "auto" else guess_layout(values)
        weights = None
        if self.weights is not None:
            weights = weights_in(npy_weights(folder, self.weights), values, self.weights, where=folder.name)
        return loaded_pair(
            self,
            MappedRows(values, layout),
            targets,
            weights,
            form="npy",
            layout=layout,
            split=split,
            task=task,
            seed=seed,
            files=[folder / name for name in (self.inputs, self.targets, self.weights) if name is not None],
        )


class MappedRows:
    """Rows of a memory map, shaped as a layout wants them: an index chooses, `numpy.asarray` reads.

    Args:
        values: the memory map, (N, ...).
        layout: see `stepwell.data.arrays.shaped_as`.
    """

    def __init__(self, values: Any, layout: ArrayKind) -> None:
        import numpy as np

        self._pages, self._layout = _Pages(values), layout
        self._index: Any = np.arange(len(values))
        self._sample: tuple[int, ...] = shaped_as(values[:1], layout).shape[1:]
        self.dtype = values.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._index), *self._sample)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, rows: Any) -> MappedRows:
        """Some of the rows, by a slice or an array of places; nothing is read."""
        chosen = copy.copy(self)
        chosen._index = self._index[rows]
        return chosen

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """The rows, read into memory."""
        read = shaped_as(self._pages.read(self._index), self._layout)
        return read if dtype is None else read.astype(dtype, copy=False)


class _Pages:
    # A memory map that hands its pages back behind a pass over the file: until the system needs them they would count as
    # the process's own. Those of scattered rows stay mapped, for mapping them again costs ten times their reading.
    def __init__(self, values: Any) -> None:
        import numpy as np

        self._map, self._values = values.base, np.asarray(values)
        self._row_bytes = values.nbytes // len(values)
        self._passed = 0

    def read(self, index: Any) -> Any:
        """A copy of some rows, in the order of `index`."""
        rows = self._values[index]
        span = int(index[-1]) - int(index[0]) + 1 if len(index) else 0
        if 0 < span <= 16 * len(index):
            self._passed += span * self._row_bytes
        if self._passed > MAPPED_BYTES and hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._passed = 0
        return rows


def npy_pair(folder: Path, inputs: str, targets: str, *, with_targets: WithTargets) -> tuple[Any, Any | None]:
    """A folder's inputs as a memory map, and its targets in memory, or None where it has none and needs none.

    Raises:
        DataError: a file is missing, is no .npy file of numbers, is empty, or their numbers of examples differ.
    """
    import numpy as np

    if not folder.is_dir():
        raise DataError(
            f"{folder.name} is a file",
            expected=f"the folder that holds {inputs}",
            fix="Name the folder; for an .npz file use source: npz",
            where=folder.name,
        )
    values = open_npy(existing(inputs, base=folder, what="file of inputs"), kinds="biuf")
    if with_targets == "ignored" or (with_targets == "optional" and not (folder / targets).exists()):
        return values, None
    labels = np.array(open_npy(existing(targets, base=folder, what="file of targets"), kinds="biufUS"))
    require_same_length(values, labels, (inputs, targets), where=folder.name)
    return values, labels


def npy_weights(folder: Path, name: str) -> Any:
    """A folder's sample weights, in memory."""
    import numpy as np

    return np.array(open_npy(existing(name, base=folder, what="file of weights"), kinds="biuf"))


def open_npy(path: Path, *, kinds: str) -> Any:
    """The array of an .npy file, memory-mapped.

    Args:
        path: the file.
        kinds: the kinds of values it may hold, letters of `numpy.dtype.kind`.

    Raises:
        DataError: it isn't a whole .npy file, or holds objects, other kinds of values or nothing.
    """
    import numpy as np

    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # whatever a damaged or hostile file makes of the reader
        objects = "Python objects" in str(error)
        raise DataError(
            f"{path.name} holds pickled objects" if objects else f"{path.name} is no whole .npy file",
            expected="one array of numbers, written by numpy.save",
            fix="Save it as an array of numbers" if objects else "Write it again with numpy.save(path, array)",
            where=path.name,
        ) from error
    if not isinstance(array, np.memmap):
        raise DataError(
            f"{path.name} is an .npz archive", expected="one array, written by numpy.save", fix="Use source: npz", where=path.name
        )
    if array.dtype.kind not in kinds or not array.dtype.itemsize:
        raise DataError(
            f"{path.name} holds values of type {array.dtype}",
            expected="numbers" if "U" not in kinds else "numbers or text",
            fix="Save it as an array of numbers",
            where=path.name,
        )
    if array.ndim == 0 or array.size == 0:
        raise DataError(f"{path.name} is empty", expected="one entry per example", fix="Check how it was made", where=path.name)
    return array
