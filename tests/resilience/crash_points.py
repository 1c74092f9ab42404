"""Every call to the operating system of one save: in which order they come, and what a kill at each leaves behind."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from audited import audited
from forked import Marks, done, forked
from small_runs import (
    INTERVAL,
    MARKS,
    count_calls,
    differences,
    kill_this_process,
    remains,
    temporaries,
    train,
)
from system_calls import Call

from stepwell.core.errors import RunFolderError
from stepwell.engine.records.checkpoint import checkpoints, verify_checkpoint

STOPPED_AT = 2 * INTERVAL + 1
SAVED = 3 * INTERVAL
Prepare = Callable[[], None]


def stopped_run(variant: str, folder: Path, **changes: Any) -> None:
    """A run that was killed when it had two checkpoints, a step after the second."""
    marks = Marks(*MARKS)

    def aim(moment: str, step: int) -> None:
        if (moment, step) == ("stepped", STOPPED_AT):
            while marks["in_save"] or marks["saved"] < STOPPED_AT - 1:
                time.sleep(0.001)
            kill_this_process()

    assert forked(lambda: train(variant, folder, marks=marks, aim=aim, **changes)).killed


def calls_of_a_save(variant: str, folder: Path, *, mode: str, plant: Prepare | None = None) -> list[Call]:
    """The calls of the save of step SAVED, with which the oldest of three checkpoints goes; the run is then at its end."""

    def work() -> list[Any]:
        calls: list[Any] = []
        _at_calls_of_the_save(
            variant, folder, mode, plant, lambda number, side, call: calls.append([side, call.kind, call.path, call.old])
        )
        return calls

    return [Call(*call) for side, *call in done(work) if side == "after"]


def _at_calls_of_the_save(
    variant: str, folder: Path, mode: str, plant: Prepare | None, tell: Callable[[int, str, Call], None]
) -> None:
    """Train on in a child; `tell` hears of each call that the save makes, with its number from 0."""
    if plant is not None:
        plant()
    thread, number = 0, -1

    def at_call(_: int, side: str, call: Call) -> None:
        nonlocal number
        if thread == threading.get_ident():  # metrics are written by another thread meanwhile
            number += side == "before"
            tell(number, side, call)

    def aim(moment: str, step: int) -> None:
        nonlocal thread
        if (moment, step) == ("saving", SAVED):
            thread = threading.get_ident()
        elif moment == "pruned":
            thread = 0

    count_calls(at_call)
    train(variant, folder, aim=aim, saving=mode)


def kill_at_each(
    variant: str,
    stopped: Path,
    where: Path,
    expected: dict[str, bytes],
    *,
    mode: str,
    points: Sequence[tuple[int, str]],
    plant: Prepare | None = None,
    audits: Counter[str] | None = None,
) -> Iterator[tuple[tuple[int, str], list[str]]]:
    """Kill a save before or after its calls, and say for each kill what isn't as it should be.

    Args:
        mode: how the job saves, "wait" or "background".
        stopped: what `stopped_run` left; copied for each trial.
        points: numbers of calls, each with "before" or "after".
        audits: counts what audits said after each kill and at each end.
    """
    audits = Counter() if audits is None else audits
    for point in points:
        folder = where / f"{mode}-{point[0]}-{point[1]}"
        shutil.copytree(stopped, folder)

        def killed(folder: Path = folder, point: tuple[int, str] = point) -> None:
            _at_calls_of_the_save(
                variant, folder, mode, plant, lambda number, side, call: kill_this_process() if (number, side) == point else None
            )

        def resumed(folder: Path = folder) -> None:
            if plant is not None:
                plant()
            train(variant, folder, saving=mode)

        ended = forked(killed)
        problems = [] if ended.killed else [f"not killed: exit {ended.code} {ended.error}"]
        problems += two_are_whole(folder) + audited(folder, audits)
        ended = forked(resumed)
        if ended.code != 0:
            problems.append(f"exit {ended.code}: {ended.error}")
        else:
            problems += [f"{name} differs" for name in differences(remains(folder), expected)]
            problems += [f"{name} was left" for name in temporaries(folder)]
            problems += audited(folder, audits, ended=True)
        shutil.rmtree(folder)
        yield point, problems


def two_are_whole(folder: Path) -> list[str]:
    """A problem unless two checkpoints are there that verify."""
    whole = 0
    for place in checkpoints(folder / "checkpoints"):
        try:
            verify_checkpoint(place)
        except RunFolderError:
            continue
        whole += 1
    return [] if whole >= 2 else [f"only {whole} whole checkpoints"]


def disorder_of_a_save(calls: Sequence[Call], step: int) -> list[str]:
    """What is wrong with the order of a save's calls, by the rules that make it survive a power cut.

    Each file: written, flushed. The manifest last. Then the folder flushed, renamed, the folder above it flushed, everything
    read back, and only then older checkpoints removed.
    """
    problems = []
    kinds = [call.kind for call in calls]
    renamed = [
        index for index, call in enumerate(calls) if call.kind in ("rename", "replace") and call.path.endswith(f"/step-{step}")
    ]
    if len(renamed) != 1:
        return [f"{len(renamed)} renames to step-{step}"]
    place, at = calls[renamed[0]], renamed[0]
    written = [call.path for call in calls[:at] if call.kind == "open"]
    if not written or not written[-1].endswith("manifest.json"):
        problems.append(f"the manifest is not written last: {written}")
    for path in written:
        last = max((index for index in range(at) if calls[index].kind == "write" and calls[index].path == path), default=-1)
        if last < 0 or not any(call.kind == "fsync" and call.path == path for call in calls[last:at]):
            problems.append(f"{Path(path).name} is renamed before it was flushed")
    last = max((index for index in range(at) if kinds[index] == "open"), default=0)
    if not any(call.kind == "fsync folder" and call.path == place.old for call in calls[last:at]):
        problems.append("the new folder is renamed before it was flushed")
    above = str(Path(place.path).parent)
    flushed = next((i for i in range(at, len(calls)) if kinds[i] == "fsync folder" and calls[i].path == above), None)
    removed = [i for i, kind in enumerate(kinds) if kind in ("unlink", "rmdir") and place.old not in calls[i].path]
    read = [index for index, call in enumerate(calls) if call.kind == "open to read" and call.path.startswith(place.path + "/")]
    if flushed is None:
        problems.append("the folder above is not flushed after the rename")
    if {Path(calls[index].path).name for index in read if index > at} != {Path(path).name for path in written}:
        problems.append("not every file is read back")
    if removed and (flushed is None or not read or removed[0] < max(flushed, read[-1])):
        problems.append("an older checkpoint is removed before the new one was read back")
    if not removed:
        problems.append("no older checkpoint is removed")
    return problems


def unflushed_replacements(calls: Sequence[Call]) -> list[str]:
    """Files that were renamed into place before they were flushed, or whose folder was not flushed afterwards."""
    problems = []
    for index, call in enumerate(calls):
        if call.kind == "replace":
            if not any(other.kind == "fsync" and other.path == call.old for other in calls[:index]):
                problems.append(f"{call.path} is replaced by a file that was not flushed")
            above = str(Path(call.path).parent)
            if not any(other.kind == "fsync folder" and other.path == above for other in calls[index:]):
                problems.append(f"the folder of {call.path} is not flushed")
    return problems
