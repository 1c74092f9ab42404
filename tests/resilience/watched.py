"""Cases run in a process of their own, under an audit hook and limits on memory and processor time.

`Watched("job_cases", "inline")` starts a fresh interpreter that imports the module `job_cases` beside this file, calls its
`warm_up()` and then `run(case)` for each case it is sent. An audit hook can't be removed again, so it is installed there
and nowhere else. "inline" runs all cases in one process, so that growth adds up; "fork" gives each case a copy of the
warmed-up process, so that a case can spend its limits without harm to the next.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal

Mode = Literal["inline", "fork"]
SECONDS = 2.0  # of the processor: more is a hang
PATIENCE = 300.0  # of the clock, on a machine that others use too
HERE = Path(__file__).parent

# What never happens while data is read, whatever it holds.
FORBIDDEN = {
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate"),
    *("os.putenv", "os.unsetenv", "shutil.rmtree", "shutil.move", "shutil.copyfile", "shutil.unpack_archive"),
    *("pickle.find_class", "urllib.Request", "webbrowser.open", "ctypes.dlopen", "code.__new__", "sys.addaudithook"),
}
# Modules that reading may load late: our own, and parts of the libraries that it is done with.
LATE = ("stepwell", "encodings", "PIL", "pandas", "pyarrow", "numpy", "torch", "safetensors", "pydantic", "yaml", "gzip", "zlib")
# These make code from source on disk: methods of dataclasses and named tuples, annotations, modules that are imported.
MAKERS = (
    "dataclasses.py",
    "typing.py",
    "collections/__init__.py",
    "<frozen importlib._bootstrap>",
    "<frozen importlib._bootstrap_external>",
)

_seen: list[str] | None = None


def _made_from_source() -> bool:
    frame: FrameType | None = sys._getframe(2)
    return frame is not None and frame.f_code.co_filename.endswith(MAKERS)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    if event in FORBIDDEN:
        _seen.append(f"{event} {str(arguments)[:200]}")
    elif event == "exec" and not _made_from_source() and not os.path.exists(arguments[0].co_filename):
        _seen.append(f"exec {arguments[0].co_filename}")
    elif event == "compile" and arguments[0] is not None and not _made_from_source() and not _only_parsed():
        _seen.append(f"compile {str(arguments[0])[:200]}")
    elif event == "import" and str(arguments[0]).split(".")[0] not in LATE:
        _seen.append(f"import {arguments[0]}")
    elif event == "open" and _writes(arguments):
        _seen.append(f"open for writing {arguments[0]}")


def _only_parsed() -> bool:
    # ast.literal_eval, with which numpy reads headers, makes a tree; running one would be an "exec".
    frame: FrameType | None = sys._getframe(2)
    return frame is not None and os.path.basename(frame.f_code.co_filename) == "ast.py"


def _writes(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2] if isinstance(arguments[2], int) else 0
    mode = arguments[1] if isinstance(arguments[1], str) else ""
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) or set(mode) & set("wax+"))


@contextlib.contextmanager
def watching() -> Iterator[list[str]]:
    """What the hook notices within the block; only after `sys.addaudithook(_audit)`."""
    global _seen
    _seen = noticed = []
    try:
        yield noticed
    finally:
        _seen = None


def memory() -> dict[str, int]:
    """Bytes of this process: address space and resident."""
    pages = [int(word) for word in Path("/proc/self/statm").read_text(encoding="ascii").split()[:2]]
    return {"space": pages[0] * resource.getpagesize(), "resident": pages[1] * resource.getpagesize()}


class Watched:
    """The other end: sends cases and gets what they did.

    Args:
        module: beside this file, with `warm_up()` and `run(case) -> dict`.
        mode: "inline" or "fork".
        mebibytes: of memory that a case may take beside what the warmed-up process has.
        folder: where it runs; it holds the canaries.
    """

    def __init__(self, module: str, mode: Mode, *, folder: Path, mebibytes: int) -> None:
        self._words = [sys.executable, str(HERE / "watched.py"), module, mode, str(mebibytes)]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def run(self, case: dict[str, Any]) -> dict[str, Any]:
        """What a case did: "outcome" and whatever its `run` returned, "events", "seconds", "resident".

        A case that spent its limit or brought the process down has the outcome "killed".
        """
        process = self.started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(case).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        line = process.stdout.readline() if ready else b""
        if not line:
            self._end()
            return {"outcome": "killed", "events": [], "seconds": SECONDS, "resident": 0}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def started(self) -> subprocess.Popen[bytes]:
        """The process, warmed up; a new one where the last case ended it."""
        if self._process is not None:
            return self._process
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(self._folder)}
        self._process = subprocess.Popen(
            self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=self._folder, env=environment
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", "the watched process did not start"
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _timed(module: Any, case: dict[str, Any]) -> dict[str, Any]:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process
    before = time.process_time()
    with watching() as noticed:
        try:
            told = module.run(case)
        except BaseException as error:
            told = {"outcome": "crashed", "error": f"{type(error).__name__}: {str(error)[:500]}", "trace": _places(error)}
    signal.setitimer(signal.ITIMER_PROF, 0)
    return told | {"events": noticed, "seconds": time.process_time() - before, "resident": memory()["resident"]}


def _places(error: BaseException) -> list[str]:
    trace, places = error.__traceback__, []
    while trace is not None:
        places.append(f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}")
        trace = trace.tb_next
    return places[-6:]


def _forked(module: Any, case: dict[str, Any], limit: int) -> dict[str, Any]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        with os.fdopen(writer, "wb") as file:
            file.write(json.dumps(_timed(module, case)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        ready, _, _ = select.select([file], [], [], PATIENCE / 2)
        content = file.read() if ready else b""
    if not content:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not content:
        return {"outcome": "killed", "signal": status & 127, "events": [], "seconds": SECONDS, "resident": 0}
    told: dict[str, Any] = json.loads(content)
    return told


def _serve(name: str, mode: str, mebibytes: int) -> None:
    # What a case prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    module = importlib.import_module(name)
    module.warm_up()
    sys.addaudithook(_audit)
    limit = memory()["space"] + (mebibytes << 20)
    if mode == "inline":
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    answers.write(b"ready\n")
    answers.flush()
    for line in sys.stdin.buffer:
        case = json.loads(line)
        told = _forked(module, case, limit) if mode == "fork" else _timed(module, case)
        answers.write(json.dumps(told).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    # As a module of its own name, so that the hook and `watching` share one list.
    sys.modules["watched"] = sys.modules["__main__"]
    _serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
