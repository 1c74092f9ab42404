"""How good the learning-rate finder is: its rate against a grid of 20 rates, and whether it refuses what can't be trained.

    python -m benchmarks.lr_finder development   # synthetic jobs, on which its constants were chosen
    python -m benchmarks.lr_finder real          # ten jobs on real data
    python -m benchmarks.lr_finder hopeless      # five that no learning rate can train

The grid has 20 rates from 1e-5 to 10; the one with the lowest mean validation loss over three seeds is its best. The lowest of 20
noisy means is lower than that rate deserves, so five fresh seeds, which neither the grid nor the finder has seen, train both
rates again: a job is good where the found rate's mean is within 5 % of the grid's. Both counts are printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from statistics import fmean
from typing import Any

import torch

from benchmarks.lr_jobs import HOPELESS, LrJob, development, real
from stepwell import find_lr, fit
from stepwell.core.errors import TrainingStopped
from stepwell.doctor.lr_finder import LrFound
from stepwell.doctor.lr_suggestion import RULES, suggested

GRID = [10 ** (-5 + 6 * place / 19) for place in range(20)]
SEEDS = (0, 1, 2)
FRESH = (20, 21, 22, 23, 24)
WITHIN = 1.05
ONCE = {"evaluate_every": "1000000 steps"}  # evaluated at the end alone: nothing else is compared


def final_loss(job: LrJob, rate: float, seed: int) -> float:
    """The validation loss that a training with this rate ends with; infinite where it diverges."""
    recipe = dataclasses.replace(job.recipe, optimizer=dataclasses.replace(job.recipe.optimizer, lr=rate))
    try:
        run = fit(job.model(seed), job.train, val=job.val, recipe=recipe, budget=job.budget, seed=seed, **ONCE)
    except TrainingStopped:
        return math.inf
    return run.metrics["loss"] if math.isfinite(run.metrics["loss"]) else math.inf


def found_for(job: LrJob, **how: Any) -> LrFound:
    """What the finder says of a job, as its first seed trains it."""
    return find_lr(job.model(0), job.train, val=job.val, recipe=job.recipe, budget=job.budget, seed=0, **ONCE, **how)


def measure(jobs: dict[str, LrJob]) -> None:
    """Print a line per job and the count."""
    good = same_seeds = 0
    by_rule = dict.fromkeys(RULES, 0)
    for name, job in jobs.items():
        started = time.process_time()
        grid = [fmean(final_loss(job, rate, seed) for seed in SEEDS) for rate in GRID]
        seconds, best = time.process_time() - started, min(grid)
        started = time.process_time()
        found = found_for(job)
        taken = time.process_time() - started
        if found.rate is None:
            print(f"{name:24s} refused: {found.reason}", flush=True)
            continue
        lucky = fmean(final_loss(job, found.rate, seed) for seed in SEEDS) / best
        by_grid = GRID[grid.index(best)]
        loss, other = (fmean(final_loss(job, rate, seed) for seed in FRESH) for rate in (found.rate, by_grid))
        good += loss <= WITHIN * other
        same_seeds += lucky <= WITHIN
        for rule in RULES:
            # One reading is as good as the grid's nearest rates: the rule's own rate is not trained a third time.
            rate = suggested(found.readings[0], rule)
            nearest = min(range(len(GRID)), key=lambda at: abs(math.log(GRID[at] / rate)))
            by_rule[rule] += grid[nearest] <= WITHIN * best
        print(
            f"{name:24s} found {found.rate:8.3g} loss {loss:.4f}  grid {by_grid:8.3g} loss {other:.4f}  ratio {loss / other:.3f} "
            f"(on the grid's own seeds {lucky:.3f})  confidence {found.confidence} (x{found.factor:.1f})  "
            f"CPU s: finder {taken:.1f}, grid {seconds:.1f}",
            flush=True,
        )
    print(f"within 5 % of the grid's best, on fresh seeds: {good} of {len(jobs)}; on the grid's own: {same_seeds} of {len(jobs)}")
    print("a single sweep's reading, at the nearest rate of the grid: " + ", ".join(f"{k} {v}" for k, v in by_rule.items()))


def refuse() -> None:
    """Print what the finder says of jobs that can't be trained."""
    refused = 0
    for name, make in HOPELESS.items():
        found = found_for(make())
        refused += found.rate is None
        print(f"{name:24s} {found.reason or f'a rate of {found.rate:.3g}'}", flush=True)
    print(f"refused: {refused} of {len(HOPELESS)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("which", choices=("development", "real", "hopeless"))
    parser.add_argument("--only", help="one job's name")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.which == "hopeless":
        refuse()
        return
    jobs = development() if options.which == "development" else real()
    measure({name: job for name, job in jobs.items() if options.only in (None, name)})


if __name__ == "__main__":
    main()
