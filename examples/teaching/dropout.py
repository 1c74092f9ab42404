"""Inverted dropout in plain numpy: the survivors are scaled up while training, so that evaluation does nothing at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def draw_mask(shape: tuple[int, ...], rate: float, rng: np.random.Generator) -> Array:
    """0 with probability `rate`, else 1 / (1 - rate): its mean is 1, and its variance rate / (1 - rate)."""
    if not 0 <= rate < 1:
        raise ValueError(f"the rate is {rate}; it is a probability of at least 0 and below 1")
    return (rng.random(shape) >= rate) / (1 - rate)


def forward(x: Array, mask: Array) -> Array:
    """While training; in evaluation x is taken as it is."""
    return x * mask


def backward(d_y: Array, mask: Array) -> Array:
    """The same mask again: what was dropped gets no gradient, what survived gets it scaled."""
    return d_y * mask


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    x = np.array([0.8, 0.2, 0.5, 1.0])
    print("activations             ", x)
    print("one training pass       ", forward(x, draw_mask(x.shape, 0.5, rng)))
    passes = np.stack([forward(x, draw_mask(x.shape, 0.5, rng)) for _ in range(20_000)])
    print("mean of 20,000 passes   ", passes.mean(axis=0).round(2))
    print("deviation of the passes ", passes.std(axis=0).round(2))
