"""What checkpoints cost: `python -m benchmarks.saving`.

Training with a checkpoint every 100 steps over training with none, wall clock, in turns; how long the step waits for the
snapshot, over a plain `torch.save` of the same state at the same steps; and the time of a resume far into a run over one at its
start.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # Before torch: its pool is made once.

import torch
from torch import nn

from benchmarks.bars import Bar, summary
from benchmarks.timing import Spread, quiet_collector, ratios
from stepwell.engine.records.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from stepwell.engine.records.run_folder import RunFolder
from stepwell.engine.state import snapshot
from stepwell.recipe.files import dump
from stepwell.recipe.fit import ingredients
from stepwell.recipe.job import Job
from stepwell.recipe.run import Assembly

EVERY = 100
NEVER = 10**9


@dataclass(frozen=True)
class Case:
    """A job whose saving is measured.

    Args:
        name: its line.
        widths: of the network's layers, inputs first.
        num_rows, batch_size: of the data.
        num_steps: a run's length.
        limit: how much slower saving may make it.
    """

    name: str
    widths: tuple[int, ...]
    num_rows: int
    batch_size: int
    num_steps: int
    limit: float


CASES = (
    Case("digits job", (64, 128, 64, 10), 1079, 64, 2000, 1.08),
    Case("1M-parameter job", (256, 1024, 700, 20), 8192, 128, 600, 1.01),
)


def network(widths: Sequence[int]) -> nn.Module:
    """Linear layers with ReLU between them."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def assembled(case: Case, folder: Path, every: int) -> Assembly:
    """The job of the case, ready to train into a new run folder: AdamW, one cycle, clipping, an average."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(case.num_rows, case.widths[0], generator=draw)
    targets = torch.randint(0, case.widths[-1], (case.num_rows,), generator=draw)
    recipe = {
        "objective": "cross_entropy",
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "schedule": "one_cycle",
        "techniques": ["clip_norm", {"name": "ema", "half_life": "5%"}],
        "batch_size": case.batch_size,
    }
    job = Job(recipe=recipe, budget=f"{case.num_steps} steps", checkpoint_every=f"{every} steps")
    run = RunFolder(folder)
    run.create(dump(job.to_mapping()))
    return Assembly(ingredients(network(case.widths), (inputs, targets), None, job), folder=run)


def trained(case: Case, every: int, *, by: Literal["stepwell", "torch.save"] = "stepwell") -> tuple[float, float]:
    """Seconds of training, and how long the step waited for each save on average.

    Args:
        by: what saves: stepwell, or in its place, at the same steps, a plain `torch.save` of the same state.
    """
    with tempfile.TemporaryDirectory(dir=".") as place:
        assembly = assembled(case, Path(place) / "run", every)
        trainer = assembly.trainer
        waits: list[float] = []
        start_saving = trainer._start_saving

        def timed() -> None:
            started = time.perf_counter()
            if by == "stepwell":
                start_saving()
            else:
                torch.save(trainer.state_dict(), Path(place) / f"state-{len(waits) % 2}.pt")
            waits.append(time.perf_counter() - started)

        trainer._start_saving = timed  # type: ignore[method-assign]
        with quiet_collector():
            started = time.perf_counter()
            trainer.run()
            seconds = time.perf_counter() - started
        assert assembly.folder is not None
        assembly.folder.close()
        return seconds, sum(waits) / max(len(waits), 1)


def resume_seconds(case: Case, position: int, num_rounds: int) -> list[float]:
    """Seconds to go on from a checkpoint at `position`, until the next step's batch is there."""
    seconds = []
    with tempfile.TemporaryDirectory(dir=".") as place:
        first = assembled(
            Case(case.name, case.widths, case.num_rows, case.batch_size, 10, case.limit), Path(place) / "first", NEVER
        )
        first.trainer.run()
        assert first.folder is not None
        state = load_checkpoint(checkpoints(first.folder.checkpoints)[0])
        first.folder.close()
        samples = position * case.batch_size
        state["recorder"]["rows"] = dict.fromkeys(state["recorder"]["rows"], 0)  # the new folders have none
        state["step"] |= {"clock": {"steps": position, "samples": samples, "tokens": 0}, "cursor": position}
        for number in range(num_rounds):
            again = assembled(case, Path(place) / f"again-{number}", NEVER)
            assert again.folder is not None
            save_checkpoint(again.folder.checkpoints, snapshot(state), step=position)
            started = time.perf_counter()
            again.trainer.resume()
            again.source.next(again.step.cursor)
            seconds.append(time.perf_counter() - started)
            again.folder.close()
    return seconds


def measure(case: Case, num_rounds: int) -> list[Bar]:
    """The bars of one case."""
    with_saves: list[float] = []
    without: list[float] = []
    waits: list[float] = []
    plain_waits: list[float] = []
    for round_ in range(num_rounds + 1):
        one, wait = trained(case, EVERY)
        other, _ = trained(case, NEVER)
        _, plain_wait = trained(case, EVERY, by="torch.save")
        if round_ > 0:  # the first warms up
            with_saves.append(one)
            without.append(other)
            waits.append(wait)
            plain_waits.append(plain_wait)
    cost = Spread.of(ratios(with_saves, without))
    plain = Spread.of(plain_waits).median
    block = Spread.of(ratios(waits, plain_waits))
    early, late = resume_seconds(case, 10, num_rounds), resume_seconds(case, 10**6, num_rounds)
    far = Spread.of(ratios(late, early))
    print(f"{case.name}: {1e6 * Spread.of(without).median / case.num_steps:.0f} us a step; a checkpoint every {EVERY} steps:")
    print(f"  time over without {cost.median:.3f} ({cost.lower:.3f} - {cost.upper:.3f}) of {num_rounds} rounds")
    print(
        f"  the step waits {1e3 * Spread.of(waits).median:.2f} ms, torch.save takes {1e3 * plain:.2f}: {block.median:.2f} of it"
    )
    print(f"  resume at step 10: {1e3 * Spread.of(early).median:.1f} ms; at step 1,000,000 over that {far.median:.2f}")
    return [
        Bar(f"{case.name}, time with saving over without", "at most", case.limit, cost.median),
        Bar(f"{case.name}, wait over torch.save", "at most", 0.2, block.median),
        Bar(f"{case.name}, resume at step 10^6 over step 10", "at most", 1.25, far.median),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases and print the bars."""
    parser = argparse.ArgumentParser(description="What checkpoints cost.")
    parser.add_argument("--rounds", type=int, default=11, help="rounds that count")
    parser.add_argument("--json", type=Path, help="also write the bars here")
    options: Any = parser.parse_args(arguments)
    torch.set_num_threads(1)
    bars = [bar for case in CASES for bar in measure(case, options.rounds)]
    print(summary(bars))
    if options.json is not None:
        options.json.write_text(json.dumps([bar.to_dict() for bar in bars], indent=2) + "\n")


if __name__ == "__main__":
    main()
