"""A fingerprint of examples that Python holds: over all their bytes, or over stretches spread evenly where they are many."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stepwell.core.batch import Batch, tree_leaves
from stepwell.data.examples import Examples

__all__ = ["Content", "content_of", "facts_of"]

MOST_BYTES = 64 << 20  # that are hashed of one part: some 0.1 s
STRETCHES = 1024  # of neighbouring rows, where not all are
AT_ONCE = 4 << 20  # bytes that are read together


@dataclass(frozen=True)
class Content:
    """What is known of some examples.

    Args:
        num_rows: how many; None where that isn't known.
        sha256: over structure, types, shapes and bytes; None where they aren't looked at.
        how: what was hashed, in words.
    """

    num_rows: int | None
    sha256: str | None
    how: str


def content_of(examples: Any) -> Content:
    """Hash examples as training reads them: little-endian bytes of inputs, targets and weights.

    Up to `MOST_BYTES` every row counts. Of more, `STRETCHES` stretches of neighbouring rows do, `MOST_BYTES` together, spread
    evenly with the first and the last row among them: other data, another order, scale or number of rows is noticed, a
    single changed row mostly not. Samples that code of one's own makes, one by one, are counted only: reading them could
    take long, and change what they are.

    Args:
        examples: Examples, or a source or callable of unknown length.

    >>> from stepwell.data.examples import TensorExamples
    >>> found = content_of(TensorExamples(torch.arange(6.0)))
    >>> found.num_rows, found.how, found.sha256 == content_of(TensorExamples(torch.arange(6))).sha256
    (6, 'all rows', False)
    """
    if not isinstance(examples, Examples):
        return Content(None, None, "nothing: its length isn't known")
    num = len(examples)
    if examples.work_per_sample:
        return Content(num, None, "the number of rows alone: each is made by code of its own")
    row = examples.batch(torch.zeros(1, dtype=torch.int64))
    row_bytes = max(sum(leaf.numel() * leaf.element_size() for leaf in _leaves(row)), 1)
    digest = hashlib.sha256(json.dumps([num, _outline(row)]).encode())
    whole = num * row_bytes <= MOST_BYTES or num <= 2
    spans = [(0, num)] if whole else _stretches(num, row_bytes)
    for start, stop in spans:
        for index in _cut(start, stop, max(AT_ONCE // row_bytes, 1)):
            for leaf in _leaves(examples.batch(index)):
                digest.update(leaf.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    looked = sum(stop - start for start, stop in spans)
    return Content(num, digest.hexdigest(), "all rows" if whole else f"{looked:,} rows in {len(spans):,} stretches")


def facts_of(train: Any, validation: Any) -> dict[str, Any]:
    """What goes on record of data from Python: the rows of each part, one fingerprint of all, and what it was taken of.

    Args:
        train, validation: as `content_of` takes them; None where there is none.
    """
    parts = {name: part for name, part in (("train", train), ("validation", validation)) if part is not None}
    found = {name: content_of(part) for name, part in parts.items()}
    told = [[name, item.num_rows, item.sha256] for name, item in found.items()]
    known = any(item.num_rows is not None for item in found.values())
    return {
        "rows": {name: item.num_rows for name, item in found.items() if item.num_rows is not None},
        "fingerprint": hashlib.sha256(json.dumps(told).encode()).hexdigest() if known else None,
        "hashed": {name: item.how for name, item in found.items()},
    }


def _stretches(num: int, row_bytes: int) -> list[tuple[int, int]]:
    """Spans of rows that together have `MOST_BYTES`, the first and the last row among them, none twice."""
    rows = max(MOST_BYTES // row_bytes, 2)
    count = min(STRETCHES, rows)
    length = rows // count
    return [(start, start + length) for number in range(count) for start in [number * (num - length) // (count - 1)]]


def _cut(start: int, stop: int, size: int) -> Iterator[Tensor]:
    for first in range(start, stop, size):
        yield torch.arange(first, min(first + size, stop))


def _leaves(batch: Batch) -> list[Tensor]:
    return tree_leaves([batch.inputs, batch.targets, batch.weights])


def _outline(batch: Batch) -> Any:
    """The structure of a row: names, types and shapes."""

    def of(tree: Any) -> Any:
        if isinstance(tree, Tensor):
            return [str(tree.dtype).removeprefix("torch."), list(tree.shape[1:])]
        if isinstance(tree, Mapping):
            return {str(key): of(value) for key, value in tree.items()}
        return None if tree is None else [of(value) for value in tree]

    return [of(batch.inputs), of(batch.targets), of(batch.weights)]
