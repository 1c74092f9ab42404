"""Outputs against targets of the same shape: nothing broadcasts by accident."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.errors import DataError

__all__ = ["Aligned", "aligned", "as_scores", "num_elements", "over_elements"]


@dataclass(frozen=True, slots=True)
class Aligned:
    """Outputs and targets of one shape, (N,) or (N, ...); one value per sample is always (N,)."""

    outputs: Tensor
    targets: Tensor


def as_scores(outputs: Tree, name: str) -> Tensor:
    """Outputs as one tensor in fp32 or fp64.

    Raises:
        DataError: the model returned something else.
    """
    if not isinstance(outputs, Tensor) or not (outputs.is_floating_point()):
        what = f"a {outputs.dtype} tensor" if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
        raise DataError(
            f"{name} got {what} from the model",
            expected="one floating-point tensor",
            fix="Return the scores alone from forward(), or pass a loss of your own as a callable (outputs, targets)",
        )
    return outputs if outputs.dtype in (torch.float32, torch.float64) else outputs.float()


def aligned(outputs: Tree, targets: Tree, name: str) -> Aligned:
    """Outputs and targets in one shape and in the outputs' dtype.

    One value per sample may come as (N,) or (N, 1) on either side; anything else must have the same shape.

    Raises:
        DataError: shapes that would broadcast or don't fit; no tensor.

    >>> aligned(torch.zeros(4, 1), torch.zeros(4), "mse").outputs.shape
    torch.Size([4])
    """
    scores = as_scores(outputs, name)
    if not isinstance(targets, Tensor):
        raise DataError(
            f"{name} got targets of type {type(targets).__name__}",
            expected="one tensor of targets",
            fix="Give the data as (inputs, targets), or pass a loss of your own as a callable (outputs, targets)",
        )
    goal = targets if targets.dtype == scores.dtype else targets.to(scores.dtype)
    scores = scores.squeeze(1) if scores.ndim == 2 and scores.shape[1] == 1 else scores
    goal = goal.squeeze(1) if goal.ndim == 2 and goal.shape[1] == 1 else goal
    if scores.shape != goal.shape or scores.ndim == 0:
        assert isinstance(outputs, Tensor)
        raise DataError(
            f"{name} got outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}",
            expected="the same shape, or one value per sample as (N,) or (N, 1)",
            fix="Give the model as many outputs as there are targets per sample",
        )
    return Aligned(scores, goal)


def over_elements(weights: Tensor, like: Tensor) -> Tensor:
    """Sample weights (N,) as a tensor that multiplies (N, ...)."""
    return weights.to(like.dtype).reshape(weights.shape + (1,) * (like.ndim - weights.ndim))


def num_elements(batch: Batch) -> float | Tensor:
    """Values in the targets (N, ...), each times its sample's weight; a plain int without weights.

    >>> num_elements(Batch(torch.zeros(4, 2), torch.zeros(4, 3)))
    12
    """
    targets: Tensor = batch.targets
    if batch.weights is None:
        return targets.numel()
    return batch.weights.sum() * (targets.numel() // max(targets.shape[0], 1))
