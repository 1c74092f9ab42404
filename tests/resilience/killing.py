"""Chains of kills and what must hold after each: shared by the suite of kills and by the tests of that suite."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audited import audited
from forked import Child, Ended, Marks, forked
from small_runs import (
    EPOCH,
    INTERVAL,
    MARKS,
    STEPS,
    Aim,
    count_calls,
    differences,
    kill_this_process,
    remains,
    temporaries,
    train,
)

Prepare = Callable[[], None]
AIMED = ("save", "evaluation", "evaluation", "border", "resume", "data")  # few fall into an evaluation by chance


@dataclass
class Kills:
    """What happened in all chains.

    Args:
        trials: kills; by_class: how many fell where, a kill counting for each class it fits.
        problems: what should not have been, in words.
        lost: kills after which training went on, by how many steps were trained again: "an_interval_or_less", or "more", which
            only a save under way explains.
        audits: what audits said, after each kill and at each end.
    """

    trials: int = 0
    chains: int = 0
    by_class: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    audits: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


@dataclass
class Reached:
    """How far a run has come: what the next start is measured by.

    Args:
        saved: step of the newest checkpoint whose save had ended.
        step: completed steps at the last kill; None where training hadn't begun then.
        most: how many of them may be lost.
    """

    saved: int = 0
    step: int | None = None
    most: int = 0


def may_be_lost(marks: Marks, saving: str) -> int:
    """Steps that a kill may cost: those of an interval, and in the background those since the save under way was begun."""
    under_way = marks["begun_save"] > marks["saved"]
    return INTERVAL + (marks["step"] - marks["begun_save"] if under_way and saving == "background" else 0)


def classes(marks: Marks, ended_before: bool) -> list[str]:
    """Which classes a kill belongs to, by where the process was."""
    found = []
    if marks["began"] < 0:
        found.append("before_training")
    if marks["in_save"] == 1 or marks["begun_save"] > marks["saved"]:
        found.append("in_save")
    if marks["in_evaluation"] == 1:
        found.append("in_evaluation")
    if marks["began"] >= 0 and marks["step"] > 0 and marks["step"] % EPOCH == 0 and marks["in_step"] != 1:
        found.append("at_epoch_border")
    if ended_before and (marks["began"] < 0 or marks["step"] - marks["began"] <= 1):
        found.append("after_resume")
    if marks["done"] == 1 or marks["step"] >= STEPS:
        found.append("after_training")
    return found or ["between"]


def whole_run(variant: str, folder: Path, *, plant: Prepare | None = None, **changes: Any) -> tuple[dict[str, bytes], float]:
    """What remains of a run that nobody interrupts, and the seconds that its training takes."""
    marks = Marks(*MARKS)

    def work() -> Any:
        if plant is not None:
            plant()
        return train(variant, folder, marks=marks, **changes)

    child = Child(work)
    while marks["began"] < 0 and not child.poll():
        time.sleep(0.0005)
    started = time.monotonic()
    while marks["step"] < STEPS and not child.poll():
        time.sleep(0.0005)
    seconds = time.monotonic() - started
    ended = child.wait()
    assert ended.code == 0, ended.trace
    return remains(folder), seconds


def chain(
    variant: str,
    folder: Path,
    expected: dict[str, bytes],
    *,
    kills: Kills,
    draw: random.Random,
    seconds: float,
    plant: Prepare | None = None,
    **changes: Any,
) -> None:
    """Kill a run three to five times, let it end, and compare what remains.

    Args:
        expected: what remains of the run that nobody interrupted.
        seconds: that its training took: kills fall at uniform times within.
        plant: changes the product in every child before it begins: for tests of this function.
        changes: of what `fit` is called with.
    """
    kills.chains += 1
    reached, last_epoch = Reached(), -1
    length = draw.randint(3, 5)
    changes = {"saving": draw.choice(("wait", "background"))} | changes
    for number in range(length):
        marks = Marks(*MARKS)
        aimed = draw.choice(AIMED) if draw.random() < 0.55 else None
        aim = None if aimed is None else aim_at(aimed, draw.randrange(1, 4), draw.randrange(40))
        begun = number > 0

        def work(marks: Marks = marks, aim: Aim | None = aim) -> Any:
            if plant is not None:
                plant()
            return train(variant, folder, marks=marks, aim=aim, **changes)

        child = Child(work)
        if aimed is None:
            _kill_at_random(child, marks, draw, seconds)
        ended = child.wait()
        left = temporaries(folder)
        if len(left) > 2:
            kills.problems.append(f"{variant}: temporary files pile up: {left}")
        kills.problems += [f"{variant}: {problem}" for problem in audited(folder, kills.audits)]
        _check_resumed(variant, marks, reached, kills)
        reached.saved = max(reached.saved, marks["saved"])
        if not ended.killed:
            if ended.code != 0:
                kills.problems.append(f"{variant}: exit {ended.code}: {ended.error}\n{ended.trace}")
                return
            break  # it had ended before the kill
        kills.trials += 1
        kills.by_class.update(classes(marks, begun))
        if marks["began"] >= 0:
            kills.by_class.update(["in_one_epoch"] if last_epoch == marks["step"] // EPOCH else [])
            last_epoch = marks["step"] // EPOCH
            reached.step, reached.most = marks["step"], may_be_lost(marks, changes["saving"])
    marks = Marks(*MARKS)

    def last() -> Any:
        if plant is not None:
            plant()
        return train(variant, folder, marks=marks, **changes)

    ended = forked(last)
    _check_resumed(variant, marks, reached, kills)
    kills.problems += [f"{variant}: {problem}" for problem in audited(folder, kills.audits, ended=True)]
    kills.problems += _at_the_end(variant, folder, ended, expected)


def _check_resumed(variant: str, marks: Marks, reached: Reached, kills: Kills) -> None:
    """A start goes on from the newest checkpoint whose save had ended, or from a newer one, and loses no more than it may."""
    began = marks["began"]
    if began < 0:
        return
    if began < reached.saved:
        kills.problems.append(f"{variant}: went on at step {began}, though step {reached.saved} was saved")
    if reached.step is not None:
        lost, reached.step = reached.step - began, None
        kills.lost["an_interval_or_less" if lost <= INTERVAL else "more"] += 1
        if lost > reached.most:
            kills.problems.append(f"{variant}: {lost} steps were lost, where {reached.most} may be")


def _at_the_end(variant: str, folder: Path, ended: Ended, expected: dict[str, bytes]) -> list[str]:
    if ended.code != 0:
        return [f"{variant}: exit {ended.code}: {ended.error}\n{ended.trace}"]
    problems = [f"{variant}: {name} differs" for name in differences(remains(folder), expected)]
    return problems + [f"{variant}: {name} was left" for name in temporaries(folder)]


def _kill_at_random(child: Child, marks: Marks, draw: random.Random, seconds: float) -> None:
    if draw.random() < 0.15:  # while it starts or loads
        time.sleep(draw.random() * 0.05)
        child.send(9)
        return
    while marks["began"] < 0 and not child.poll():
        time.sleep(0.0002)
    share = 1 - max(marks["began"], 0) / STEPS
    time.sleep(draw.random() * seconds * share * 0.8)
    child.send(9)


def aim_at(what: str, nth: int, call: int) -> Aim:
    """Kill the process in its `nth` save (at storage call `call` of it), evaluation, epoch border or fetched batch, or `nth` - 1
    moments after its loop began."""
    seen: Counter[str] = Counter()

    def at_call(number: int, side: str, about: Any) -> None:
        if seen["saving"] > seen["pruned"] and seen["saving"] == nth:
            seen["calls"] += 1
            if seen["calls"] > 2 * call:
                kill_this_process()

    counted = False

    def aim(moment: str, step: int) -> None:
        nonlocal counted
        if what == "save" and not counted:
            counted = True
            count_calls(at_call)
        seen[moment] += 1
        if (
            (what == "save" and moment == "pruned" and seen["pruned"] == nth)
            or (what == "evaluation" and moment == ("evaluating", "evaluated")[call % 2] and seen[moment] == nth)
            or (what == "border" and moment == "stepped" and step % EPOCH == 0 and seen.total() >= nth)
            or (what == "resume" and sum(seen[name] for name in ("began", "stepping", "stepped")) == nth)
            or (what == "data" and moment == "stepping" and seen[moment] == 2 * nth)
        ):
            kill_this_process()

    return aim
