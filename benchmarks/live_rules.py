"""What the live rules cost a training: `python -m benchmarks.live_rules`.

The MLP 128-256-128-64-1 with batch norm and dropout is trained with the rules and without, in turns: the ratio of every pair
counts. A ratio of whole trainings has the machine's noise; so the time spent in the rules is also measured from inside.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # Before torch: its pool is made once.

import torch

import stepwell
from benchmarks.bars import Bar, summary
from benchmarks.contestants import Task
from benchmarks.timing import Reading, Spread, read
from benchmarks.workloads import LR, WORKLOADS
from stepwell.doctor.live import LiveRules

LIMIT = 0.02


class Timed(LiveRules):
    """The rules, with the processor time that they take."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def see(self, log: str, row: Mapping[str, Any]) -> Any:
        started = time.process_time()
        told = list(super().see(log, row))
        self.seconds += time.process_time() - started
        return told


def train(task: Task, num_epochs: int, watch: LiveRules | None, log_every: str | None) -> None:
    """One training with a validation part, so that every rule has something to look at."""
    recipe = stepwell.Recipe(
        objective=task.work.objective,
        optimizer={"name": "adamw", "lr": LR},
        schedule="one_cycle",
        batch_size=task.work.batch_size,
    )
    few = (task.inputs[:256], task.targets[:256])
    settings: dict[str, Any] = {} if log_every is None else {"log_every": log_every}
    budget = f"{num_epochs} epochs"
    stepwell.fit(task.fresh(), (task.inputs, task.targets), val=few, recipe=recipe, budget=budget, watch=watch, **settings)


def measured(task: Task, num_epochs: int, log_every: str | None) -> tuple[float, float, float]:
    """Ratios by wall and by processor time of one pair, and the share of processor time spent in the rules."""
    rules = Timed()

    def without() -> Reading:
        return read(lambda: train(task, num_epochs, None, log_every))

    first = without()
    watched = read(lambda: train(task, num_epochs, rules, log_every))
    second = without()
    wall, cpu = (first.wall + second.wall) / 2, (first.cpu + second.cpu) / 2
    return watched.wall / wall - 1.0, watched.cpu / cpu - 1.0, rules.seconds / watched.cpu


def told(name: str, values: Iterable[float]) -> str:
    spread = Spread.of(list(values))
    return f"{name:34s} {spread.median:8.2%}   quartiles {spread.lower:.2%} to {spread.upper:.2%}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live_rules", description="What the live rules cost.")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of trainings")
    parser.add_argument("--epochs", type=int, default=40, help="of one training; an epoch has 32 steps")
    parser.add_argument("--log-every", default=None, help='as in a job; "1 steps" is the worst case. Left out: the default')
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    task = Task.of(WORKLOADS["rows"])
    train(task, 1, LiveRules(), chosen.log_every)
    pairs = [measured(task, chosen.epochs, chosen.log_every) for _ in range(chosen.rounds)]
    wall, cpu, inside = zip(*pairs, strict=True)
    print(f"{task.work.title}; {chosen.epochs * task.steps_per_epoch} steps, {chosen.rounds} rounds")
    print(told("more time, by the clock", wall))
    print(told("more time, by the processor", cpu))
    print(told("time inside the rules", inside))
    bars = [
        Bar("time inside the rules, of all", "at most", LIMIT, Spread.of(list(inside)).median),
        Bar("more time, by the processor", "at most", LIMIT, Spread.of(list(cpu)).median),
    ]
    print("\n" + summary(bars))
    return 0 if all(bar.verdict == "met" for bar in bars) else 1


if __name__ == "__main__":
    raise SystemExit(main())
