"""What a step costs with each technique: `python tests/interactions/cost.py` measures it and writes docs/costs.json.

Each technique is timed against the same step without it, in turn, on a small convnet with 64 images of 32 x 32; processor
time, the median of the rounds' ratios. Run it on a quiet machine: nothing here is asserted.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # Before torch: its pool is made once.

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

import torch
from pairs import Part, catalog, recipe_of, without
from settings import world_of
from world import World

from stepwell.recipe.fit import ingredients
from stepwell.recipe.job import Job
from stepwell.recipe.run import Assembly

FILE = Path(__file__).parents[2] / "docs" / "costs.json"
ABOUT = "a small convnet with 64 images of 32 x 32"
ROUNDS, STEPS, BATCH, SIZE = 7, 6, 64, 32


def larger(tree: Any) -> Any:
    """The world's data repeated to a whole batch, its images grown to full size."""
    if isinstance(tree, dict):
        return {key: larger(value) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(larger(value) for value in tree)
    if tree is None:
        return None
    grown = tree.repeat_interleave(-(-BATCH // len(tree)), dim=0)[:BATCH]
    if grown.shape[-2:] == (8, 8):
        grown = grown.repeat_interleave(SIZE // 8, dim=-1).repeat_interleave(SIZE // 8, dim=-2)
    return grown


def stepper(parts: tuple[Part, ...], world: World) -> Callable[[], None]:
    """A function that takes one step of a run of these techniques."""
    train, validation = (larger(part) for part in world.data())
    recipe = dataclasses.replace(recipe_of(parts, world), batch_size=BATCH)
    job = Job(recipe=recipe, budget="1000 steps", seed=0, task=world.task)
    run = Assembly(ingredients(world.model(), train, validation, job))
    batch = run.source.next(0)

    def step() -> None:
        run.step(batch)

    return step


def cost_of(id: str) -> float:
    """Processor time of a step with the technique, over that of one without it."""
    world = world_of(id)
    plain = tuple(part for part in without(id, id, world) if part.variant != "usual")
    runs = {"with": stepper((Part(id),), world), "without": stepper(plain, world)}
    for step in runs.values():
        for _ in range(3):
            step()
    ratios = []
    for _ in range(ROUNDS):
        seconds = {}
        for name, step in runs.items():
            start = time.process_time()
            for _ in range(STEPS):
                step()
            seconds[name] = time.process_time() - start
        ratios.append(seconds["with"] / seconds["without"])
    return round(statistics.median(ratios), 3)


def main() -> None:
    """Measure all, print, write."""
    torch.set_num_threads(1)
    costs = {}
    for id in sorted(catalog()):
        costs[id] = cost_of(id)
        sys.stdout.write(f"{id:28} {costs[id]:.2f}\n")
        sys.stdout.flush()
    FILE.write_text(json.dumps({"about": ABOUT, "techniques": costs}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
