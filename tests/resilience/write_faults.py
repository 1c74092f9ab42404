"""Refusals of the operating system at every kind of call, and what must come of each."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audited import audited
from forked import Marks, forked
from small_runs import INTERVAL, MARKS, differences, remains, temporaries, train, without_names
from system_calls import Call, Calls, put_in

from stepwell.core.errors import RunFolderError
from stepwell.engine.records.checkpoint import checkpoints, verify_checkpoint
from stepwell.engine.records.event_log import read_events

ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EMFILE")
SHORT = "short write"
# What a call is about, and how many calls of each kind go well before the one that is refused.
PLACES = {
    "checkpoint": {"mkdir": [0], "open": [0, 2], "write": [0, 1, 2], "fsync": [0, 2], "close": [1], "fsync folder": [0, 1]}
    | {"rename": [0, 1], "unlink": [0, 2], "rmdir": [0]},
    "metrics": {"write": [0, 3], "fsync": [0]},
    "events": {"write": [0, 1], "fsync": [0]},
    "model": {"mkdir": [0], "open": [0], "write": [0], "fsync": [0], "rename": [0], "fsync folder": [0]},
    "result": {"open": [0], "write": [0], "fsync": [0], "rename": [0]},
}
PARTS = {
    "checkpoint": "/checkpoints/",
    "metrics": "/metrics/",
    "events": "/events.jsonl",
    "model": "/model/",
    "result": "/result.json",
}
AFTER = 8  # steps that go well before a call of metrics or events is refused


@dataclass(frozen=True)
class Fault:
    """One refusal.

    Args:
        error: its name, or SHORT: half of what was asked is written, and the next call fails with ENOSPC.
        place: the kind of call; target: what the call is about, a key of PARTS.
        nth: how many such calls go well before.
        lasting: whether all such calls fail from then on, or that one.
        after: the step whose checkpoint has to be saved before a call about checkpoints is refused; -1 for any.
    """

    error: str
    place: str
    target: str
    nth: int = 0
    lasting: bool = False
    after: int = INTERVAL

    def __str__(self) -> str:
        return f"{self.error} at {self.place} {self.nth} of {self.target}, {'from then on' if self.lasting else 'once'}"


def faults() -> Iterator[Fault]:
    """All of them."""
    for target, places in PLACES.items():
        for place, numbers in places.items():
            for nth in numbers:
                errors = [*ERRORS, SHORT] if place == "write" else ERRORS[:3] if place == "close" else ERRORS
                for error in errors:
                    yield Fault(error, place, target, nth)
                    yield Fault(error, place, target, nth, lasting=True)


class Faulty(Calls):
    """Refuses as a fault says, from the second checkpoint on; "struck" counts how often, "struck_at" is the save it hit."""

    def __init__(self, fault: Fault, marks: Marks) -> None:
        super().__init__()
        self.fault, self.marks, self._met, self._short = fault, marks, 0, ""
        marks["struck"] = 0

    def at(self, call: Call, go_on: Callable[..., Any]) -> Any:
        fault, marks = self.fault, self.marks
        if self._short and call.kind == "write" and call.path == self._short:
            self._short = ""
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), call.path)
        if not self._fits(call):
            return go_on()
        self._met += 1
        if self._met <= fault.nth or (marks["struck"] and not fault.lasting):
            return go_on()
        marks["struck"] += 1
        if marks["in_save"] == 1 and fault.target == "checkpoint" and fault.place not in ("unlink", "rmdir"):
            marks["struck_at"] = marks["saving"]
        if fault.error == SHORT:
            self._short = call.path
            return go_on(call.args[0], call.args[1][: max(len(call.args[1]) // 2, 1)])
        if call.kind == "close":  # the number is free all the same
            go_on()
        number = getattr(errno, fault.error)
        raise OSError(number, os.strerror(number), call.path)

    def _fits(self, call: Call) -> bool:
        fault = self.fault
        kind = "rename" if call.kind == "replace" else call.kind
        path = call.path + ("/" if kind in ("mkdir", "fsync folder") else "")
        if kind != fault.place or PARTS[fault.target] not in path:
            return False
        if fault.target == "checkpoint":
            return self.marks["saved"] >= fault.after
        # The first checkpoint is whole by then: it counts on metrics that were flushed.
        return fault.target in ("model", "result") or (self.marks["step"] >= AFTER and self.marks["saved"] >= INTERVAL)


def trial(
    fault: Fault, folder: Path, expected: dict[str, bytes], *, plant: Callable[[], None] | None = None, **changes: Any
) -> tuple[str, list[str]]:
    """Train into a fault, then go on without it: how the run met it, and what was wrong with that.

    Returns:
        "went on", "stopped" or "not met", and the problems in words.
    """
    marks = Marks(*MARKS, "struck", "struck_at", "saving")

    def work() -> None:
        if plant is not None:
            plant()

        def aim(moment: str, step: int) -> None:
            if moment == "saving":
                marks["saving"] = step

        put_in(Faulty(fault, marks))
        train("ema", folder, marks=marks, aim=aim, **changes)

    ended = forked(work)
    if not marks["struck"]:
        return "not met", [] if ended.code == 0 else [f"exit {ended.code}: {ended.error}"]
    problems = _met(fault, folder, marks, ended.code, ended.error) + audited(folder, Counter())
    if ended.code == 0:
        problems += [f"{name} differs" for name in differences(without_names(remains(folder)), without_names(expected))]
    again = forked(lambda: train("ema", folder, **changes))
    if again.code != 0:
        problems.append(f"went not on afterwards: exit {again.code}: {again.error}\n{again.trace}")
    else:
        problems += [
            f"afterwards {name} differs" for name in differences(without_names(remains(folder)), without_names(expected))
        ]
        problems += [f"afterwards {name} is left" for name in temporaries(folder)]
        problems += [f"afterwards {problem}" for problem in audited(folder, Counter(), ended=True)]
    return "went on" if ended.code == 0 else "stopped", problems


def _met(fault: Fault, folder: Path, marks: Marks, code: int, error: str) -> list[str]:
    """What is wrong with what a refused call left behind."""
    problems = []
    if code not in (0, 2, 3):
        problems.append(f"exit {code}: {error}")
    if code in (2, 3) and not ("; expected " in error and ". " in error):
        problems.append(f"an error without three parts: {error}")
    if fault.place not in ("unlink", "rmdir") and temporaries(folder):
        problems.append(f"left behind: {temporaries(folder)}")
    places = checkpoints(folder / "checkpoints")
    for place in places:
        try:
            verify_checkpoint(place)
        except RunFolderError as damaged:
            problems.append(str(damaged))
    if not any(int(place.name[5:]) >= min(marks["saved"], INTERVAL) for place in places):
        problems.append("no checkpoint is there")
    events = read_events(folder / "events.jsonl")
    saved = {event.step for event in events if event.kind == "saved"}
    failed = {event.step for event in events if event.kind == "save_failed"}
    last = fault.after < 0  # the run only has to end: its exit code says that it couldn't
    if marks["struck_at"] >= 0 and not fault.lasting and not last:
        if marks["struck_at"] in saved:
            problems.append(f"the save of step {marks['struck_at']} counts as saved")
        if marks["struck_at"] not in failed:
            problems.append(f"the save of step {marks['struck_at']} failed in silence")
    kept = {INTERVAL, 2 * INTERVAL} if (fault.place, fault.nth) == ("rename", 1) else {INTERVAL}  # it takes an old one's place
    if fault.target == "checkpoint" and fault.lasting and fault.place not in ("unlink", "rmdir") and saved - kept:
        problems.append(f"saved, though nothing could be saved: {sorted(saved)}")
    if fault.target == "checkpoint" and not fault.lasting and code != 0 and not last:
        problems.append(f"one failed save ended the run: {error}")
    if fault.target in ("model", "result") and code == 0:
        problems.append("the run says that it ended well")
    return problems
