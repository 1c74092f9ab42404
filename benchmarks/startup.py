"""What starting costs: `import stepwell` beside `import torch`, and `stepwell --help`, each a fresh process, in pairs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.timing import Spread


@dataclass(frozen=True)
class Startup:
    """Seconds, each with its spread over the rounds.

    Args:
        torch: a process that imports torch.
        stepwell: a process that imports stepwell and torch.
        added: stepwell minus torch, pair by pair.
        first_use: a process that has `stepwell.fit` and `stepwell.Recipe` at hand; names are found when first asked for.
        help: `stepwell --help`, or None where the command is not installed.
    """

    torch: Spread
    stepwell: Spread
    added: Spread
    first_use: Spread
    help: Spread | None


def seconds(command: Sequence[str]) -> float:
    """Wall seconds of a process.

    Raises:
        RuntimeError: it failed.
    """
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - start
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return taken


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
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for round_ in range(num_rounds + 1):
        for name, command in commands.items():
            value = seconds(command)
            if round_ > 0:
                taken[name].append(value)
    return Startup(
        torch=Spread.of(taken["torch"]),
        stepwell=Spread.of(taken["stepwell"]),
        added=Spread.of(differences(taken["stepwell"], taken["torch"])),
        first_use=Spread.of(taken["first_use"]),
        help=Spread.of(taken["help"]) if script is not None else None,
    )


def startup_table(measured: Startup) -> str:
    """What was measured, one line each, in seconds."""
    rows = {
        "import torch": measured.torch,
        "import stepwell, torch": measured.stepwell,
        "the difference, in pairs": measured.added,
        "from stepwell import Recipe, fit": measured.first_use,
        "stepwell --help": measured.help,
    }
    lines = [f"\nstarting up {'':22s} {'seconds':>8s}  {'quartiles':>15s}"]
    found = {name: its for name, its in rows.items() if its is not None}
    return "\n".join(
        lines + [f"{name:34s} {its.median:8.2f}  {its.lower:6.2f} - {its.upper:6.2f}" for name, its in found.items()]
    )
