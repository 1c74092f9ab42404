"""Batches and trees, by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from stepwell.core.batch import BLOCK, Batch, rank_bounds, tree_leaves, tree_map


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


def test_a_tree_keeps_its_structure_named_tuples_and_constants_included() -> None:
    tree = {"a": torch.ones(2), "b": [torch.ones(3), (torch.ones(4), None)], "c": Pair(torch.ones(5), torch.ones(6)), "d": "word"}
    mapped = tree_map(len, tree)
    assert mapped == {"a": 2, "b": [3, (4, None)], "c": Pair(5, 6), "d": "word"}  # type: ignore[arg-type]
    assert isinstance(mapped["c"], Pair)


def test_leaves_come_in_order() -> None:
    leaves = tree_leaves({"a": torch.tensor(1), "b": (torch.tensor(2), [torch.tensor(3)]), "c": 4})
    assert [int(leaf) for leaf in leaves] == [1, 2, 3]


def example(size: int = 10) -> Batch:
    rows = torch.arange(size)
    return Batch({"x": rows.float(), "y": (rows * 2,)}, rows, rows / 2, position=100)


def test_the_length_is_the_number_of_samples_of_any_tree() -> None:
    assert len(example()) == 10
    assert len(Batch(torch.zeros(3, 2))) == 3


def test_a_part_cuts_every_tensor_and_knows_its_position() -> None:
    part = example().part(4, 7)
    assert part.inputs["x"].tolist() == [4, 5, 6]
    assert part.inputs["y"][0].tolist() == [8, 10, 12]
    assert part.targets.tolist() == [4, 5, 6]
    assert part.weights is not None
    assert part.weights.tolist() == [2, 2.5, 3]
    assert part.position == 104


def test_parts_are_views_and_not_copies() -> None:
    batch = example()
    assert batch.part(2, 4).targets.data_ptr() == batch.targets[2:].data_ptr()


@pytest.mark.parametrize(("sizes", "expected"), [(4, [4, 4, 2]), (10, [10]), (99, [10]), ([5, 4, 1], [5, 4, 1])])
def test_splitting_gives_consecutive_parts_that_cover_the_batch(sizes: int | list[int], expected: list[int]) -> None:
    parts = example().split(sizes)
    assert [len(part) for part in parts] == expected
    assert torch.cat([part.targets for part in parts]).tolist() == list(range(10))
    assert [part.position for part in parts] == [100 + sum(expected[:place]) for place in range(len(expected))]


def test_a_batch_without_targets_and_weights_keeps_none() -> None:
    part = Batch(torch.zeros(4, 1)).split(2)[1]
    assert part.targets is None
    assert part.weights is None


@pytest.mark.parametrize("total", [1, 7, 8, 9, 40, 64, 100])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_ranks_share_a_batch_in_whole_blocks_without_gap_or_overlap(total: int, world_size: int) -> None:
    bounds = [rank_bounds(total, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == total
    assert all(left[1] == right[0] for left, right in pairwise(bounds))
    assert all(start % BLOCK == 0 or start == total for start, _ in bounds)
    blocks = [-(-(stop - start) // BLOCK) for start, stop in bounds]
    assert max(blocks) - min(blocks) <= 1


def test_moving_to_the_cpu_keeps_every_value() -> None:
    batch = example()
    moved = batch.to(torch.device("cpu"))
    assert torch.equal(moved.inputs["x"], batch.inputs["x"])
    assert moved.position == 100
