"""T5: a signal during anything saves at the exact step and ends with the documented code; the resumed run has the same bytes."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from counted import report
from forked import Child, Marks, done, forked
from small_runs import (
    MARKS,
    Noisy,
    command,
    differences,
    network,
    remains,
    temporaries,
    train,
    watch,
    without_names,
    write_job,
)
from torch import Tensor

from stepwell.core.errors import RunFolderError
from stepwell.engine.records.checkpoint import checkpoints, verify_checkpoint
from stepwell.engine.records.event_log import read_events

STOPPING = {"SIGTERM": 143, "SIGINT": 130, "SIGHUP": 129}
MOMENTS = ("stepping", "forward", "stepped", "evaluating", "evaluated", "saving", "saved", "data")
Expected = dict[str, dict[str, bytes]]


@pytest.fixture(scope="module")
def expected(loaded: None, tmp_path_factory: pytest.TempPathFactory) -> Expected:
    place = tmp_path_factory.mktemp("whole")
    for variant in ("ema", "samples"):
        done(lambda variant=variant: train(variant, place / variant))
    return {variant: remains(place / variant) for variant in ("ema", "samples")}


class Signalling(Noisy):
    """Sends signals while the nth sample is read."""

    def __init__(self, numbers: list[int], nth: int) -> None:
        super().__init__()
        self.numbers, self.nth, self.read = numbers, nth, 0

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.read += 1
        if self.read == self.nth:
            send(self.numbers)
        return super().__getitem__(index)


def send(numbers: list[int]) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def interrupted(folder: Path, names: list[str], moment: str, nth: int, marks: Marks) -> Callable[[], Any]:
    """A run that gets signals at the nth moment of a kind; marks["sent_at"] is the completed steps then."""
    numbers = [int(getattr(signal, name)) for name in names]
    seen = 0

    def strike() -> None:
        nonlocal seen
        seen += 1
        if seen == nth:
            marks["sent_at"] = marks["step"]
            send(numbers)

    def work() -> None:
        changes: dict[str, Any] = {}
        if moment == "data":
            changes["data"] = Signalling(numbers, 97 * nth)
        if moment == "forward":
            changes["model"] = network()
            changes["model"][2].register_forward_hook(lambda module, *_: strike() if module.training else None)
        train(
            "samples" if moment == "data" else "ema",
            folder,
            marks=marks,
            aim=lambda what, step: strike() if what == moment else None,
            **changes,
        )

    return work


def wrong_after_a_stop(folder: Path, marks: Marks, ended: Any, code: int, variant: str, expected: Expected) -> list[str]:
    problems = [] if ended.code == code else [f"exit {ended.code} ({ended.error}), not {code}"]
    told = re.search(r"interrupted after step (\d+)", ended.error)
    newest = checkpoints(folder / "checkpoints")[0]
    try:
        verify_checkpoint(newest)
    except RunFolderError as error:
        problems.append(str(error))
    if told is None or newest.name != f"step-{told[1]}" or int(told[1]) != marks["step"]:
        problems.append(f"{ended.error}; the newest checkpoint is {newest.name}, the last step {marks['step']}")
    if marks["sent_at"] >= 0 and marks["step"] - marks["sent_at"] > 1:
        problems.append(f"sent at step {marks['sent_at']}, heeded at step {marks['step']}")
    if not any(event.kind == "interrupted" for event in read_events(folder / "events.jsonl")):
        problems.append("no event tells of it")
    return problems + wrong_after_a_resume(folder, variant, expected)


def wrong_after_a_resume(folder: Path, variant: str, expected: Expected) -> list[str]:
    again = forked(lambda: train(variant, folder))
    if again.code != 0:
        return [f"exit {again.code}: {again.error}"]
    found = differences(without_names(remains(folder)), without_names(expected[variant]))
    return [f"{name} differs" for name in found] + [f"{name} was left" for name in temporaries(folder)]


def test_a_signal_to_stop_saves_the_exact_step_and_the_resumed_run_has_the_same_bytes(memory: Path, expected: Expected) -> None:
    trials, wrong = 0, {}
    for name, code in STOPPING.items():
        for moment in MOMENTS:
            for nth in (2, 7) if moment in ("stepping", "forward") else (2,):
                folder, marks = memory / f"{name}-{moment}-{nth}", Marks(*MARKS, "sent_at")
                ended = forked(interrupted(folder, [name], moment, nth, marks))
                variant = "samples" if moment == "data" else "ema"
                problems = wrong_after_a_stop(folder, marks, ended, code, variant, expected)
                trials += 1
                if problems:
                    wrong[f"{name} at {moment} {nth}"] = problems
    assert wrong == {}
    report("T5 signals", floors={"stopped": 30}, stopped=trials)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_request_to_save_saves_and_training_goes_on(memory: Path, expected: Expected, moment: str) -> None:
    marks = Marks(*MARKS, "sent_at")
    ended = forked(interrupted(memory / "run", ["SIGUSR1"], moment, 2, marks))
    assert (ended.code, ended.error) == (0, "")
    variant = "samples" if moment == "data" else "ema"
    assert differences(without_names(remains(memory / "run")), without_names(expected[variant])) == []
    saved = [event.step for event in read_events(memory / "run" / "events.jsonl") if event.kind == "saved"]
    if moment != "data":  # which counts samples, not steps
        assert set(saved) & {marks["sent_at"], marks["sent_at"] + 1}, (saved, marks["sent_at"])
    report("T5 signals", requested=1)


@pytest.mark.parametrize("moment", ["stepping", "evaluating", "saving", "data"])
def test_a_second_interrupt_ends_at_once_and_costs_at_most_the_interval(memory: Path, expected: Expected, moment: str) -> None:
    marks = Marks(*MARKS, "sent_at")
    ended = forked(interrupted(memory / "run", ["SIGINT", "SIGINT"], moment, 2, marks))
    assert ended.code == 130
    assert wrong_after_a_resume(memory / "run", "samples" if moment == "data" else "ema", expected) == []
    report("T5 signals", twice=1)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_second_signal_to_stop_ends_at_once_by_that_signal(memory: Path, expected: Expected, name: str) -> None:
    marks = Marks(*MARKS, "sent_at")
    ended = forked(interrupted(memory / "run", [name, name], "stepping", 7, marks))
    assert ended.code == -int(getattr(signal, name))
    assert wrong_after_a_resume(memory / "run", "ema", expected) == []
    report("T5 signals", twice=1)


class Slow(Noisy):
    """Waits for ever before one sample, as a stuck network disk does; wakes up when a signal comes."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index == 50:
            time.sleep(0.05)
        return super().__getitem__(index)


def test_a_signal_from_another_process_while_data_is_waited_for_is_heeded(memory: Path, loaded: None) -> None:
    marks = Marks(*MARKS)
    done(lambda: train("samples", memory / "whole", data=Slow()))
    child = Child(lambda: train("samples", memory / "run", marks=marks, data=Slow()))
    while marks["step"] < 7:
        assert not child.poll()
        time.sleep(0.0005)
    child.send(signal.SIGTERM)
    ended = child.wait()
    assert ended.code == 143
    assert f"interrupted after step {marks['step']}" in ended.error
    done(lambda: train("samples", memory / "run", data=Slow()))
    assert differences(without_names(remains(memory / "run")), without_names(remains(memory / "whole"))) == []
    report("T5 signals", from_outside=1)


def commanded(job: Path, folder: Path, name: str, moment: str) -> Callable[[], None]:
    """`stepwell train`, which gets a signal at the second moment of a kind, or while its report is written."""
    from stepwell.report import page

    number = int(getattr(signal, name))
    seen = 0

    def work() -> None:
        def aim(what: str, step: int) -> None:
            nonlocal seen
            seen += what == moment
            if what == moment and seen == 2:
                os.kill(os.getpid(), number)

        if moment == "report":
            before = page.pictures
            page.pictures = lambda run: (os.kill(os.getpid(), number), before(run))[1]
        watch(Marks(*MARKS), aim)
        command("train", job, "--out", folder, "--quiet")

    return work


COMMANDED = [(name, moment) for moment in ("stepping", "evaluating", "saving", "report") for name in STOPPING]


@pytest.mark.parametrize(
    ("name", "moment"),
    [pytest.param(*pair, marks=[] if pair == ("SIGTERM", "report") else pytest.mark.slow) for pair in COMMANDED],
)
def test_the_command_ends_with_the_documented_code_and_resume_goes_on_to_the_same_bytes(
    memory: Path, commands: None, name: str, moment: str
) -> None:
    job = write_job(memory)
    assert forked(lambda: command("train", job, "--out", memory / "whole", "--quiet")).code == 0
    ended = forked(commanded(job, memory / "run", name, moment))
    number = int(getattr(signal, name))
    # After training nothing is left to save: a signal then ends the process in the ordinary way, which shells call 128 + n.
    assert ended.code == STOPPING[name] or (moment == "report" and ended.code == -number)
    again = forked(lambda: command("resume", memory / "run", "--quiet"))
    assert again.code == 0
    assert differences(without_names(remains(memory / "run")), without_names(remains(memory / "whole"))) == []
    assert (memory / "run" / "report.html").exists()
    report("T5 signals", commanded=1)
