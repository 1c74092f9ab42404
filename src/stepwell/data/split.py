"""Splits into training, validation and test parts that never share an example."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from stepwell.core.errors import DataError, JobError
from stepwell.core.randomness import derive

__all__ = ["Parts", "SplitSpec", "split_indices"]

By = Literal["random", "stratified", "time", "group", "column", "file"]
_PART_NAMES = {"train": 0, "training": 0, "validation": 1, "valid": 1, "val": 1, "dev": 1, "test": 2}


@dataclass(frozen=True, kw_only=True)
class SplitSpec:
    """How data is divided. What is None is chosen by the data source.

    Args:
        validation, test: share of the examples, in [0, 1); together below 1. 0 for none.
        by: "random"; "stratified" (each class in the same shares); "time" (the latest are test, those before them
            validation); "group" (no value of `column` in two parts); "column" (`column` says train, validation or
            test, or true for train); "file" (`validation_path` and `test_path` hold the other parts).
        column: of the times, the groups or the parts.
        validation_path, test_path: files of those parts, relative to the job file.
        overlap: what happens when a row stands in two files: "refuse", or "allow" where equal rows are different
            examples.

    Raises:
        JobError: shares out of range, or settings that don't go together.
    """

    validation: float | None = None
    test: float | None = None
    by: By | None = None
    column: str | None = None
    validation_path: str | None = None
    test_path: str | None = None
    overlap: Literal["refuse", "allow"] = "refuse"

    def __post_init__(self) -> None:
        for name, share in (("validation", self.validation), ("test", self.test)):
            if share is not None and not 0 <= share < 1:
                raise JobError(f"split.{name} is {share}", expected="a share in [0, 1)", fix=f"Write for example {name}: 0.2")
        if (self.validation or 0) + (self.test or 0) >= 1:
            raise JobError(
                f"split.validation {self.validation} and split.test {self.test} leave nothing to train on",
                expected="shares that add up to less than 1",
                fix="Write for example validation: 0.2 and test: 0.2",
            )
        if self.by in ("group", "column") and not self.column:
            raise JobError(
                f"split.by is {self.by} but split.column is not set",
                expected="the column to split by",
                fix="Add column: NAME to split",
            )
        paths = self.validation_path or self.test_path
        if (self.by == "file") != bool(paths):
            raise JobError(
                "split.by is file without a path" if self.by == "file" else "split has a path but split.by is not file",
                expected="by: file together with validation_path or test_path",
                fix="Set both, or neither",
            )

    def filled(self, *, validation: float, test: float, by: By) -> SplitSpec:
        """The same with a source's defaults where nothing was said; a column or files speak for themselves."""
        if self.by in ("column", "file"):
            validation = test = 0.0
        left = 1 - (self.validation or 0) - (self.test or 0)
        return replace(
            self,
            validation=self.validation if self.validation is not None else min(validation, left / 2),
            test=self.test if self.test is not None else min(test, left / 2),
            by=self.by or by,
        )

    def within_train(self) -> SplitSpec:
        """What is still to be taken from the training file where parts have files of their own, at random."""
        return SplitSpec(
            validation=0.0 if self.validation_path else self.validation or 0.0,
            test=0.0 if self.test_path else self.test or 0.0,
            by="random",
        )


@dataclass(frozen=True)
class Parts:
    """Which examples belong to which part: int64 indices, ascending, disjoint, together all examples."""

    train: Tensor
    validation: Tensor
    test: Tensor


def split_indices(
    n: int, split: SplitSpec, *, targets: Any = None, groups: Any = None, times: Any = None, seed: int = 0
) -> Parts:
    """Divide n examples.

    Args:
        n: number of examples.
        split: how.
        targets: one label per example, for "stratified".
        groups: one value per example, for "group", and the part names for "column".
        times: one sortable value per example, for "time"; their order stands for it where None.
        seed: of the random choice; the same seed gives the same parts.

    Raises:
        DataError: too few examples, groups or times for the parts that are asked for.

    >>> parts = split_indices(10, SplitSpec(validation=0.2, test=0.1), seed=0)
    >>> len(parts.train), len(parts.validation), len(parts.test)
    (7, 2, 1)
    """
    counts = _counts(n, split)
    if split.by == "time":
        where = _by_time(n, counts, times)
    elif split.by == "group":
        where = _by_group(_codes(groups), counts, seed)
    elif split.by == "column":
        where = _by_column(groups, split, seed)
    elif split.by == "stratified":
        where = _stratified(_codes(targets), split, seed)
    else:
        where = torch.zeros(n, dtype=torch.int64)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(derive(seed, "split")))
        where[order[: counts[2]]] = 2
        where[order[counts[2] : counts[2] + counts[1]]] = 1
    parts = Parts(*(torch.nonzero(where == part).flatten() for part in range(3)))
    if len(parts.train) == 0:
        raise DataError(
            f"the split of {n} examples leaves none to train on",
            expected="at least one training example",
            fix="Make split.validation and split.test smaller, or use more data",
        )
    return parts


def _counts(n: int, split: SplitSpec) -> tuple[int, int, int]:
    """Sizes of train, validation and test, at least 1 where a share is asked for."""
    validation, test = (max(round(n * share), 1) if share else 0 for share in (split.validation, split.test))
    if n - validation - test < 1:
        raise DataError(
            f"the data has {n} example{'s' if n != 1 else ''}, too few for the parts of the split",
            expected=f"at least {1 + (validation > 0) + (test > 0)} examples",
            fix="Use more data, or set split.validation and split.test to 0",
        )
    return n - validation - test, validation, test


def _codes(values: Any) -> Tensor:
    """Equal values as equal numbers 0, 1, ... in the values' order."""
    import numpy as np

    array = np.asarray(values)
    if array.dtype.kind == "O":
        array = array.astype(str)
    return torch.from_numpy(np.unique(array, return_inverse=True)[1].astype("int64"))


def _stratified(codes: Tensor, split: SplitSpec, seed: int) -> Tensor:
    # Cumulative rounding: each part has its total right, and each class its share to within one example.
    where = torch.zeros(len(codes), dtype=torch.int64)
    seen = 0
    shares = (split.test or 0.0, split.validation or 0.0)
    for code in range(int(codes.max()) + 1):
        members = torch.nonzero(codes == code).flatten()
        order = torch.randperm(len(members), generator=torch.Generator().manual_seed(derive(seed, "split", code)))
        members = members[order]
        left = len(members) - 1  # one stays in train, or the class couldn't be learned
        for part, share in ((2, shares[0]), (1, shares[1])):
            size = min(round((seen + len(members)) * share) - round(seen * share), left)
            where[members[left - size + 1 : left + 1]] = part
            left -= size
        seen += len(members)
    return where


def _by_time(n: int, counts: tuple[int, int, int], times: Any) -> Tensor:
    import numpy as np

    where = torch.zeros(n, dtype=torch.int64)
    values = np.arange(n) if times is None else np.asarray(times)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    cuts = [counts[0], counts[0] + counts[1]]
    for place, cut in enumerate(cuts):
        # Examples of one time stay together, in the later part.
        while 0 < cut < n and ordered[cut] == ordered[cut - 1]:
            cut -= 1
        cuts[place] = cut
    empty = cuts[0] == 0 or (counts[1] and cuts[0] == cuts[1])
    if empty:
        raise DataError(
            "too many examples share one time to split them by time",
            expected="distinct times at the borders of the parts",
            fix="Split by a finer time column, or use split.by: group",
        )
    if counts[1]:
        where[torch.from_numpy(order[cuts[0] : cuts[1]].copy())] = 1
    if counts[2]:
        where[torch.from_numpy(order[cuts[1] :].copy())] = 2
    return where


def _by_group(codes: Tensor, counts: tuple[int, int, int], seed: int) -> Tensor:
    sizes = torch.bincount(codes).tolist()
    num_parts = 1 + (counts[1] > 0) + (counts[2] > 0)
    if len(sizes) < num_parts:
        raise DataError(
            f"split.column has {len(sizes)} group{'s' if len(sizes) != 1 else ''} for {num_parts} parts",
            expected="at least as many groups as parts",
            fix="Choose another split.column, or ask for fewer parts",
        )
    waiting = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(derive(seed, "split"))).tolist()
    part_of = torch.zeros(len(sizes), dtype=torch.int64)
    for part in (2, 1):
        if not counts[part]:
            continue
        num_parts -= 1
        taken = 0
        for group in list(waiting):
            if taken + sizes[group] <= counts[part] and len(waiting) > num_parts:
                waiting.remove(group)
                part_of[group] = part
                taken += sizes[group]
        if not taken:  # every group is larger than the part should be
            group = min(waiting, key=lambda g: sizes[g])
            waiting.remove(group)
            part_of[group] = part
    return part_of[codes]


def _by_column(values: Any, split: SplitSpec, seed: int) -> Tensor:
    import numpy as np

    names = [str(value).strip().lower() for value in np.asarray(values).tolist()]
    truths = {"true": 0, "1": 0, "false": 2, "0": 2}
    known = truths if set(names) <= set(truths) else _PART_NAMES
    wrong = next((name for name in names if name not in known), None)
    if wrong is not None:
        raise DataError(
            f"column {split.column!r} holds {wrong!r}",
            expected="train, validation or test (or true for train and false for test)",
            fix="Correct that column, or split by another",
        )
    where = torch.tensor([known[name] for name in names])
    if split.validation and not bool((where == 1).any()):
        # The column only sets the test part aside: validation is taken from what it leaves to train on.
        train = torch.nonzero(where == 0).flatten()
        inner = split_indices(len(train), SplitSpec(validation=split.validation, by="random"), seed=seed)
        where[train[inner.validation]] = 1
    return where
