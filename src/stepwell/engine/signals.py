"""Signals as flags that the training loop polls: the step in progress ends, its state is saved, then what was asked happens."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, TypeVar

Item = TypeVar("Item")
# Windows has neither SIGHUP nor SIGUSR1.
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAVING = tuple(getattr(signal, name) for name in ("SIGUSR1",) if hasattr(signal, name))


class Stopped(Exception):
    """A signal to stop came while something other than a step was going on, such as an evaluation."""


class SignalFlag:
    """`with SignalFlag() as flag:` keeps what came: `number` of the first signal to stop, `save` after a request to save.

    Ctrl-C, SIGTERM and SIGHUP stop; SIGUSR1 asks for a checkpoint, and training goes on. A second signal to stop ends the
    process at once. Outside the main thread Python allows no handlers, and nothing is ever noted.
    """

    def __init__(self) -> None:
        self.number = 0
        self.save = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> SignalFlag:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                # What the process was started to ignore stays ignored: `nohup` does so with SIGHUP.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._stop)
            for number in SAVING:
                self._before[number] = signal.signal(number, self._save)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.number = 0  # one that came after the last poll came too late to stop anything

    def polled(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items, until a signal to stop comes.

        Raises:
            Stopped: it came.
        """
        for item in items:
            self.poll()
            yield item
        self.poll()

    def poll(self) -> None:
        """Look whether a signal to stop came.

        Raises:
            Stopped: it did.
        """
        if self.number:
            raise Stopped

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.number = number

    def _save(self, number: int, frame: FrameType | None) -> None:
        self.save = True
