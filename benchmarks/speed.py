"""Time stepwell against hand-written loops and other trainers, in one run: `python -m benchmarks.speed --help`.

Everything is a ratio: marginal seconds per optimizer step, (time of E epochs - time of 1 epoch) / steps, each warm,
taken in turns over several rounds, on one thread. Ratios are taken round by round; their median and quartiles count.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # Before torch: its pool is made once.

import torch

from benchmarks.bars import Bar, summary
from benchmarks.contestants import Task, dataloader_loop, slice_loop, stepwell_fit
from benchmarks.peers import PEERS
from benchmarks.startup import Startup, startup, startup_table
from benchmarks.timing import Series, Spread, interleaved, ratios
from benchmarks.workloads import WORKLOADS, Workload

Run = Callable[[Task, int], torch.nn.Module]
US = "stepwell"
DATALOADER_BAR = 0.40
LIGHTNING_BAR = 5.0
IMPORT_BAR = 0.1
HELP_BAR = 0.4
# Data orders differ between contestants, so losses agree only roughly; another optimizer, schedule or number of
# steps shows as more than this.
LOSS_TOLERANCE = 0.15


@dataclass(frozen=True)
class Standing:
    """One contestant on one workload.

    Args:
        title: its name in tables.
        step: marginal seconds per step.
        ratio: stepwell's wall time over its own.
        cpu_ratio: the same by processor time.
        loss: mean loss of its model after the long run.
        agrees: whether that loss is near the slice loop's.
    """

    title: str
    step: Spread
    ratio: Spread
    cpu_ratio: Spread
    loss: float
    agrees: bool


def agree(loss: float, reference: float, *, start: float) -> bool:
    """Whether two runs did the same work: equally far from the loss of the untrained model, within a tolerance.

    >>> agree(0.50, 0.51, start=2.3), agree(1.2, 0.5, start=2.3)
    (True, False)
    """
    return abs(loss - reference) <= LOSS_TOLERANCE * max(abs(start - reference), 1e-6)


def contestants(peers: Sequence[str]) -> dict[str, Run]:
    """stepwell, the two hand-written loops, and those of the peers that are installed."""
    runs: dict[str, Run] = {US: stepwell_fit, "slice loop": slice_loop, "DataLoader loop": dataloader_loop}
    return runs | {PEERS[name].title: PEERS[name].run for name in peers if PEERS[name].version is not None}


def measure(work: Workload, runs: dict[str, Run], *, num_rounds: int) -> dict[str, Standing]:
    """Time every contestant on a workload."""
    task = Task.of(work)
    models: dict[str, torch.nn.Module] = {}

    def bound(name: str, run: Run) -> Callable[[int], object]:
        def call(num_epochs: int) -> None:
            models[name] = run(task, num_epochs)

        return call

    series = interleaved(
        {name: bound(name, run) for name, run in runs.items()},
        short=1,
        long=work.long,
        steps_per_epoch=task.steps_per_epoch,
        num_rounds=num_rounds,
        progress=lambda line: print(f"  {work.name}: {line}", file=sys.stderr, flush=True),
    )
    start = task.final_loss(task.fresh())
    losses = {name: task.final_loss(model) for name, model in models.items()}
    reference = losses["slice loop"]
    return {
        name: _standing(name, series[name], series[US], loss=losses[name], agrees=agree(losses[name], reference, start=start))
        for name in runs
    }


def _standing(title: str, theirs: Series, ours: Series, *, loss: float, agrees: bool) -> Standing:
    return Standing(
        title=title,
        step=Spread.of(theirs.wall),
        ratio=Spread.of(ratios(ours.wall, theirs.wall)),
        cpu_ratio=Spread.of(ratios(ours.cpu, theirs.cpu)),
        loss=loss,
        agrees=agrees,
    )


def table(work: Workload, standings: dict[str, Standing]) -> str:
    """A workload's standings, one contestant a line."""
    head = f"{'':16s} {'us/step':>9s}  {'stepwell takes':>14s}  {'quartiles':>13s}  {'by cpu time':>11s}  {'final loss':>10s}"
    lines = [f"\n{work.name}: {work.title}", head]
    for name, its in standings.items():
        ratio = f"{its.ratio.median:13.2f}x  {its.ratio.lower:5.2f} - {its.ratio.upper:5.2f}  {its.cpu_ratio.median:10.2f}x"
        ratio = " " * len(ratio) if name == US else ratio
        mark = "" if its.agrees else "  <- differs: not the same work?"
        lines.append(f"{name:16s} {its.step.median * 1e6:9.0f}  {ratio}  {its.loss:10.4f}{mark}")
    return "\n".join(lines)


def speed_bars(work: Workload, standings: dict[str, Standing]) -> list[Bar]:
    """What was promised for a workload. A contestant that did other work gives no number."""

    def ratio(name: str) -> float | None:
        good = name in standings and standings[name].agrees and standings[US].agrees
        return standings[name].ratio.median if good else None

    bars = [Bar(f"{work.name}, time over the slice loop's", "at most", work.slice_bar, ratio("slice loop"), "losses disagree")]
    if work.name == "digits":
        lightning = ratio("Lightning")
        speedup = None if lightning is None else 1 / lightning
        bars += [
            Bar(
                "digits, time over the DataLoader loop's", "at most", DATALOADER_BAR, ratio("DataLoader loop"), "losses disagree"
            ),
            Bar("digits, times as fast as Lightning", "at least", LIGHTNING_BAR, speedup, "Lightning was not measured"),
        ]
    return bars


def startup_bars(measured: Startup) -> list[Bar]:
    """What was promised for starting up."""
    help_ = None if measured.help is None else measured.help.wall.median
    return [
        Bar("import stepwell, seconds more than import torch", "at most", IMPORT_BAR, measured.added.wall.median),
        Bar("stepwell --help, seconds", "at most", HELP_BAR, help_, "the stepwell command is not installed"),
    ]


def versions() -> dict[str, str]:
    """What took part, with its version, or "not installed"."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "stepwell": importlib.metadata.version("stepwell")}
    return found | {peer.title: peer.version or "not installed" for peer in PEERS.values()}


def busy() -> str:
    """A warning where others use this machine too: ratios stay fair then, but scatter."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return (
        f"the machine is busy (load {load:.1f} on {cores} cores): wall times scatter, cpu times less" if load > cores / 2 else ""
    )


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description="Time stepwell against loops and trainers.")
    parser.add_argument(
        "--workload", action="append", choices=list(WORKLOADS), help="one of them; may be repeated (default: all)"
    )
    parser.add_argument("--peers", default="all", help=f"none, all, or names with commas: {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("--no-startup", action="store_true", help="leave out import and --help times")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    given = parser.parse_args(argv)
    given.peers = {"none": [], "all": list(PEERS)}.get(given.peers) or [n for n in given.peers.split(",") if n and n != "none"]
    unknown = [name for name in given.peers if name not in PEERS]
    if unknown:
        parser.error(f"unknown peers: {', '.join(unknown)}; known: {', '.join(PEERS)}")
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    return given


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print tables and bars, write the JSON file."""
    given = arguments(argv)
    torch.set_num_threads(1)
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    warning = busy()
    print(warning, end="\n" if warning else "")
    runs = contestants(given.peers)
    bars: list[Bar] = []
    record: dict[str, Any] = {"versions": versions(), "rounds": given.rounds, "warning": warning, "workloads": {}}
    if not given.no_startup:
        started = startup(given.rounds)
        record["startup"] = asdict(started)
        bars += startup_bars(started)
        print(startup_table(started), flush=True)
    for name in given.workload or list(WORKLOADS):
        standings = measure(WORKLOADS[name], runs, num_rounds=given.rounds)
        record["workloads"][name] = {title: asdict(its) for title, its in standings.items()}
        bars += speed_bars(WORKLOADS[name], standings)
        print(table(WORKLOADS[name], standings), flush=True)
    print("\n" + summary(bars))
    if given.json is not None:
        record["bars"] = [bar.to_dict() for bar in bars]
        given.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
