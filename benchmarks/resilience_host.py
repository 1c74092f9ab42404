"""Runs one trainer's script in processes that may be killed: the trainer is imported once, each trial is a fork of it.

`Host` is the side of the benchmark, `main` the side of the trainer; they exchange lines of JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.metadata
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

MODES = {"log": 1, "kill": 2, "full": 3}
START_LIMIT = 180.0


@dataclass(frozen=True)
class Fault:
    """What happens to the files below the run's folder, from the start of a step on.

    Args:
        mode: "log" writes down the calls that change files, "kill" ends the process before one of them is made, "full"
            lets it and every later write fail for want of space.
        step: the step at whose start the counting begins.
        at: which call, counted from 1; without meaning for "log".
        until: the step at whose start it ends; None goes on to the end.
        part: only calls on paths with this part are counted; a full disk then fails writes to all files.
    """

    mode: Literal["log", "kill", "full"]
    step: int
    at: int = 0
    until: int | None = None
    part: str = ""


@dataclass(frozen=True)
class Trial:
    """One process.

    Args:
        folder: the run's folder.
        beside: a folder for what the process prints and for its result.
        setting: how the trainer is used.
        resume: whether an interrupted run is to go on.
        kill_after: completed steps of this process after which it is killed; None lets it run.
        weights_every: steps between copies of the first layer's weights to `beside/weights-N.bin`; 0 copies none.
        fault: what happens to its files.
    """

    folder: str
    beside: str
    setting: str
    resume: bool = False
    kill_after: int | None = None
    weights_every: int = 0
    fault: Fault | None = None


@dataclass(frozen=True)
class Reply:
    """How a process ended.

    Args:
        code: exit code; negative for a signal; None where it ran past its time and was ended.
        num_steps: steps it began.
        digest: of the final weights, where it came to its end.
        num_updates: optimizer steps in them.
        error: the exception that ended it, type and message.
        printed: all that it wrote to its two streams.
    """

    code: int | None
    num_steps: int = 0
    digest: str | None = None
    num_updates: int | None = None
    error: str | None = None
    printed: str = ""


def compiled_faults(folder: Path) -> Path | None:
    """The library that makes faults, built into the folder; None where there is no C compiler or no Linux."""
    library = folder / "faults.so"
    source = Path(__file__).with_name("resilience_faults.c")
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"]
    try:
        built = subprocess.run(command, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return library if sys.platform == "linux" and built.returncode == 0 else None


class Host:
    """A trainer, imported and waiting: `with Host(...) as host: host.run(trial)`.

    Args:
        module: the script's module; its `PACKAGES`, `SETTINGS` and `train` are used.
        library: from `compiled_faults`; None leaves only kills at the start of a step.
        limit: seconds that a process may take.
    """

    def __init__(self, module: str, *, library: Path | None, limit: float) -> None:
        self.module, self.library, self.limit = module, library, limit
        self.about: dict[str, Any] = {}

    def __enter__(self) -> Host:
        root = str(Path(__file__).resolve().parents[1])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        surroundings = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths)}
        if self.library is not None:
            surroundings["LD_PRELOAD"] = str(self.library)
        command = [sys.executable, "-m", "benchmarks.resilience_host", self.module]
        self._process = subprocess.Popen(
            command,
            cwd=root,
            env=surroundings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.about = self._read(START_LIMIT)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def run(self, trial: Trial) -> Reply:
        """One process, to its end."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(trial) | {"limit": self.limit}) + "\n")
        self._process.stdin.flush()
        answer = self._read(self.limit + 30)
        beside = Path(trial.beside)
        result = beside / "result.json"
        facts = json.loads(result.read_text()) if result.exists() else {}
        printed = (beside / "printed.txt").read_text(errors="replace")
        steps = len((beside / "steps.bin").read_bytes())
        return Reply(code=answer["code"], num_steps=steps, printed=printed, **facts)

    def _read(self, limit: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], limit)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self._process.kill()
            raise RuntimeError(f"{self.module} doesn't answer any more")
        answer: dict[str, Any] = json.loads(line)
        return answer


def watcher(trial: Trial, arm: Callable[[Fault | None], None]) -> Callable[[Callable[[], bytes]], None]:
    """What a script calls at the start of each step: counts, kills and arms."""
    count = 0
    steps = os.open(Path(trial.beside) / "steps.bin", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def step_begins(first_weights: Callable[[], bytes]) -> None:
        nonlocal count
        if trial.weights_every and count and count % trial.weights_every == 0:
            (Path(trial.beside) / f"weights-{count}.bin").write_bytes(first_weights())
        if count == trial.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        os.write(steps, b".")
        if trial.fault is not None and count == trial.fault.step:
            arm(trial.fault)
        if trial.fault is not None and count == trial.fault.until:
            arm(None)

    return step_begins


def _armed(trial: Trial) -> Callable[[Fault | None], None]:
    log = os.open(Path(trial.beside) / "calls.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)

    def arm(fault: Fault | None) -> None:
        faults = ctypes.CDLL(None).faults_arm
        faults.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]
        number, at, part = (0, 0, "") if fault is None else (MODES[fault.mode], fault.at, fault.part)
        faults(number, at, os.fsencode(trial.folder), os.fsencode(tempfile.gettempdir()), part.encode(), log)

    return arm


def _child(script: Any, trial: Trial) -> int:
    """The forked process: train, and leave a result."""
    from benchmarks.resilience_peers import task

    printed = os.open(Path(trial.beside) / "printed.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    # Temporary files on the disk of the run: the kinder case for who moves them to their place.
    temporary = Path(trial.folder).with_name("tmp")
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    task.set_watch(watcher(trial, _armed(trial)))
    facts: dict[str, Any]
    try:
        trained = script.train(task.Call(Path(trial.folder), trial.resume, trial.setting))
        facts, code = {"digest": trained.digest, "num_updates": trained.num_updates}, 0
    except BaseException as error:
        traceback.print_exc()
        facts, code = {"error": f"{type(error).__name__}: {error}"}, 1
    sys.stdout.flush()
    sys.stderr.flush()
    (Path(trial.beside) / "modules.txt").write_text("\n".join(sys.modules))
    (Path(trial.beside) / "result.json").write_text(json.dumps(facts))
    return code


def _awaited(process: int, limit: float) -> int | None:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def _trials(lines: IO[str]) -> Iterator[tuple[Trial, float]]:
    for line in lines:
        asked = json.loads(line)
        limit = asked.pop("limit")
        fault = asked.pop("fault")
        yield Trial(**asked, fault=None if fault is None else Fault(**fault)), limit


def _import_as(beside: Path) -> None:
    """Import here what the first trial imported while it ran, so that the next ones needn't: it is most of their time."""
    names = beside / "modules.txt"
    for name in names.read_text().split() if names.exists() else ():
        if name not in sys.modules and name.startswith(("torch.", "transformers.", "accelerate.", "lightning.", "stepwell.")):
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def about(script: Any) -> dict[str, Any]:
    """The installed versions of a script's packages, and its settings."""
    versions = {}
    for package in script.PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    settings = {
        name: {"title": setting.title, "save_every": setting.save_every, "part": setting.part}
        for name, setting in script.SETTINGS.items()
    }
    return {"versions": versions, "settings": settings}


def main() -> None:
    """The trainer's side: import it, then fork for each line that comes in."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        script = importlib.import_module(sys.argv[1])
        first = about(script)
    except ImportError as error:
        first = {"missing": str(error)}
    print(json.dumps(first), file=answers, flush=True)
    warm = False
    for trial, limit in _trials(sys.stdin):
        process = os.fork()
        if process == 0:
            os._exit(_child(script, trial))
        print(json.dumps({"code": _awaited(process, limit)}), file=answers, flush=True)
        if not warm:
            _import_as(Path(trial.beside))
            warm = True


if __name__ == "__main__":
    main()
