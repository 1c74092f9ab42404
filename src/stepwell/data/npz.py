"""The data source "npz": arrays in an .npz archive."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Literal

from stepwell.core.errors import DataError, nearest
from stepwell.data.arrays import flat_target, guess_layout, loaded_pair, require_same_length, shaped_as, weights_in
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
    import numpy as np

    try:
        arrays = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path.name} can't be read as .npz ({str(error).splitlines()[0]})",
            expected="a file written by numpy.savez with arrays of numbers",
            fix="Write it again with numpy.savez(path, inputs=..., targets=...)",
            where=path.name,
        ) from error
    if isinstance(arrays, np.ndarray):
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
        array = arrays[key]
    except ValueError as error:
        raise DataError(
            f"array {key!r} of {path.name} holds pickled objects",
            expected="numbers",
            fix="Save it as an array of numbers",
            where=path.name,
        ) from error
    if array.ndim == 0 or len(array) == 0:
        raise DataError(f"array {key!r} is empty", expected="one entry per example", fix="Check how it was made", where=path.name)
    return array
