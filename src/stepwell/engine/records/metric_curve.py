"""Curves of long logs: each point stands for a stretch of rows, with its extremes, ends and counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stepwell.engine.records.metric_chunk import LEVELS, Levels

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What a column of numbers looks like, (points,) each. All columns of a log have the same stretches.

    Args:
        low, high: extremes of a stretch's finite values; NaN where it has none.
        first, last: its first and last finite value.
        num_finite: how many it has.
        num_nonfinite: values that were logged and are not finite.
    """

    low: Values
    high: Values
    first: Values
    last: Values
    num_finite: Values
    num_nonfinite: Values

    @staticmethod
    def of(levels: Levels) -> Curve:
        return Curve(*levels)

    @staticmethod
    def empty() -> Curve:
        return Curve.of(no_levels(0))


def no_levels(blocks: int) -> Levels:
    """The levels of a stretch in which a column has no numbers."""
    told = np.full((len(LEVELS), blocks), math.nan)
    told[4:] = 0.0
    return told


def merged(levels: Levels, most_points: int) -> Levels:
    """The same levels over longer stretches, so many that at most `most_points` are left.

    >>> levels = np.array([[1.0, 2, 3], [4, 5, 6], [1, 2, 3], [4, 5, 6], [64, 64, 9], [0, 0, 1]])
    >>> merged(levels, 2).tolist()
    [[1.0, 3.0], [5.0, 6.0], [1.0, 3.0], [5.0, 6.0], [128.0, 9.0], [0.0, 1.0]]
    """
    blocks = levels.shape[1]
    size = -(-blocks // most_points)
    if size <= 1:
        return levels
    points = -(-blocks // size)
    grid = np.concatenate([levels, no_levels(points * size - blocks)], axis=1).reshape(len(LEVELS), points, size)
    low, high, first, last, finite, nonfinite = grid
    good, every = finite > 0, np.arange(points)
    return np.stack(
        [
            np.fmin.reduce(low, axis=1),
            np.fmax.reduce(high, axis=1),
            first[every, good.argmax(axis=1)],
            last[every, size - 1 - good[:, ::-1].argmax(axis=1)],
            finite.sum(axis=1),
            nonfinite.sum(axis=1),
        ]
    )


def together(parts: Sequence[tuple[Levels | None, int]]) -> Levels | None:
    """Levels one after the other; None stands for so many blocks without numbers. None where there are no numbers at all."""
    if all(part is None for part, _ in parts):
        return None
    return np.concatenate([no_levels(blocks) if part is None else part for part, blocks in parts], axis=1)
