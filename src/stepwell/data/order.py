"""The order in which a pass reads its examples: a function of (seed, epoch), any part of it at any time."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stepwell.core.randomness import derive

Shuffle = Literal["epoch", "none"]

# Above this many examples an epoch's permutation is computed where it is read, not held: 2^24 int64 are 128 MiB.
LARGEST_HELD = 1 << 24
_ROUNDS = 6


def scattered(places: Tensor, *, num: int, seed: int) -> Tensor:
    """The images of some places under a permutation of 0..num-1 that is never written out.

    A Feistel network over the next even power of two (Luby and Rackoff 1988), walked until it lands inside.

    Args:
        places: where in the pass, int64 in [0, num).
        num: how many examples there are, >= 1.
        seed: a derived seed.

    >>> sorted(scattered(torch.arange(10), num=10, seed=3).tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    half = max(((num - 1).bit_length() + 1) // 2, 1)
    mask = (1 << half) - 1
    keys = [derive(seed, "order", turn) & 0x7FFFFFFF for turn in range(_ROUNDS)]

    def once(values: Tensor) -> Tensor:
        left, right = values >> half, values & mask
        for key in keys:
            # Multiply-and-shift hashing; right < 2^31, so nothing that is kept overflows.
            mixed = ((right + key) * 0x9E3779B1) & 0x7FFFFFFFFFFFFFFF
            mixed = (mixed ^ (mixed >> 29)) * 0x85EBCA6B & 0x7FFFFFFFFFFFFFFF
            left, right = right, left ^ ((mixed >> 17) & mask)
        return (left << half) | right

    values = once(places)
    outside = values >= num
    while bool(outside.any()):
        values = torch.where(outside, once(values), values)
        outside = values >= num
    return values


class EpochOrder:
    """Which example stands at which place of an epoch.

    Args:
        num: how many examples there are, >= 1.
        seed: the run's seed.
        shuffle: "epoch" draws a new permutation each epoch, "none" keeps the order of the data.

    >>> order = EpochOrder(100, seed=0)
    >>> torch.equal(order.take(3, 10, 20), order.whole(3)[10:20])
    True
    """

    def __init__(self, num: int, *, seed: int, shuffle: Shuffle = "epoch") -> None:
        self.num, self.seed, self.shuffle = num, seed, shuffle
        self._epoch = -1
        self._held: Tensor | None = None

    def take(self, epoch: int, start: int, stop: int) -> Tensor:
        """The examples at places `start` to `stop` of an epoch, int64."""
        if self.shuffle == "none":
            return torch.arange(start, stop)
        if self.num > LARGEST_HELD:
            return scattered(torch.arange(start, stop), num=self.num, seed=derive(self.seed, "shuffle", epoch))
        if epoch != self._epoch or self._held is None:
            self._held, self._epoch = self._permutation(epoch), epoch
        return self._held[start:stop]

    def whole(self, epoch: int) -> Tensor:
        """All examples, in the epoch's order, int64; not kept."""
        if self.shuffle == "none" or self.num > LARGEST_HELD:
            return self.take(epoch, 0, self.num)
        return self._permutation(epoch)

    def _permutation(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive(self.seed, "shuffle", epoch))
        return torch.randperm(self.num, generator=generator)
