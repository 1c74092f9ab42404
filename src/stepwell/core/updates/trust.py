"""Trust ratios: how far a layer may move, from the norms of its weights and of its update (LARS, LAMB)."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from torch import Tensor

Adapt = Literal["matrices", "all", "none"]
Number = TypeVar("Number", float, Tensor)


def norm(tensor: Tensor) -> Tensor:
    """The Euclidean norm, in fp32 at least."""
    low = tensor.dtype in (torch.bfloat16, torch.float16)
    length: Tensor = torch.linalg.vector_norm(tensor, dtype=torch.float32 if low else None)
    return length


def ratio_or_one(above: Number, below: Number, left: Number, right: Number) -> Number:
    """above / below, or 1 where one of the norms left and right is not above 0: nothing can be compared then.

    >>> ratio_or_one(3.0, 6.0, 1.0, 1.0), ratio_or_one(3.0, 6.0, 0.0, 1.0)
    (0.5, 1.0)
    """
    if isinstance(above, Tensor):
        return torch.where((left > 0) & (right > 0), above / below, 1.0)
    return above / below if left > 0 and right > 0 else 1.0


def adapts(tensor: Tensor, adapt: Adapt) -> bool:
    """Whether a tensor has a trust ratio of its own: biases and the gains of norms, of one dimension, have none by default.

    >>> adapts(torch.ones(3), "matrices"), adapts(torch.ones(3), "all"), adapts(torch.ones(3, 3), "none")
    (False, True, False)
    """
    return adapt == "all" or (adapt == "matrices" and tensor.ndim >= 2)


def picked(tensors: list[Tensor], flags: list[bool], wanted: bool) -> list[Tensor]:
    """The tensors whose flag is the one wanted."""
    return [tensor for tensor, flag in zip(tensors, flags, strict=True) if flag is wanted]


def mark_exempt(groups: list[dict[str, object]], weight_decay: float) -> None:
    """Mark the groups that a rule of the recipe took out of the weight decay: they have no trust ratio either.

    So norms of any shape and declared roles, which `decay_groups` knows by type, are recognised.
    """
    for group in groups:
        group["exempt"] = weight_decay > 0 and group["weight_decay"] == 0


def norms_of(tensors: list[Tensor]) -> Tensor:
    """The L2 norm of each tensor, (len,), on their device and in fp32 at least: 16 bits would overflow.

    >>> norms_of([torch.full((4,), 60000.0, dtype=torch.float16), torch.zeros(2, dtype=torch.float16)]).tolist()
    [120000.0, 0.0]
    """
    half = any(tensor.element_size() < 4 for tensor in tensors)
    return torch.stack(torch._foreach_norm(tensors, 2, torch.float32 if half else None))
