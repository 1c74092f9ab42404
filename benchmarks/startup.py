"""What starting costs: `import stepwell` beside `import torch`, and `stepwell --help`, each a fresh process, in pairs."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.timing import Reading, Spread


@dataclass(frozen=True)
class Taken:
    """Seconds with their spread over the rounds, by the clock on the wall and by the processor."""

    wall: Spread
    cpu: Spread


@dataclass(frozen=True)
class Startup:
    """What starting costs.

    Args:
        torch: a process that imports torch.
        stepwell: a process that imports stepwell and torch.
        added: stepwell minus torch, pair by pair.
        first_use: a process that has `stepwell.fit` and `stepwell.Recipe` at hand; names are found when first asked for.
        help: `stepwell --help`, or None where the command is not installed.
    """

    torch: Taken
    stepwell: Taken
    added: Taken
    first_use: Taken
    help: Taken | None


def reading(command: Sequence[str]) -> Reading:
    """Seconds of a process.

    Raises:
        RuntimeError: it failed.
    """
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return Reading(wall, (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime))


def differences(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours minus theirs, pair by pair.

    >>> differences([3.0, 5.0], [2.0, 2.0])
    [1.0, 3.0]
    """
    return [mine - other for mine, other in zip(ours, theirs, strict=True)]


def command_path() -> str | None:
    """The `stepwell` command beside this Python, or on the PATH."""
    beside = Path(sysconfig.get_path("scripts"), "stepwell")
    return str(beside) if beside.exists() else shutil.which("stepwell")


def startup(num_rounds: int) -> Startup:
    """Measure in turns: torch, stepwell, ..., torch, stepwell, ..., after one unmeasured turn of each."""
    code = {"torch": "import torch", "stepwell": "import stepwell, torch", "first_use": "from stepwell import Recipe, fit"}
    commands = {name: [sys.executable, "-c", line] for name, line in code.items()}
    script = command_path()
    if script is not None:
        commands["help"] = [script, "--help"]
    taken: dict[str, list[Reading]] = {name: [] for name in commands}
    for round_ in range(num_rounds + 1):
        for name, command in commands.items():
            value = reading(command)
            if round_ > 0:
                taken[name].append(value)
    wall = {name: [value.wall for value in values] for name, values in taken.items()}
    cpu = {name: [value.cpu for value in values] for name, values in taken.items()}
    for series in (wall, cpu):
        series["added"] = differences(series["stepwell"], series["torch"])
    found = {name: Taken(Spread.of(wall[name]), Spread.of(cpu[name])) for name in wall}
    return Startup(found["torch"], found["stepwell"], found["added"], found["first_use"], found.get("help"))


def startup_table(measured: Startup) -> str:
    """What was measured, one line each, in seconds."""
    rows = {
        "import torch": measured.torch,
        "import stepwell, torch": measured.stepwell,
        "the difference, in pairs": measured.added,
        "from stepwell import Recipe, fit": measured.first_use,
        "stepwell --help": measured.help,
    }
    lines = [f"\nstarting up {'':22s} {'seconds':>8s}  {'quartiles':>15s}  {'by cpu time':>11s}"]
    for name, its in rows.items():
        if its is not None:
            wall = its.wall
            lines.append(f"{name:34s} {wall.median:8.2f}  {wall.lower:6.2f} - {wall.upper:6.2f}  {its.cpu.median:11.2f}")
    return "\n".join(lines)
