"""One child process per trial: everything is imported once, and a fork costs milliseconds where a start costs seconds.

The parent has one thread and starts no thread pool, so that a fork finds torch as a fresh process would. A child never
returns into pytest: it writes what it found into a pipe and ends. Marks in shared memory outlive a child that is killed.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import select
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

NEVER = -1
LONGEST_LOOK = 0.1  # seconds that one look at a child takes, on a busy machine


class Marks:
    """Whole numbers in memory that parent and child share: where a child was is known after it was killed.

    Args:
        names: of the numbers; each starts as -1.
    """

    def __init__(self, *names: str) -> None:
        self._place = {name: 8 * number for number, name in enumerate(names)}
        self._memory = mmap.mmap(-1, 8 * len(names))
        for name in names:
            self[name] = NEVER

    def __getitem__(self, name: str) -> int:
        value: int = struct.unpack_from("q", self._memory, self._place[name])[0]
        return value

    def __setitem__(self, name: str, value: int) -> None:
        struct.pack_into("q", self._memory, self._place[name], value)

    def values(self) -> dict[str, int]:
        return {name: self[name] for name in self._place}


@dataclass
class Ended:
    """How a child ended.

    Args:
        code: exit status, or minus the number of the signal that ended it.
        value: what its work returned, None where it raised or was killed.
        error: class name and text of what it raised; trace: its traceback.
    """

    code: int
    value: Any = None
    error: str = ""
    trace: str = field(default="", repr=False)

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Child:
    """A forked process at work; its output goes nowhere.

    Args:
        work: what it does; what it returns is handed over as JSON.
        limit: seconds until it counts as hung and is killed; those in which this process didn't run either don't count.
    """

    def __init__(self, work: Callable[[], Any], *, limit: float = 60.0) -> None:
        self._limit = limit
        read, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            _work(work, write)
        os.close(write)
        self._read = read
        self._status: int | None = None

    def poll(self) -> bool:
        """Whether it has ended."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is not None

    def send(self, number: int) -> None:
        """Send it a signal, unless it has ended already."""
        if not self.poll():
            os.kill(self.pid, number)

    def wait(self) -> Ended:
        """Until it has ended.

        Raises:
            AssertionError: it hung.
        """
        pieces, ended, waited, last = [], False, 0.0, time.monotonic()
        while not ended:
            # Its own children may hold the pipe open after it was killed, so its end isn't waited for.
            ended = self.poll()
            ready, _, _ = select.select([self._read], [], [], 0.0 if ended else 0.002)
            if ready and (piece := os.read(self._read, 1 << 16)):
                pieces.append(piece)
                ended = False
            elif ready:
                break
            now = time.monotonic()
            waited, last = waited + min(now - last, LONGEST_LOOK), now  # a machine may stop all its processes for a while
            if waited > self._limit:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError("a child hung")
        os.close(self._read)
        if self._status is None:
            _, self._status = os.waitpid(self.pid, 0)
        told = json.loads(b"".join(pieces)) if pieces and os.WIFEXITED(self._status) else {}
        return Ended(os.waitstatus_to_exitcode(self._status), **told)


def _work(work: Callable[[], Any], write: int) -> None:
    code, told = 0, {}
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        silence = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(silence, number)
        os.chdir(tempfile.gettempdir())  # in a repository, each run would ask git about it
        told = {"value": work()}
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except KeyboardInterrupt:
        code, told = 130, {"error": "KeyboardInterrupt"}
    except BaseException as error:
        code, told = 1, {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        code = getattr(error, "exit_code", 1)
    try:
        rest = json.dumps(told).encode()
        while rest:
            rest = rest[os.write(write, rest) :]
    finally:
        os._exit(code)


def forked(work: Callable[[], Any], *, limit: float = 60.0) -> Ended:
    """Do some work in a child, to its end."""
    return Child(work, limit=limit).wait()


def done(work: Callable[[], Any], *, limit: float = 60.0) -> Any:
    """What work in a child returns.

    Raises:
        AssertionError: it raised, or was ended.
    """
    ended = forked(work, limit=limit)
    assert ended.code == 0, f"exit {ended.code}: {ended.error}\n{ended.trace}"
    return ended.value


def ended(work: Callable[..., Any], *args: Any) -> int:
    """The exit status with which work ends that ends its process."""
    try:
        work(*args)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def import_what_is_used_by(work: Callable[[], Any]) -> None:
    """Import here whatever a child imports while it works, so that later children find it loaded."""

    def modules() -> list[str]:
        work()
        return [name for name in sys.modules if not name.startswith("_") and "." not in name[:1]]

    for name in done(modules, limit=180.0):
        if name not in sys.modules:
            try:
                importlib.import_module(name)
            except ImportError:  # a name that some package gave itself
                continue
