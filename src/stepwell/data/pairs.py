"""The data sources "pairs" and "triplets": groups of elements for a model that learns an embedding, from .npz files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

from stepwell.core.check import require
from stepwell.core.errors import DataError
from stepwell.core.signature import Signature
from stepwell.data.arrays import ArrayReader, fit_reader, flat_target, guess_layout, loaded_arrays, require_same_length, shaped_as
from stepwell.data.examples import Examples, TensorExamples
from stepwell.data.npz import array_in, open_npz
from stepwell.data.preparation import Preparation, WithTargets
from stepwell.data.registry import DataSource, LoadedData, existing, fingerprint_of, refuse_split, refuse_task, source
from stepwell.data.split import SplitSpec, split_indices
from stepwell.data.target_kinds import EmbeddingTarget
from stepwell.data.targets import Target

__all__ = ["GroupReader", "Pairs", "Triplets", "check_embedding"]

Layout = Literal["auto", "vector", "image", "series"]


@dataclass(frozen=True)
class GroupReader:
    """How an .npz file of pairs or triplets becomes inputs: a tuple of arrays, each read alike.

    Args:
        inner: how one array is read.
        members: keys of the arrays, two or three.
        same: key of the pairs' targets; empty for triplets.
    """

    inner: ArrayReader
    members: tuple[str, ...]
    same: str = ""

    kind = "groups"

    def read(self, data: Any, *, target: Target, with_targets: WithTargets) -> Examples:
        """Examples of an .npz file with the same keys; one that only holds "inputs" gives single elements."""
        path = Path(data)
        arrays = open_npz(path)
        if with_targets == "ignored" and self.members[0] not in arrays and "inputs" in arrays:
            return TensorExamples(self._encoded(arrays, "inputs", path))
        inputs = tuple(self._encoded(arrays, key, path) for key in self.members)
        for key, part in zip(self.members[1:], inputs[1:]):
            require_same_length(inputs[0], part, (self.members[0], key), where=path.name)
        wanted = self.same and with_targets != "ignored" and (with_targets == "required" or self.same in arrays)
        targets = target.encode(flat_target(array_in(arrays, self.same, path)), part=path.name) if wanted else None
        return TensorExamples(inputs, targets)

    def _encoded(self, arrays: Any, key: str, path: Path) -> Tensor:
        shaped = shaped_as(array_in(arrays, key, path), self.inner.layout)
        if tuple(shaped.shape[1:]) != self.inner.shape:
            raise DataError(
                f"samples of {key!r} have shape {tuple(shaped.shape[1:])}",
                expected=f"{self.inner.shape}, as in training",
                fix="Bring the new data into the training data's shape",
                where=path.name,
            )
        return self.inner.encode(shaped, where=path.name)

    def signature(self, num_outputs: int) -> Signature:
        return self.inner.signature(num_outputs)

    def to_dict(self) -> dict[str, Any]:
        return {"inner": self.inner.to_dict(), "members": list(self.members), "same": self.same}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> GroupReader:
        return GroupReader(ArrayReader.from_dict(value["inner"]), tuple(value["members"]), value["same"])


class _Groups(DataSource):
    # What both sources share; the fields stand in the subclasses, in the order in which a job shows them.
    task: ClassVar[str]
    path: str
    layout: Layout
    scale: Literal["standard", "none"]
    embedding: int

    @property
    def members(self) -> tuple[str, ...]:
        raise AssertionError("the subclass says")

    @property
    def same_key(self) -> str:
        return ""

    def load(self, *, base: Path, split: SplitSpec, task: str, seed: int) -> LoadedData:
        """Read, split and prepare; see `DataSource.load`."""
        name = self.source_name
        refuse_task(name, task, self.task)
        check_embedding(self.embedding)
        split = split.filled(validation=0.2, test=0.2, by="random")
        refuse_split(name, split, "random", "time")
        path = existing(self.path, base=base)
        arrays = open_npz(path)
        values = [array_in(arrays, key, path) for key in self.members]
        for key, array in zip(self.members[1:], values[1:]):
            require_same_length(values[0], array, (self.members[0], key), where=path.name)
        layout = self.layout if self.layout != "auto" else guess_layout(values[0])
        shaped = [shaped_as(array, layout) for array in values]
        target = EmbeddingTarget(task=self.task, width=self.embedding)
        same = None
        if self.same_key:
            labels = flat_target(array_in(arrays, self.same_key, path))
            require_same_length(values[0], labels, (self.members[0], self.same_key), where=path.name)
            same = target.encode(labels, part=path.name)
        parts = split_indices(len(values[0]), split, seed=seed)
        train = parts.train.numpy()
        inner = _fitted(shaped, train, layout, standardise=self.scale == "standard", where=path.name)
        reader = GroupReader(inner, self.members, self.same_key)

        def examples(index: Tensor, part: str) -> Examples | None:
            if not len(index):
                return None
            rows = index.numpy()
            inputs = tuple(inner.encode(array[rows], where=path.name) for array in shaped)
            return TensorExamples(inputs, None if same is None else same[index])

        preparation = Preparation(source=name, reader=reader, target=target)
        cut = (parts.train, parts.validation, parts.test)
        return loaded_arrays(name, examples, cut, preparation, fingerprint_of([path]))


@source("pairs")
class Pairs(_Groups):
    """Pairs of examples in an .npz file, labelled 1 (of the same kind) or 0, for task pairs.

    The model gives an embedding of each element; objective `contrastive` draws those of the same kind together.

    Args:
        path: the file, relative to the job file.
        left: key of the first elements, (N, ...).
        right: key of the second elements, shaped alike.
        same: key of the targets, (N,): 1 for the same kind, 0 for different ones.
        embedding: width of the embedding, in numbers, >= 1.
        layout: of one element, see the source npz.
        scale: "standard" subtracts the mean of the training part's elements and divides by their spread; "none" leaves
            values (bytes are divided by 255).
    """

    path: str
    left: str = "left"
    right: str = "right"
    same: str = "same"
    embedding: int = 16
    layout: Layout = "auto"
    scale: Literal["standard", "none"] = "standard"

    task = "pairs"

    @property
    def members(self) -> tuple[str, ...]:
        return (self.left, self.right)

    @property
    def same_key(self) -> str:
        return self.same


@source("triplets")
class Triplets(_Groups):
    """Triplets of examples in an .npz file, for task triplets: an anchor, one of its kind, and one of another kind.

    The model gives an embedding of each element; objective `triplet` wants the anchor nearer to its own kind.

    Args:
        path: the file, relative to the job file.
        anchor: key of the anchors, (N, ...).
        positive: key of the elements of the anchors' kind, shaped alike.
        negative: key of the elements of another kind, shaped alike.
        embedding: width of the embedding, in numbers, >= 1.
        layout: of one element, see the source npz.
        scale: "standard" subtracts the mean of the training part's elements and divides by their spread; "none" leaves
            values (bytes are divided by 255).
    """

    path: str
    anchor: str = "anchor"
    positive: str = "positive"
    negative: str = "negative"
    embedding: int = 16
    layout: Layout = "auto"
    scale: Literal["standard", "none"] = "standard"

    task = "triplets"

    @property
    def members(self) -> tuple[str, ...]:
        return (self.anchor, self.positive, self.negative)


def check_embedding(width: int) -> None:
    """Refuse an embedding that is no width."""
    require(width >= 1, "data.embedding", width, "a whole number above 0", "Write for example embedding: 16")


def _fitted(shaped: list[Any], train: Any, layout: Any, *, standardise: bool, where: str) -> ArrayReader:
    import numpy as np

    if len({array.shape[1:] for array in shaped}) > 1:
        raise DataError(
            f"the elements have shapes {', '.join(str(array.shape[1:]) for array in shaped)}",
            expected="one shape",
            fix="Bring them into one shape: one model embeds all of them",
            where=where,
        )
    elements = np.concatenate([array[train] for array in shaped])
    if not np.isfinite(elements.astype("float32")).all():
        raise DataError("the elements hold NaN or infinite values", expected="finite numbers", fix="Remove them", where=where)
    return fit_reader(elements, form="npz", layout=layout, standardise=standardise)
