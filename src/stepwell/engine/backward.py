"""Backward from several sums with given slopes, without what a training step needn't pay for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# torch.autograd.backward compares shapes with symbolic arithmetic on every call: 9 of the 170 microseconds of a small
# step. The engine below it takes the same arguments; where a torch has no such attribute, the public call does it.
_ENGINE: Any = getattr(torch.autograd.Variable, "_execution_engine", None)


def backward(sums: Sequence[Tensor], slopes: Sequence[Tensor]) -> None:
    """Add d(sum over i of slopes[i] * sums[i]) to the gradients of the leaves.

    Args:
        sums: results of a forward pass, of any shape.
        slopes: one per sum, of its shape and dtype.

    >>> weight = torch.ones(2, requires_grad=True)
    >>> backward([(weight * 3).sum()], [torch.tensor(0.5)])
    >>> weight.grad.tolist()
    [1.5, 1.5]
    """
    if _ENGINE is None:
        torch.autograd.backward(sums, slopes)
        return
    # keep_graph=False, create_graph=False, inputs=(), allow_unreachable=True, accumulate_grad=True
    _ENGINE.run_backward(tuple(sums), tuple(slopes), False, False, (), allow_unreachable=True, accumulate_grad=True)
