"""Sums over the ranks of a process group. Without a group there is one rank and nothing to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

Group = Any  # a torch.distributed ProcessGroup, or None for a single process


def rank_of(group: Group) -> int:
    """This process's rank, 0 without a group."""
    return 0 if group is None else dist.get_rank(group)


def size_of(group: Group) -> int:
    """How many ranks there are, 1 without a group."""
    return 1 if group is None else dist.get_world_size(group)


def sum_numbers(values: dict[str, Any], group: Group, device: torch.device) -> dict[str, Any]:
    """Sum a dict of numbers over the ranks in one message. fp64, so counts stay exact."""
    if group is None:
        return values
    packed = torch.stack([torch.as_tensor(value, dtype=torch.float64, device=device).detach() for value in values.values()])
    dist.all_reduce(packed, group=group)
    return {name: packed[index] for index, name in enumerate(values)}


def sum_tensors_(tensors: Sequence[Tensor], group: Group) -> None:
    """Sum each tensor over the ranks, in place."""
    if group is not None:
        for tensor in tensors:
            dist.all_reduce(tensor, group=group)
