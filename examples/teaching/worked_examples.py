"""Three calculations small enough for paper: batch normalisation of four numbers, step decay, cosine decay."""

from __future__ import annotations

import numpy as np
from batch_norm import BatchNorm


def normalised_by_hand() -> list[float]:
    """1, 3, 5, 7 have mean 4 and variance (9 + 1 + 1 + 9) / 4 = 5, so they become -3, -1, 1, 3 over sqrt(5)."""
    return [deviation / np.sqrt(5) for deviation in (-3, -1, 1, 3)]


def step_decay(start: float, epoch: int, *, every: int = 30, factor: float = 0.1) -> float:
    """The rate of an epoch, counted from 0: `factor` to the power of the number of drops so far."""
    return start * factor ** (epoch // every)


def cosine_decay(start: float, end: float, epoch: int, *, num_epochs: int) -> float:
    """Half a cosine from `start` to `end`: by symmetry exactly half of the way is left at half of the time."""
    return end + (start - end) / 2 * (1 + np.cos(np.pi * epoch / num_epochs))


if __name__ == "__main__":
    layer = BatchNorm(1, eps=0.0).forward(np.array([[1.0], [3.0], [5.0], [7.0]]))[:, 0]
    print("batch norm of 1, 3, 5, 7:     ", ", ".join(f"{value:.3f}" for value in layer))
    print("the same by hand:             ", ", ".join(f"{value:.3f}" for value in normalised_by_hand()))
    print("step decay from 0.1:          ", ", ".join(f"{epoch}: {step_decay(0.1, epoch):.3g}" for epoch in (1, 29, 30, 59, 60)))
    rates = (f"{epoch}: {cosine_decay(0.01, 0.0001, epoch, num_epochs=100):.6f}" for epoch in (0, 25, 50, 75, 100))
    print("cosine decay, 0.01 to 0.0001: ", ", ".join(rates))
