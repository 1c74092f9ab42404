"""Loader processes: tasks go out in turn, results come back in order, and none that dies or hangs holds up the run."""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import multiprocessing
import os
import re
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
from torch.utils.data import Dataset

from stepwell.core.errors import DataError, StepwellError, TrainingStopped
from stepwell.data.failures import Failure, is_library
from stepwell.data.parcels import WRITE, Line

__all__ = ["Crew", "Fetch", "Watch", "unshared"]

logger = logging.getLogger("stepwell.data")
SLICE = 0.2  # seconds: how often a wait looks whether a signal came
LIMIT = 300.0  # seconds in which a worker neither begins a sample nor delivers, until it counts as hung
MOST_RESTARTS = 3  # of one worker, without a batch from it in between
AHEAD = 2  # tasks that each worker has at most
NO_SAMPLE = -1
_COLUMNS = 3  # of each worker in the shared marks: samples begun, the one at work, where its stack can be read
_PR_SET_PDEATHSIG = 1


@dataclass
class Watch:
    """What a wait for data lets others do.

    Args:
        poll: called between samples, and every fifth of a second of a wait; raises to end it.
        tell: called with a kind and details of what goes on record.
    """

    poll: Callable[[], None] = lambda: None
    tell: Callable[..., None] = lambda kind, **detail: None


class Fetch(Protocol):
    """The work of one task: `note` is called with each sample's place before it is read, and with -1 after the last."""

    def __call__(self, keys: Any, note: Callable[[int], None]) -> Any: ...


@dataclass
class _Worker:
    process: Any
    line: Line
    tasks: deque[tuple[int, Any]] = field(default_factory=deque)  # given and not answered yet
    deaths: int = 0  # since it last delivered


class Crew:
    """Some processes that fetch batches.

    Args:
        fetch: the work. Where processes are spawned, it has to be one that can be pickled.
        size: how many processes, >= 1; each starts with its first task.
        watch: who is asked and told while waiting.
        number_of: the number under which the user knows a place of a key.
    """

    def __init__(self, fetch: Fetch, *, size: int, watch: Watch | None = None, number_of: Callable[[int], int] = int) -> None:
        self._fetch, self._size, self._watch, self._number_of = fetch, size, watch or Watch(), number_of
        self._context = multiprocessing.get_context()
        self._marks = self._context.RawArray("q", _COLUMNS * size)
        self._workers: dict[int, _Worker] = {}

    def results(self, tasks: Iterable[Any]) -> Generator[Any]:
        """What `fetch` returns for each task, in order.

        Raises:
            TrainingStopped: a worker hung, or died again and again.
            DataError: the work can't be handed to a process.
        """
        waiting, given, number = iter(tasks), 0, 0
        try:
            while True:
                while given < number + AHEAD * self._size and (task := next(waiting, waiting)) is not waiting:
                    self._give(given, task)
                    given += 1
                if number == given:
                    return
                yield self._result(number)
                number += 1
        finally:
            self.close()

    def close(self) -> None:
        """End all processes: idle ones end by themselves, the others are killed."""
        workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            worker.line.close()
        patience = time.monotonic() + 0.5
        for worker in workers:
            worker.process.join(max(patience - time.monotonic(), 0.0))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _give(self, number: int, task: Any) -> None:
        index = number % self._size
        worker = self._workers.get(index) or self._start(index)
        worker.tasks.append((number, task))
        self._send(worker, number, task)

    def _send(self, worker: _Worker, number: int, task: Any) -> None:
        with suppress(EOFError):  # its death is found where its result is waited for, and the task sent anew
            worker.line.send((number, task))

    def _result(self, number: int) -> Any:
        index = number % self._size
        while True:
            worker = self._workers[index]
            try:
                answered, answer = worker.line.receive()
            except EOFError:
                self._replace(index)
                continue
            assert answered == number, "results come in order"
            worker.tasks.popleft()
            worker.deaths = 0
            return answer

    def _start(self, index: int) -> _Worker:
        ours, theirs = socket.socketpair()
        self._marks[_COLUMNS * index + 1] = NO_SAMPLE
        arguments = (theirs, self._fetch, index, self._size, self._marks)
        process = self._context.Process(target=_serve, args=arguments, name=f"stepwell-worker-{index}", daemon=True)  # type: ignore[attr-defined]
        try:
            process.start()
        except OSError as error:
            raise TrainingStopped(
                f"worker {index} of {self._size} can't be started: {error}",
                expected="memory and processes for every worker",
                fix="Use fewer workers, or raise the limits (ulimit -u, ulimit -v)",
            ) from error
        except Exception as error:  # whatever an object raises that can't be pickled
            raise DataError(
                f"the dataset can't be handed to a worker process ({type(error).__name__}: {error})",
                expected="a dataset that can be pickled, where processes are spawned",
                fix="Open files and connections when the first sample is read, and use no lambdas; or set workers: 0",
            ) from error
        finally:
            theirs.close()
        ours.setblocking(False)
        worker = self._workers[index] = _Worker(process, Line(ours, lambda what: self._wait(index, what)))
        return worker

    def _wait(self, index: int, what: str) -> None:
        """Until a worker's line is ready, it has died, or it hung."""
        worker, waited, begun = self._workers[index], 0.0, self._marks[_COLUMNS * index]
        poller = select.poll()
        poller.register(worker.line.end, select.POLLOUT if what == WRITE else select.POLLIN)
        while not poller.poll(1000 * SLICE):
            self._watch.poll()
            if not worker.process.is_alive():
                if poller.poll(0):  # its last words
                    return
                raise EOFError
            # Slices are counted, not the clock: it goes on while the whole job is stopped.
            waited += SLICE
            if self._marks[_COLUMNS * index] != begun:
                begun, waited = self._marks[_COLUMNS * index], 0.0
            if waited > LIMIT:
                raise self._hung(index)

    def _replace(self, index: int) -> None:
        """A new process in the place of one that died, with the same tasks.

        Raises:
            TrainingStopped: it has died too often.
        """
        dead = self._workers[index]
        dead.line.close()
        dead.process.join(1.0)
        if dead.process.is_alive():
            dead.process.kill()
            dead.process.join()
        self._watch.poll()  # a signal to the whole group takes the workers too
        cause, expected, fix = _cause_of(dead.process.exitcode)
        sample = self._sample(index)
        what = f"worker {index} of {self._size} {cause}, {self._doing(index)}"
        if dead.deaths >= MOST_RESTARTS:
            times = f" It was restarted {MOST_RESTARTS} times in a row" if MOST_RESTARTS else ""
            raise TrainingStopped(f"{what}.{times}", expected=expected, fix=fix)
        logger.warning("%s; it is started again at the same place", what)
        self._watch.tell("worker_restarted", worker=index, sample=sample, cause=cause, in_a_row=dead.deaths + 1)
        worker = self._start(index)
        worker.deaths, worker.tasks = dead.deaths + 1, dead.tasks
        for number, task in worker.tasks:
            self._send(worker, number, task)

    def _sample(self, index: int) -> int | None:
        place = self._marks[_COLUMNS * index + 1]
        return None if place == NO_SAMPLE else self._number_of(place)

    def _doing(self, index: int) -> str:
        sample = self._sample(index)
        if sample is not None:
            return f"while it read sample {sample} of the dataset"
        return "between samples" if self._marks[_COLUMNS * index] else "before its first sample"

    def _hung(self, index: int) -> StepwellError:
        worker = self._workers[index]
        doing = self._doing(index)  # first: the signal that asks where it is may wake it
        place = _where_it_is(worker.process.pid, self._marks[_COLUMNS * index + 2])
        worker.process.kill()
        return TrainingStopped(
            f"worker {index} of {self._size} has not moved for {LIMIT:g} seconds, {doing}{place}",
            expected="samples that can be read in less time",
            fix="Look for locks, network reads without a timeout and endless loops there; workers: 0 shows it in this process",
        )


def _serve(end: socket.socket, fetch: Fetch, index: int, size: int, marks: Any) -> None:
    """The life of a worker: until the line is closed."""
    _end_with_parent()
    # The training process decides what a signal means; SIGTERM still ends a worker.
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    marks[_COLUMNS * index + 2] = _stack_shown_in()
    torch.set_num_threads(1)
    _say_who(index, size, fetch)

    def note(place: int) -> None:
        marks[_COLUMNS * index + 1] = place
        marks[_COLUMNS * index] += 1

    line = Line(end)
    try:
        while True:
            number, keys = line.receive()
            answer = fetch(keys, note)
            try:
                line.send((number, answer))
            except EOFError:
                return
            except Exception as error:
                line.send((number, Failure.of_batch(error)))
    except EOFError:
        return


def _end_with_parent() -> None:
    """See to it that this process ends when its parent has ended, even where it was killed, and whatever this one does."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    # It holds for the thread that started this process, too: a crew is used in the thread that it began in, or starts anew.
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if library is not None and hasattr(library, "prctl") and library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) == 0:
        if not parent.is_alive():
            os._exit(1)
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _stack_shown_in() -> int:
    """The number of a file that this process's stack is written to on SIGUSR2, 0 where there is no such thing."""
    try:
        shown = os.memfd_create("stepwell-stack")
        faulthandler.register(signal.SIGUSR2, file=shown)
    except (AttributeError, OSError):
        return 0
    return shown


def _where_it_is(pid: int, shown: int) -> str:
    """The line of the user's code at which a process is, as far as it can be found out."""
    if not shown:
        return ""
    try:
        os.kill(pid, signal.SIGUSR2)
        time.sleep(SLICE)
        with open(f"/proc/{pid}/fd/{shown}", encoding="utf-8", errors="replace") as file:
            stack = file.read(1 << 16)
    except OSError:
        return ""
    frames = re.findall(r'File "([^"]+)", line (\d+) in (\S+)', stack)
    own = [frame for frame in frames if not is_library(frame[0])] or frames
    return ", at {}:{} in {}".format(*own[0]) if own else ""


def _say_who(index: int, size: int, fetch: Fetch) -> None:
    """What `torch.utils.data.get_worker_info` tells datasets that ask for it."""
    from torch.utils.data._utils import worker

    seed, dataset = torch.initial_seed(), cast("Dataset[Any]", getattr(fetch, "dataset", None))
    worker._worker_info = worker.WorkerInfo(id=index, num_workers=size, seed=seed, dataset=dataset)


@contextmanager
def unshared() -> Iterator[None]:
    """Here a worker isn't known as one: torch's default_collate would else fill /dev/shm, which batches don't travel through."""
    from torch.utils.data._utils import worker

    known, worker._worker_info = worker._worker_info, None
    try:
        yield
    finally:
        worker._worker_info = known


def _cause_of(code: int | None) -> tuple[str, str, str]:
    """How a process ended, what would have been better, and what to do about it."""
    if code is None:
        return "ended", "workers that live as long as the run", "Look for what ended it, or set workers: 0"
    if code >= 0:
        fix = (
            "Look for os._exit in the code that reads samples; where processes are spawned, the script's own work belongs under "
        )
        return f"ended itself with exit status {code}", "a dataset that returns samples", fix + 'if __name__ == "__main__":'
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    cause = f"was killed by {name}"
    if name == "SIGKILL":
        fix = "Use fewer workers or smaller batches, and look for OOM in the system's log (dmesg)"
        return f"{cause} (probably the system ran out of memory)", "memory for all workers at once", fix
    if name == "SIGBUS":
        fix = "Raise it (docker run --shm-size=8g), or use fewer workers"
        return f"{cause} (probably shared memory is too small{_free_shared_memory()})", "enough shared memory", fix
    if name in ("SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE"):
        fix = "Look at that sample and at the library that reads it; workers: 0 with `python -X faulthandler` shows where"
        return f"{cause} (a fault in native code that reads samples)", "a dataset whose samples can all be read", fix
    return cause, "workers that live as long as the run", "Look for what sent the signal"


def _free_shared_memory() -> str:
    try:
        space = os.statvfs("/dev/shm")
    except OSError:
        return ""
    return f": {space.f_bavail * space.f_frsize >> 20} MiB of /dev/shm are free"
