"""The arithmetic of a fair comparison: marginal time per step, interleaved rounds, ratios with their spread."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reading:
    """Seconds that something took.

    Args:
        wall: by the clock on the wall.
        cpu: by the processor, all threads of this process: steadier where the machine is shared.
    """

    wall: float
    cpu: float


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    lower: float
    upper: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Median and quartiles of the values, interpolated (the "inclusive" rule).

        >>> Spread.of([1.0, 2.0, 3.0, 4.0, 5.0])
        Spread(median=3.0, lower=2.0, upper=4.0)
        """
        if len(values) == 1:
            return Spread(values[0], values[0], values[0])
        lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
        return Spread(median, lower, upper)


@dataclass
class Series:
    """One contestant's marginal seconds per step, one entry a round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, short: Reading, long: Reading, num_steps: int) -> None:
        """Add a round: a short run, a long run, and how many steps more the long one took."""
        self.wall.append(marginal(short.wall, long.wall, num_steps))
        self.cpu.append(marginal(short.cpu, long.cpu, num_steps))


def marginal(short: float, long: float, num_steps: int) -> float:
    """Seconds of one more step: what a run costs before its first step cancels out.

    Args:
        short: seconds of the short run.
        long: seconds of the long run.
        num_steps: how many steps more the long run took, > 0.

    >>> marginal(2.0, 12.0, 100)
    0.1
    """
    if num_steps <= 0:
        raise ValueError(f"the long run took {num_steps} steps more than the short one; it must take more")
    return (long - short) / num_steps


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours over theirs, round by round: what slowed the machine during a round slowed both.

    >>> ratios([1.0, 3.0], [2.0, 4.0])
    [0.5, 0.75]
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rounds of ours, {len(theirs)} of theirs; rounds are compared in pairs")
    return [mine / other for mine, other in zip(ours, theirs)]


@contextmanager
def quiet_collector() -> Iterator[None]:
    """The garbage collector stays on, as in any user's run, but walks only what the run itself makes.

    What other contestants imported would otherwise be walked at every contestant's expense.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def read(call: Callable[[], object]) -> Reading:
    """How long a call takes."""
    with quiet_collector():
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        return Reading(time.perf_counter() - wall, time.process_time() - cpu)


def interleaved(
    runs: Mapping[str, Callable[[int], object]],
    *,
    short: int,
    long: int,
    steps_per_epoch: int,
    num_rounds: int,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Series]:
    """Marginal seconds per step of every contestant, taken in turns: A B C, A B C, ...

    Args:
        runs: name -> a call that trains for so many epochs.
        short, long: epochs of the two runs whose difference counts; long > short.
        steps_per_epoch: optimizer steps in an epoch.
        num_rounds: how often each contestant is measured, >= 1.
        progress: told each round's end.
    """
    series = {name: Series() for name in runs}
    for run in runs.values():  # Lazy imports, caches and allocators warm up here, unmeasured.
        run(short)
    for round_ in range(num_rounds):
        for name, run in runs.items():
            first = read(lambda run=run: run(short))  # type: ignore[misc]
            second = read(lambda run=run: run(long))  # type: ignore[misc]
            series[name].add(first, second, (long - short) * steps_per_epoch)
        progress(f"round {round_ + 1} of {num_rounds}")
    return series
