"""Ctrl-C and SIGTERM as a flag that the training loop polls: the step in progress ends, its state is saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class SignalFlag:
    """`with SignalFlag() as flag:` sets `flag.number` on the first signal; a second Ctrl-C ends at once.

    Outside the main thread Python allows no handlers, and the flag stays 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> SignalFlag:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
