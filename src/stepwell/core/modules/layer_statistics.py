"""Statistics of single tensors and activations: what a rule about vanishing gradients or dead units reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ActivationSums", "gradient_statistics", "is_saturating", "suggest_clip_norm", "update_ratio"]

# The share of its range that an activation may be away from a limit and still count as saturated.
NEAR_LIMIT = 0.01
# Outputs between two limits: (lower, upper).
LIMITS: dict[type[nn.Module], tuple[float, float]] = {
    nn.Sigmoid: (0.0, 1.0),
    nn.Hardsigmoid: (0.0, 1.0),
    nn.Tanh: (-1.0, 1.0),
    nn.Hardtanh: (-1.0, 1.0),
    nn.Softsign: (-1.0, 1.0),
    nn.ReLU6: (0.0, 6.0),
}
# Outputs that are exactly zero for half of all inputs: a unit that is never above zero learns nothing any more.
RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Threshold)


def gradient_statistics(gradient: Tensor) -> dict[str, Tensor]:
    """Mean, standard deviation (of the population), L2 norm, largest size and share of exact zeros, device scalars.

    >>> {name: round(value.item(), 4) for name, value in gradient_statistics(torch.tensor([3.0, 0.0, -4.0, 1.0])).items()}
    {'mean': 0.0, 'std': 2.5495, 'norm': 5.099, 'max_abs': 4.0, 'zero_fraction': 0.25}
    """
    values = gradient.detach()
    values = values if values.dtype in (torch.float32, torch.float64) else values.float()
    variance, mean = torch.var_mean(values, correction=0)
    return {
        "mean": mean,
        "std": variance.sqrt(),
        "norm": values.norm(),
        "max_abs": values.abs().max(),
        "zero_fraction": (values == 0).to(values.dtype).mean(),
    }


def update_ratio(before: Tensor, after: Tensor) -> Tensor:
    """|after - before| / |before|, a device scalar; about 1e-3 is usual, 0 where nothing moved, inf from a zero tensor.

    >>> update_ratio(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])).item()
    0.10000000149011612
    """
    moved, size = (after.detach() - before).norm(), before.norm()
    return torch.where(moved == 0, moved, moved / size)


def is_saturating(module: nn.Module) -> bool:
    """Whether an activation has limits, or a side on which it is flat.

    >>> is_saturating(nn.Tanh()), is_saturating(nn.GELU())
    (True, False)
    """
    return type(module) in LIMITS or isinstance(module, RECTIFIERS)


@dataclass
class ActivationSums:
    """Statistics of one module's outputs, gathered over the micro-batches of a step.

    Args:
        module: whose outputs they are; its type says which limits count.
    """

    module: nn.Module
    count: int = 0
    total: Tensor | None = None
    squares: Tensor | None = None
    zeros: Tensor | None = None
    saturated: Tensor | None = None
    alive: Tensor | None = None

    def add(self, outputs: Tensor) -> None:
        """Take in one micro-batch of outputs, (N, units, ...) or (N, ..., units) for a linear layer."""
        values = outputs.detach().float()
        self.count += values.numel()
        self.total = _sum(self.total, values.sum(dtype=torch.float64))
        self.squares = _sum(self.squares, values.square().sum(dtype=torch.float64))
        self.zeros = _sum(self.zeros, (values == 0).sum())
        limits = LIMITS.get(type(self.module))
        if limits is not None:
            low, high = limits
            margin = NEAR_LIMIT * (high - low)
            # A rectifier's zero is not saturation but the unit's off state, which `dead` is about.
            below = torch.zeros_like(values, dtype=torch.bool) if isinstance(self.module, RECTIFIERS) else values < low + margin
            self.saturated = _sum(self.saturated, (below | (values > high - margin)).sum())
        if isinstance(self.module, RECTIFIERS) and values.ndim >= 2:
            above = (values > 0).transpose(0, 1).flatten(1).any(dim=1)
            self.alive = above if self.alive is None else self.alive | above

    def statistics(self) -> dict[str, Tensor]:
        """Mean, standard deviation and share of zeros; of units that were never on (dead) and values at a limit (saturated)."""
        if self.total is None or self.squares is None or self.zeros is None:
            return {}
        mean = self.total / self.count
        row = {
            "mean": mean,
            "std": (self.squares / self.count - mean.square()).clamp(min=0).sqrt(),
            "zero_fraction": self.zeros / self.count,
        }
        if self.alive is not None:
            row["dead_fraction"] = 1 - self.alive.float().mean()
        if self.saturated is not None:
            row["saturated_fraction"] = self.saturated / self.count
        return row


def _sum(so_far: Tensor | None, more: Tensor) -> Tensor:
    return more if so_far is None else so_far + more


def suggest_clip_norm(norms: Iterable[float], *, quantile: float = 0.9) -> float | None:
    """A clip threshold from logged gradient norms: large enough for most steps, so that only the rare steep ones are cut.

    Args:
        norms: gradient norms before clipping, one per logged step; non-finite ones are left out.
        quantile: share of the steps that stay as they are, in (0, 1). 0.9 cuts one step in ten.

    Returns:
        The quantile, to two digits, or None from fewer than 10 norms: too few to tell rare from usual.

    >>> suggest_clip_norm([1.0] * 95 + [50.0] * 5)
    1.0
    """
    known = sorted(value for value in norms if value == value and value != float("inf"))
    if len(known) < 10:
        return None
    threshold: Any = float(f"{known[min(int(quantile * len(known)), len(known) - 1)]:.2g}")
    return float(threshold)
