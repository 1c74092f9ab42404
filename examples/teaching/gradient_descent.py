"""Gradient descent in plain numpy: one rule, three sizes of batch, and momentum in its two spellings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def mean_squared_error(weights: Array, x: Array, y: Array) -> float:
    """The loss of a linear model: the mean over N samples of (x @ weights - y)^2."""
    return float(np.mean((x @ weights - y) ** 2))


def gradient(weights: Array, x: Array, y: Array) -> Array:
    """Its derivative by each weight: x (N, D), y (N,) -> (D,)."""
    return 2 / len(x) * x.T @ (x @ weights - y)


def descend(
    weights: Array, x: Array, y: Array, *, lr: float, batch_size: int, num_epochs: int, rng: np.random.Generator
) -> Array:
    """Walk downhill: batch_size N is batch descent, 1 is single-sample descent, anything between is mini-batches."""
    for _ in range(num_epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x), batch_size):
            rows = order[start : start + batch_size]
            weights = weights - lr * gradient(weights, x[rows], y[rows])
    return weights


def momentum_path(gradient_at: Callable[[Array], Array], start: Array, *, lr: float, momentum: float, num_steps: int) -> Array:
    """Every point of a descent with torch's momentum: velocity = momentum * velocity + gradient, (num_steps + 1, D)."""
    points, velocity = [start], np.zeros_like(start)
    for _ in range(num_steps):
        velocity = momentum * velocity + gradient_at(points[-1])
        points.append(points[-1] - lr * velocity)
    return np.stack(points)


def averaging_path(gradient_at: Callable[[Array], Array], start: Array, *, lr: float, momentum: float, num_steps: int) -> Array:
    """The same with the velocity as an average: velocity = momentum * velocity + (1 - momentum) * gradient."""
    points, velocity = [start], np.zeros_like(start)
    for _ in range(num_steps):
        velocity = momentum * velocity + (1 - momentum) * gradient_at(points[-1])
        points.append(points[-1] - lr * velocity)
    return np.stack(points)


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    true_weights = rng.normal(size=10)
    x = rng.normal(size=(1000, 10))
    y = x @ true_weights + 0.1 * rng.normal(size=1000)
    print("mean squared error after 5 epochs (0.01 is the noise):")
    for batch_size in (1000, 32, 1):
        found = descend(np.zeros(10), x, y, lr=0.01, batch_size=batch_size, num_epochs=5, rng=np.random.default_rng(1))
        print(f"  batches of {batch_size:>4}: {mean_squared_error(found, x, y):.4f}")
