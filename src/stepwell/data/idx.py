"""The data source "idx": the files that MNIST and Fashion-MNIST come in."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stepwell.core.errors import DataError
from stepwell.core.randomness import derive
from stepwell.data.arrays import fit_reader, loaded_arrays, shaped_as
from stepwell.data.examples import Examples, TensorExamples
from stepwell.data.limits import unpacked
from stepwell.data.preparation import Preparation
from stepwell.data.registry import DataSource, LoadedData, existing, fingerprint_of, refuse_split, refuse_task, source
from stepwell.data.split import SplitSpec, split_indices
from stepwell.data.targets import TargetEncoder

__all__ = ["IDX_FILES", "Idx", "idx_pair", "read_idx"]

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@source("idx")
class Idx(DataSource):
    """Images in idx files, as MNIST, Fashion-MNIST and Debian's dataset-fashion-mnist have them.

    The files' own test images are the test part; validation is taken from the training images. Pixels are scaled to
    [0, 1], then standardised by the training part's mean and spread.

    Args:
        path: folder of {train,t10k}-images-idx3-ubyte and -labels-idx1-ubyte, each plain or .gz.
        limit: use only this many training images, the first of a seeded choice; all where None.
    """

    path: str
    limit: int | None = None

    def load(self, *, base: Path, split: SplitSpec, task: str, seed: int) -> LoadedData:
        """Read, split and prepare; see `DataSource.load`."""
        refuse_task("idx", task, "classification")
        split = split.filled(validation=0.1, test=0.0, by="random")
        refuse_split("idx", split, "random", "stratified")
        folder = existing(self.path, base=base, what="folder of idx files")
        files = [idx_file(folder, name) for name in IDX_FILES]
        images, labels, test_images, test_labels = (read_idx(path) for path in files)
        _same_length(images, labels, files[1])
        _same_length(test_images, test_labels, files[3])
        inner = SplitSpec(validation=split.validation, test=0.0, by=split.by)
        parts = split_indices(len(images), inner, targets=labels, seed=seed)
        train = parts.train if self.limit is None else _some(parts.train, self.limit, seed)
        shaped = shaped_as(images, "image")
        reader = fit_reader(shaped[train.numpy()], form="idx", layout="image", standardise=True)
        target = TargetEncoder.fit(labels[train.numpy()], task=task, names=("label",))
        preparation = Preparation(source="idx", reader=reader, target=target)

        def examples(index: Tensor | None, part: str) -> Examples | None:
            if index is None:
                return TensorExamples(
                    reader.encode(shaped_as(test_images, "image"), where=files[2].name), target.encode(test_labels, part=part)
                )
            if not len(index):
                return None
            rows = index.numpy()
            return TensorExamples(reader.encode(shaped[rows], where=files[0].name), target.encode(labels[rows], part=part))

        return loaded_arrays("idx", examples, (train, parts.validation, None), preparation, fingerprint_of(files))


def read_idx(path: Path) -> Any:
    """An idx file of unsigned bytes as an array: magic 0x000008 and the number of dimensions, sizes, then data.

    Raises:
        DataError: another format, or fewer bytes than it promises.
    """
    import numpy as np

    try:
        content = unpacked(path)
    except (OSError, EOFError, zlib.error) as error:
        raise _not_idx(path, str(error)) from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise _not_idx(path, "no idx header of unsigned bytes")
    num_dims = content[3]
    if not 1 <= num_dims <= 8:
        raise _not_idx(path, f"it has {num_dims} dimensions")
    start = 4 + 4 * num_dims
    shape = tuple(int.from_bytes(content[4 + 4 * k : 8 + 4 * k], "big") for k in range(num_dims))
    if not math.prod(shape):
        raise _not_idx(path, f"its sizes are {', '.join(map(str, shape))}")
    if len(content) - start != math.prod(shape) or len(content) < start:
        raise _not_idx(path, f"the header promises {math.prod(shape)} bytes, there are {max(len(content) - start, 0)}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _not_idx(path: Path, why: str) -> DataError:
    return DataError(
        f"{path.name} is no whole idx file ({why})",
        expected="an idx file of unsigned bytes, plain or .gz",
        fix="Copy the file again",
        where=path.name,
    )


def idx_file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(
        f"{folder} has no {name} or {name}.gz",
        expected="the four files " + ", ".join(IDX_FILES),
        fix="Check the folder in data.path",
    )


def idx_pair(path: Path) -> tuple[Any, Any]:
    """Images and labels of a folder's test files, or of an images file with its labels beside it."""
    if path.is_dir():
        return read_idx(idx_file(path, IDX_FILES[2])), read_idx(idx_file(path, IDX_FILES[3]))
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = read_idx(beside) if beside != path and beside.is_file() else None
    return read_idx(path), labels


def _same_length(images: Any, labels: Any, path: Path) -> None:
    if len(images) != len(labels):
        raise DataError(
            f"{path.name} has {len(labels)} labels for {len(images)} images",
            expected="one label per image",
            fix="Copy the files again",
        )


def _some(index: Tensor, limit: int, seed: int) -> Tensor:
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(derive(seed, "limit")))
    return index[order[:limit]].sort().values
