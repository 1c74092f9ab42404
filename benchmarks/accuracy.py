"""Real numbers on real data, several seeds each: `python -m benchmarks.accuracy --help`.

Each target prints its mean, a 95 % t-interval over the seeds, its bar and whether the mean meets it. A target whose data
is not on this machine is skipped, with a message, and never met.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # Before torch: its pool is made once.

import torch

from benchmarks.bars import Bar, summary
from benchmarks.evidence import AbsentError, Finding
from benchmarks.targets.calibration import calibration_mixup, calibration_smoothing, calibration_temperature
from benchmarks.targets.char_lm import char_lm, char_lm_faster
from benchmarks.targets.credit import credit_data, german_credit
from benchmarks.targets.digits import digits
from benchmarks.targets.distillation import distilled
from benchmarks.targets.fashion import fashion
from benchmarks.targets.nyse import nyse, nyse_day_of_week
from benchmarks.targets.schedules import large_batch, large_batch_lamb, large_batch_lars, one_cycle
from benchmarks.targets.state_size import lion_state

Target = Callable[[Sequence[int]], Finding]

# Cheapest first.
TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        lion_state,
        digits,
        nyse,
        nyse_day_of_week,
        german_credit,
        credit_data,
        calibration_smoothing,
        calibration_mixup,
        calibration_temperature,
        fashion,
        large_batch,
        large_batch_lamb,
        large_batch_lars,
        distilled,
        char_lm,
        char_lm_faster,
        one_cycle,
    )
}


@dataclass(frozen=True)
class Outcome:
    """What became of a target.

    Args:
        name: of the target.
        finding: what it measured, or None where it was skipped.
        reason: why it was skipped.
        cpu_seconds: processor time it took.
    """

    name: str
    finding: Finding | None
    reason: str = ""
    cpu_seconds: float = 0.0

    @property
    def text(self) -> str:
        """A paragraph for the terminal."""
        if self.finding is None:
            return f"{self.name}: SKIPPED, {self.reason}"
        return f"{self.finding.text}\n  {self.cpu_seconds:.0f} CPU-seconds"

    @property
    def bar(self) -> Bar:
        """The bar of a finding, or one without a number."""
        return self.finding.bar if self.finding is not None else Bar(self.name, "at least", float("nan"), None, self.reason)

    def to_dict(self) -> dict[str, object]:
        """For the JSON file."""
        if self.finding is None:
            return {"verdict": "skipped", "reason": self.reason}
        return self.finding.to_dict() | {"cpu_seconds": self.cpu_seconds}


def measure(name: str, target: Target, seeds: Sequence[int]) -> Outcome:
    """Run a target; without its data it is skipped."""
    start = time.process_time()
    try:
        finding = target(seeds)
    except AbsentError as absent:
        return Outcome(name, None, str(absent))
    return Outcome(name, finding, cpu_seconds=time.process_time() - start)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description="Real numbers on real data.")
    parser.add_argument(
        "--only", action="append", choices=list(TARGETS), metavar="NAME", help=f"one of {', '.join(TARGETS)}; repeatable"
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds, 0, 1, 2, ... (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    given = parser.parse_args(argv)
    if given.seeds < 1:
        parser.error("--seeds must be at least 1")
    return given


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print findings and bars, write the JSON file."""
    given = arguments(argv)
    torch.set_num_threads(1)
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "stepwell": importlib.metadata.version("stepwell"),
    }
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    outcomes: list[Outcome] = []
    for name in given.only or list(TARGETS):
        print(f"{name} ...", file=sys.stderr, flush=True)
        outcomes.append(measure(name, TARGETS[name], range(given.seeds)))
        print("\n" + outcomes[-1].text, flush=True)
    print("\n" + summary(outcome.bar for outcome in outcomes))
    if given.json is not None:
        record = {"versions": versions, "seeds": given.seeds, "targets": {its.name: its.to_dict() for its in outcomes}}
        given.json.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
