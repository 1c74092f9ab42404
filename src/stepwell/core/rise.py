"""The linear rise with which schedules begin."""

from __future__ import annotations

from collections.abc import Callable


def after_rise(peak: float, then: Callable[[float], float], *, warmup: float, per_step: float = 1.0) -> Callable[[float], float]:
    """A function of what is completed: a linear rise to `peak` over `warmup`, then `then`.

    Args:
        peak: the value at the end of the rise.
        then: the value from there on, of what is completed.
        warmup: length of the rise, in the unit of `done`, >= 0.
        per_step: what one step adds to `done`; the first step gets peak * per_step / warmup, never 0.

    Paper: Goyal et al. 2017, arXiv:1706.02677.

    >>> [after_rise(8.0, lambda done: 20.0 - done, warmup=4)(done) for done in range(6)]
    [2.0, 4.0, 6.0, 8.0, 16.0, 15.0]
    """

    def value(done: float) -> float:
        return peak * min((done + per_step) / warmup, 1.0) if done < warmup else then(done)

    return value


def share_after(done: float, *, start: float, total: float) -> float:
    """Which share of the way from `start` to `total` is completed, in [0, 1]; 0 where there is no way.

    >>> share_after(5.0, start=4.0, total=8.0), share_after(9.0, start=4.0, total=8.0), share_after(4.0, start=4.0, total=4.0)
    (0.25, 1.0, 0.0)
    """
    return min((done - start) / (total - start), 1.0) if total > start else 0.0
