"""A batch of examples, and the few tree operations that batches need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

# A tree is a tensor, or a dict, list or tuple of trees. Every tensor's first dimension counts the samples.
Tree = Any

# Batch techniques that mix samples do so inside blocks of this many global positions, and ranks are cut at
# multiples of it: what is mixed with what doesn't depend on how many ranks share a batch.
BLOCK = 8


def tree_map(function: Callable[[Tensor], Any], tree: Tree) -> Tree:
    """Apply `function` to every tensor of a tree, keeping its structure.

    >>> tree_map(lambda t: t.shape[0], {"a": torch.ones(2), "b": [torch.ones(3)]})
    {'a': 2, 'b': [3]}
    """
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: tree_map(function, value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        parts = [tree_map(function, value) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def tree_leaves(tree: Tree) -> list[Tensor]:
    """Every tensor of a tree, in order."""
    leaves: list[Tensor] = []
    tree_map(leaves.append, tree)
    return leaves


@dataclass(slots=True)
class Batch:
    """Examples that are trained on together. Treated as a value: change it with `dataclasses.replace`.

    Args:
        inputs: a tree of tensors, each (N, ...): what the model is called with.
        targets: a tree of tensors, each (N, ...), or None where the objective needs none.
        weights: one weight per sample, (N,), or None for equal weights.
        position: place of the first sample in the step's batch over all ranks.
        extras: a tree of tensors, each (N, ...), that one technique leaves for another; the model never sees it.
    """

    inputs: Tree
    targets: Tree = None
    weights: Tensor | None = None
    position: int = 0
    extras: Tree = None

    def __len__(self) -> int:
        leaf = self.inputs if isinstance(self.inputs, Tensor) else tree_leaves(self.inputs)[0]
        return int(leaf.shape[0])

    def part(self, start: int, stop: int) -> Batch:
        """Samples `start` to `stop`, as views."""
        cut: Callable[[Tensor], Tensor] = lambda tensor: tensor[start:stop]  # noqa: E731
        weights = None if self.weights is None else self.weights[start:stop]
        inputs, targets = tree_map(cut, self.inputs), tree_map(cut, self.targets)
        return Batch(inputs, targets, weights, self.position + start, tree_map(cut, self.extras))

    def split(self, sizes: int | Sequence[int]) -> list[Batch]:
        """Consecutive parts: of one size (the last may be shorter), or of the given sizes.

        >>> [len(part) for part in Batch(torch.zeros(32, 3)).split([5, 24, 3])]
        [5, 24, 3]
        """
        total = len(self)
        if isinstance(sizes, int):
            if sizes >= total:
                return [self]
            sizes = [min(sizes, total - start) for start in range(0, total, sizes)]
        parts, start = [], 0
        for size in sizes:
            parts.append(self.part(start, start + size))
            start += size
        assert start == total, "sizes must add up to the batch"
        return parts

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device; copies from pinned memory don't wait."""
        move: Callable[[Tensor], Tensor] = lambda tensor: tensor.to(device, non_blocking=True)  # noqa: E731
        weights = None if self.weights is None else move(self.weights)
        inputs, targets, extras = (tree_map(move, tree) for tree in (self.inputs, self.targets, self.extras))
        return replace(self, inputs=inputs, targets=targets, weights=weights, extras=extras)


def rank_bounds(total: int, *, rank: int, world_size: int) -> tuple[int, int]:
    """Where a rank's share of a step's batch starts and stops: whole blocks, as even as they go.

    >>> [rank_bounds(40, rank=rank, world_size=2) for rank in (0, 1)]
    [(0, 24), (24, 40)]
    """
    blocks = -(-total // BLOCK)
    even, more = divmod(blocks, world_size)
    first = rank * even + min(rank, more)
    last = first + even + (1 if rank < more else 0)
    return min(first * BLOCK, total), min(last * BLOCK, total)
