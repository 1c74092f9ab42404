"""Where the columns of a tensor of rows lie, and how far they spread."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each feature, in a shape that broadcasts over rows.

    Args:
        mean, spread: of the features; spread 0 where one is constant.
    """

    mean: Tensor
    spread: Tensor

    @property
    def varies(self) -> Tensor:
        """Which features aren't constant, beyond rounding."""
        return self.spread > 1e-6 * self.mean.abs().clamp(min=1e-12)

    @property
    def safe_spread(self) -> Tensor:
        """The spread, 1 for constant features."""
        return torch.where(self.varies, self.spread, torch.ones(()))

    @property
    def size(self) -> Tensor:
        """Root mean square of each feature that varies, (num_features,)."""
        return (self.mean.square() + self.spread.square()).sqrt()[self.varies]


def scale_of(rows: Tensor) -> Scale:
    """Scale of rows (num_rows, ...): columns of a table, channels of images, features of sequences.

    Of a tensor of more than two dimensions, features lie along the second or the last one, whichever has the more different
    scales; where neither has, one scale holds for all.
    """
    rows = rows.float()
    rows = torch.where(torch.isfinite(rows), rows, rows.new_zeros(()))
    if rows.dim() <= 2:
        return Scale(rows.mean(0), rows.std(0, correction=0))
    best, most = Scale(rows.mean(), rows.std(correction=0)), 3.0
    for dim in (1, rows.dim() - 1):
        others = [number for number in range(rows.dim()) if number != dim]
        scale = Scale(rows.mean(others, keepdim=True)[0], rows.std(others, correction=0, keepdim=True)[0])
        apart = _apart(scale)
        if rows.shape[dim] > 1 and apart > most:
            best, most = scale, apart
    return best


def scale_of_all(rows: Tensor) -> Scale:
    """One mean and one spread of all numbers that are finite."""
    finite = rows.float()[torch.isfinite(rows)]
    return Scale(finite.mean(), finite.std(correction=0))


def _apart(scale: Scale) -> float:
    """By what factor features differ in size, or how many spreads their means lie apart."""
    size, spread = scale.size, scale.spread[scale.varies]
    if len(size) < 2:
        return 1.0
    means = scale.mean[scale.varies]
    return max(float(size.max() / size.min().clamp(min=1e-12)), float((means.max() - means.min()) / spread.median()))
