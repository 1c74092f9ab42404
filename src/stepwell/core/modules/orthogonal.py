"""Random matrices with orthonormal rows or columns."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["orthogonal"]


def orthogonal(num_rows: int, num_columns: int, generator: torch.Generator) -> Tensor:
    """A matrix drawn evenly from all those with orthonormal rows, or columns where there are fewer, in float64.

    Paper: Mezzadri 2007, "How to generate random matrices from the classical compact groups", arXiv:math-ph/0609050:
    the QR decomposition of a normal matrix is even only when the diagonal of R is made positive.

    >>> turned = orthogonal(3, 2, torch.Generator())
    >>> (turned.T @ turned).round(decimals=6).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    normal = torch.empty(num_rows, num_columns, dtype=torch.float64).normal_(generator=generator)
    turned, triangle = torch.linalg.qr(normal if num_rows >= num_columns else normal.T)
    directions: Tensor = turned * torch.where(triangle.diagonal() < 0, -1.0, 1.0)
    return directions if num_rows >= num_columns else directions.T
