"""The data sources "pairs_of" and "triplets_of": groups drawn from the classes of another source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.check import require
from stepwell.core.errors import DataError, JobError
from stepwell.core.randomness import derive
from stepwell.core.signature import Signature
from stepwell.data.examples import Examples
from stepwell.data.pairs import check_embedding
from stepwell.data.preparation import InputReader, Preparation, WithTargets
from stepwell.data.registry import SOURCES, DataSource, LoadedData, refuse_task, source
from stepwell.data.sampling import column_of
from stepwell.data.split import SplitSpec
from stepwell.data.target_kinds import EmbeddingTarget, target_from_dict
from stepwell.data.targets import Target

__all__ = ["DrawnReader", "GroupExamples", "PairsOf", "TripletsOf", "drawn_pairs", "drawn_triplets"]


@final
class GroupExamples:
    """Groups of some examples' inputs: a tuple of two or three.

    Args:
        examples: what the elements are taken from.
        places: which of them, (N, 2) or (N, 3) int64.
        targets: one per group, (N,), or None.

    >>> from stepwell.data.examples import TensorExamples
    >>> groups = GroupExamples(TensorExamples(torch.arange(4.0)), torch.tensor([[0, 1], [2, 3]]), torch.tensor([1, 0]))
    >>> batch = groups.batch(torch.tensor([1]))
    >>> batch.inputs, batch.targets
    ((tensor([2.]), tensor([3.])), tensor([0]))
    """

    work_per_sample = False

    def __init__(self, examples: Examples, places: Tensor, targets: Tensor | None = None) -> None:
        self.elements, self.places, self.targets = examples, places, targets

    def __len__(self) -> int:
        return len(self.places)

    def batch(self, index: Tensor) -> Batch:
        index = index.cpu()
        places = self.places.index_select(0, index)
        inputs = tuple(self.elements.batch(places[:, column]).inputs for column in range(places.shape[1]))
        return Batch(inputs, None if self.targets is None else self.targets.index_select(0, index))


def drawn_pairs(classes: Tensor, *, num: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pairs of examples, every second one of the same class.

    Args:
        classes: of each example, (N,) int64.
        num: how many pairs.
        seed: a derived seed; the k-th pair is a function of it and k.

    Returns:
        Places (num, 2) and targets (num,): 1 for the same class, 0 for different ones.

    Raises:
        DataError: one class only, or none with two examples.

    >>> places, same = drawn_pairs(torch.tensor([0, 0, 1, 1]), num=4, seed=0)
    >>> same.tolist(), (torch.tensor([0, 0, 1, 1])[places[:, 0]] == torch.tensor([0, 0, 1, 1])[places[:, 1]]).tolist()
    ([1, 0, 1, 0], [True, False, True, False])
    """
    order, starts, sizes, alike = _by_class(classes)
    same = torch.arange(1, num + 1) % 2
    chance = _chances(num, 2, seed)
    first = torch.where(same == 1, alike[_below(chance[:, 0], len(alike))], _below(chance[:, 0], len(classes)))
    second = torch.where(
        same == 1,
        _partner(first, classes, order, starts, sizes, chance[:, 1]),
        _stranger(first, classes, order, starts, sizes, chance[:, 1]),
    )
    return torch.stack([first, second], dim=1), same


def drawn_triplets(classes: Tensor, *, num: int, seed: int) -> Tensor:
    """Triplets of examples: an anchor, another of its class, and one of another class; places (num, 3).

    Args and errors as of `drawn_pairs`.
    """
    order, starts, sizes, alike = _by_class(classes)
    chance = _chances(num, 3, seed)
    anchor = alike[_below(chance[:, 0], len(alike))]
    positive = _partner(anchor, classes, order, starts, sizes, chance[:, 1])
    negative = _stranger(anchor, classes, order, starts, sizes, chance[:, 2])
    return torch.stack([anchor, positive, negative], dim=1)


def _by_class(classes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # Examples sorted by class, where each class starts in that order and how many it has; those whose class has two.
    sizes = torch.bincount(classes)
    alike = torch.nonzero(sizes[classes] > 1).flatten()
    if int((sizes > 0).sum()) < 2 or not len(alike):
        raise DataError(
            f"groups are to be drawn from {int((sizes > 0).sum())} classes of at most {int(sizes.max())} examples in a part",
            expected="two classes or more, one of them with two examples or more",
            fix="Use more data, or make split.validation and split.test larger, or 0",
        )
    return torch.argsort(classes, stable=True), sizes.cumsum(0) - sizes, sizes, alike


def _chances(num: int, columns: int, seed: int) -> Tensor:
    # Row k is a function of the seed and k, whatever num is: rows are drawn in order.
    return torch.rand(num, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _below(chance: Tensor, limit: int | Tensor) -> Tensor:
    return (chance * limit).long()


def _partner(first: Tensor, classes: Tensor, order: Tensor, starts: Tensor, sizes: Tensor, chance: Tensor) -> Tensor:
    # Another example of the same class: one of the others' places in it, stepping over the own one.
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    label = classes[first]
    own, others = rank[first] - starts[label], (sizes[label] - 1).clamp(min=1)
    step = _below(chance, others)
    place = torch.where(step >= own, step + 1, step).minimum(sizes[label] - 1)
    return order[starts[label] + place]


def _stranger(first: Tensor, classes: Tensor, order: Tensor, starts: Tensor, sizes: Tensor, chance: Tensor) -> Tensor:
    # An example of another class: a place in the sorted order without the own class's stretch.
    label = classes[first]
    place = _below(chance, len(classes) - sizes[label])
    return order[torch.where(place >= starts[label], place + sizes[label], place)]


@dataclass(frozen=True)
class DrawnReader:
    """How new data of the inner source is read: single elements to embed; where targets are needed, groups of them.

    Args:
        inner: the inner source's reader. target: its targets.
        seed: of the draws.
    """

    inner: InputReader
    target: Target
    task: str
    seed: int

    kind = "drawn"

    def read(self, data: Any, *, target: Target, with_targets: WithTargets) -> Examples:
        examples = self.inner.read(data, target=self.target, with_targets=with_targets)
        if with_targets != "required":
            return examples
        return grouped(examples, self.task, num=len(examples), seed=self.seed)

    def signature(self, num_outputs: int) -> Signature:
        return self.inner.signature(num_outputs)

    def to_dict(self) -> dict[str, Any]:
        inner = {"inner": self.inner.to_dict(), "reader": self.inner.kind, "target": self.target.to_dict()}
        return inner | {"task": self.task, "seed": self.seed}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> DrawnReader:
        from stepwell.data.preparation import reader_from_dict

        inner = reader_from_dict(value["reader"], value["inner"])
        return DrawnReader(inner, target_from_dict(value["target"]), value["task"], value["seed"])


def grouped(examples: Examples, task: str, *, num: int, seed: int) -> GroupExamples:
    """Pairs or triplets of some labelled examples."""
    classes = column_of(examples, "targets")
    if classes is None or classes.ndim != 1:
        raise DataError(
            "groups are to be drawn from data whose classes are not in memory",
            expected="one class per example",
            fix="Use a source with classes, such as digits, table, images, npz or idx",
        )
    classes = classes.long().cpu()
    if task == "pairs":
        return GroupExamples(examples, *drawn_pairs(classes, num=num, seed=seed))
    return GroupExamples(examples, drawn_triplets(classes, num=num, seed=seed))


class _GroupsOf(DataSource):
    task: ClassVar[str]
    data: Any
    embedding: int

    @property
    def num_groups(self) -> int:
        raise AssertionError("the subclass says")

    def load(self, *, base: Path, split: SplitSpec, task: str, seed: int) -> LoadedData:
        """Load the inner source, and draw from each of its parts; see `DataSource.load`."""
        refuse_task(self.source_name, task, self.task)
        check_embedding(self.embedding)
        name = f"data.num_{self.task}"
        require(self.num_groups >= 1, name, self.num_groups, "a whole number above 0", "Write for example 5000")
        if type(self.data) not in SOURCES.values():
            raise JobError(
                f"data.data is {self.data!r}", expected="a source with classes", fix="Write for example data: {source: digits}"
            )
        require(self.data.sampling == "once", "data.data.sampling", self.data.sampling, "once", "Leave it out")
        inner = self.data.load(base=base, split=split, task="classification", seed=seed)

        def drawn(part: str) -> GroupExamples | None:
            examples = getattr(inner, part)
            if examples is None:
                return None
            # As many per example as in the training part.
            num = max(round(self.num_groups * len(examples) / len(inner.train)), 2)
            return grouped(examples, self.task, num=num, seed=derive(seed, f"{self.task} of {part}"))

        train = drawn("train")
        assert train is not None
        reader = DrawnReader(inner.preparation.reader, inner.preparation.target, self.task, derive(seed, self.task))
        target = EmbeddingTarget(task=self.task, width=self.embedding)
        return LoadedData(
            name=self.source_name,
            train=train,
            validation=drawn("validation"),
            test=drawn("test"),
            signature=replace(inner.signature, num_outputs=self.embedding),
            preparation=Preparation(source=self.source_name, reader=reader, target=target),
            fingerprint=inner.fingerprint,
        )


@source("pairs_of")
class PairsOf(_GroupsOf):
    """Pairs drawn from the classes of another source, half of them of the same class, for task pairs.

    The pairs are drawn once: they are a function of the seed alone, and never join examples of two parts of the split.

    Args:
        data: the other source, e.g. {source: digits}.
        num_pairs: of the training part, >= 1; validation and test have as many per example.
        embedding: width of the embedding, in numbers, >= 1.
    """

    data: Any
    num_pairs: int = 5000
    embedding: int = 16

    task = "pairs"

    @property
    def num_groups(self) -> int:
        return self.num_pairs


@source("triplets_of")
class TripletsOf(_GroupsOf):
    """Triplets drawn from the classes of another source, for task triplets.

    The triplets are drawn once: they are a function of the seed alone, and never join examples of two parts of the
    split.

    Args:
        data: the other source, e.g. {source: digits}.
        num_triplets: of the training part, >= 1; validation and test have as many per example.
        embedding: width of the embedding, in numbers, >= 1.
    """

    data: Any
    num_triplets: int = 5000
    embedding: int = 16

    task = "triplets"

    @property
    def num_groups(self) -> int:
        return self.num_triplets
