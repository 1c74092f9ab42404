"""Batch normalisation in plain numpy, forward and backward, with torch's running statistics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class BatchNorm:
    """Normalise each feature over the batch: x (N, F) -> gamma * (x - mean) / sqrt(variance + eps) + beta, (N, F)."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.eps, self.momentum = eps, momentum
        self.gamma, self.beta = np.ones(num_features), np.zeros(num_features)
        self.running_mean, self.running_variance = np.zeros(num_features), np.ones(num_features)

    def forward(self, x: Array) -> Array:
        """Training: the batch's own statistics, which also move the running ones."""
        num = len(x)
        if num < 2:
            raise ValueError("a batch of one sample has no variance")
        mean, variance = x.mean(axis=0), x.var(axis=0)  # divided by N
        self.deviation = np.sqrt(variance + self.eps)
        self.normalised = (x - mean) / self.deviation
        unbiased = variance * num / (num - 1)  # what is kept for later estimates the population: divided by N - 1
        self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * mean
        self.running_variance = (1 - self.momentum) * self.running_variance + self.momentum * unbiased
        return self.gamma * self.normalised + self.beta

    def evaluate(self, x: Array) -> Array:
        """Evaluation: the running statistics, so a sample's answer doesn't depend on its neighbours."""
        return self.gamma * (x - self.running_mean) / np.sqrt(self.running_variance + self.eps) + self.beta

    def backward(self, d_y: Array) -> Array:
        """From the loss's derivative by the outputs of `forward` to the one by its inputs, (N, F) -> (N, F)."""
        self.d_gamma = (d_y * self.normalised).sum(axis=0)
        self.d_beta = d_y.sum(axis=0)
        # Moving all inputs, or stretching them, changes no output: those two directions are taken out of the gradient.
        along_mean = self.d_beta / len(d_y)
        along_scale = self.normalised * self.d_gamma / len(d_y)
        return self.gamma / self.deviation * (d_y - along_mean - along_scale)


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    norm, x = BatchNorm(3), rng.normal(loc=[0, 5, -2], scale=[1, 10, 0.1], size=(64, 3))
    y = norm.forward(x)
    print("mean of each feature, before and after:     ", x.mean(axis=0).round(2), y.mean(axis=0).round(2) + 0.0)
    print("deviation of each feature, before and after:", x.std(axis=0).round(2), y.std(axis=0).round(2))
    print("a sum of outputs has no gradient: ", np.allclose(norm.backward(np.ones_like(x)), 0))
    print("a sum of their cubes has one:     ", not np.allclose(norm.backward(3 * y**2), 0))
