"""T9: starters that all want one folder. Exactly one runs, the others refuse and say who has it, and no file is damaged."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from counted import report
from forked import Child, Ended, ended, import_what_is_used_by

from stepwell.cli.main import main
from stepwell.core.errors import RunFolderError
from stepwell.engine.records.run_folder import RunFolder

STARTERS = 8
JOB = """
data: {source: iris}
split: {validation: 0.2, test: 0.2, by: stratified}
model: {name: mlp, hidden: [4]}
task: classification
recipe: {objective: cross_entropy, optimizer: {name: sgd, lr: 1e-2}, batch_size: 30}
budget: 2 epochs
seed: 3
"""


def at_once(work: Callable[[int], Any], starters: int = STARTERS) -> list[Ended]:
    """The same work in several processes that begin together."""
    begin, go = os.pipe()

    def waiting(number: int) -> Callable[[], Any]:
        def begun() -> Any:
            os.close(go)  # inherited: the pipe ends when the last one that could write has closed it
            os.read(begin, 1)
            return work(number)

        return begun

    children = [Child(waiting(number), limit=100.0) for number in range(starters)]
    os.close(begin)
    os.close(go)
    return [child.wait() for child in children]


def start(folder: Path, number: int, seconds: float = 0.0, *, answers: Path | None = None) -> str:
    """Start a run, hold it, and write a row of one's own.

    Args:
        seconds: how long it is held.
        answers: a folder in which whoever is refused leaves a file; the run is held until all others have.
    """
    run = RunFolder(folder)
    try:
        run.create("job: the same\n")
    except RunFolderError as error:
        if answers is not None:
            (answers / str(number)).touch()
        return error.what
    for step in range(5):
        run.append("metrics/train", {"step": step, "starter": number})
    time.sleep(seconds)
    deadline = time.monotonic() + 60.0
    while answers is not None and len(os.listdir(answers)) < STARTERS - 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    run.close()
    return "ran"


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """Where those who are refused say so."""
    place = tmp_path / "answers"
    place.mkdir()
    return place


def refusals(answers: list[Any], words: str = "in use by process") -> int:
    assert not [answer for answer in answers if answer != "ran" and words not in str(answer)]
    return len(answers) - answers.count("ran")


@pytest.mark.parametrize("trial", range(3))
def test_of_eight_starters_one_runs_and_the_others_say_who_has_the_folder(tmp_path: Path, told: Path, trial: int) -> None:
    folder = tmp_path / "runs" / "one"
    answers = [child.value for child in at_once(lambda number: start(folder, number, answers=told))]
    assert answers.count("ran") == 1, answers
    assert refusals(answers) == STARTERS - 1
    assert set((folder / "metrics" / "train.csv").read_text(encoding="utf-8").splitlines()[1:]) == {
        f"{step},{answers.index('ran')}" for step in range(5)
    }
    report("T9 starters", floors={"refused": STARTERS - 1}, runs=1, refused=STARTERS - 1)


def test_starters_that_come_when_the_run_is_already_over_do_not_begin_it_again(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    answers = [child.value for child in at_once(lambda number: start(folder, number))]
    assert answers.count("ran") == 1, answers
    assert all("in use by" in answer or "already holds this job's run" in answer for answer in answers if answer != "ran")
    assert len((folder / "metrics" / "train.csv").read_text(encoding="utf-8").splitlines()) == 6


@pytest.mark.parametrize("before", ["nothing", "stale"])
def test_without_the_system_s_locks_of_eight_starters_one_runs(
    tmp_path: Path, told: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    folder = tmp_path / "one"
    folder.mkdir()
    if before == "stale":
        (folder / "lock").write_text(json.dumps({"pid": 1, "started": "1", "boot": "earlier", "host": os.uname().nodename}))
    answers = [child.value for child in at_once(lambda number: start(folder, number, answers=told))]
    assert answers.count("ran") == 1, answers
    assert refusals(answers, "in use by") == STARTERS - 1


def test_a_killed_holder_s_folder_is_free_for_the_next_one(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    holder = Child(lambda: start(folder, 0, seconds=60.0), limit=100.0)
    deadline = time.monotonic() + 60.0
    while not (folder / "metrics" / "train.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(RunFolderError, match=f"in use by process {holder.pid} on "):
        RunFolder(folder).lock()
    holder.send(signal.SIGKILL)
    assert holder.wait().killed
    run = RunFolder(folder)
    run.lock()
    assert json.loads((folder / "lock").read_text(encoding="utf-8"))["pid"] == os.getpid()
    run.close()
    report("T9 killed holders", floors={"taken_over": 1}, taken_over=1)


@pytest.mark.slow
def test_of_eight_trainings_from_the_command_line_one_runs_to_its_end_and_seven_exit_with_2(
    tmp_path: Path,
) -> None:
    (tmp_path / "job.yaml").write_text(JOB, encoding="utf-8")

    def train(out: str) -> None:
        main(["train", str(tmp_path / "job.yaml"), "--out", str(tmp_path / out), "--quiet"])

    import_what_is_used_by(lambda: ended(train, "alone"))
    codes = sorted(child.code for child in at_once(lambda number: train("one")))
    assert codes == [0] + [2] * (STARTERS - 1)
    for name in ("model/model.safetensors", "metrics/train.csv", "job.yaml"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    report("T9 starters", floors={"refused": STARTERS - 1}, runs=1, refused=STARTERS - 1)
