"""Which checkpoints stay, when one is removed, and what is told of each that was or wasn't saved."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from stepwell.core.errors import RunFolderError, TrainingStopped
from stepwell.engine.records import saver as module
from stepwell.engine.records.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from stepwell.engine.records.saver import Retention, Saver, prune


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weights": torch.full((256,), float(step)), "lowest": float("inf")}


def saved(folder: Path, *steps: int) -> None:
    for step in steps:
        save_checkpoint(folder, state(step), step=step)


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in checkpoints(folder))


@pytest.mark.parametrize(
    ("retention", "best", "stay"),
    [
        (Retention(), [], [50, 60]),
        (Retention(newest=3), [], [40, 50, 60]),
        (Retention(), [20], [20, 50, 60]),
        (Retention(top=2), [30, 10, 20], [10, 30, 50, 60]),
        # No checkpoint was written at steps 15 and 25.
        (Retention(top=2), [15, 30, 25, 20], [20, 30, 50, 60]),
        (Retention(every=20), [], [20, 40, 50, 60]),
        (Retention(every=20, top=1), [10], [10, 20, 40, 50, 60]),
        (Retention(newest=10), [], [10, 20, 30, 40, 50, 60]),
        # Room for none: the two newest and the best stay all the same.
        (Retention(newest=6, max_bytes=1), [10], [10, 50, 60]),
    ],
)
def test_the_checkpoints_that_stay_are_those_that_were_asked_for(
    tmp_path: Path, retention: Retention, best: list[int], stay: list[int]
) -> None:
    saved(tmp_path, 10, 20, 30, 40, 50, 60)
    gone = prune(tmp_path, retention, best=best)
    assert steps(tmp_path) == stay
    assert sorted(int(path.name.removeprefix("step-")) for path in gone) == sorted({10, 20, 30, 40, 50, 60} - set(stay))


def test_a_size_keeps_as_many_of_the_newest_as_fit(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20, 30, 40)
    one = sum(file.stat().st_size for file in (tmp_path / "step-40").iterdir())
    prune(tmp_path, Retention(newest=4, max_bytes=3 * one + 50))
    assert steps(tmp_path) == [20, 30, 40]


def test_nothing_is_removed_while_fewer_than_two_that_stay_are_whole(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20, 30)
    damaged = tmp_path / "step-30" / "state.json"
    damaged.write_bytes(damaged.read_bytes() + b" ")
    assert prune(tmp_path, Retention()) == []
    assert steps(tmp_path) == [10, 20, 30]


def test_what_was_saved_in_the_background_is_the_snapshot_and_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, dict[str, Any]]] = []
    saver = Saver(tmp_path, record=lambda kind, step, **detail: told.append((kind, step, detail)))
    for step in (1, 2, 3):
        saver.start(state(step), step=step)
    saver.wait()
    saver.tell()
    assert [(kind, step, detail["checkpoint"]) for kind, step, detail in told] == [
        ("saved", step, f"step-{step}") for step in (1, 2, 3)
    ]
    assert steps(tmp_path) == [2, 3]
    loaded = load_checkpoint(tmp_path / "step-3")
    assert torch.equal(loaded["weights"], torch.full((256,), 3.0))
    assert loaded["lowest"] == float("inf")


def test_writing_happens_in_another_thread_and_one_at_a_time(tmp_path: Path) -> None:
    writers: list[str] = []
    saver = Saver(tmp_path, before=lambda: writers.append(threading.current_thread().name))
    saver.start(state(1), step=1)
    saver.start(state(2), step=2)
    saver.wait()
    assert not saver.writing
    assert writers == ["stepwell-checkpoint_0"] * 2
    saver.save(state(3), step=3)
    assert writers[2] == threading.current_thread().name


def test_a_checkpoint_that_fails_is_told_and_the_third_in_a_row_ends_the_run(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []

    def full() -> None:
        raise RunFolderError("the disk is full", expected="free space", fix="Free some")

    saver = Saver(tmp_path, before=full, record=lambda kind, step, **detail: told.append((kind, step)))
    for step in (1, 2):
        saver.start(state(step), step=step)
        saver.wait()
        saver.tell()
    with pytest.raises(TrainingStopped, match="3 checkpoints in a row"):
        saver.save(state(3), step=3)
    assert told == [("save_failed", 1), ("save_failed", 2), ("save_failed", 3)]
    assert steps(tmp_path) == []


def test_what_the_log_refuses_to_take_is_told_again(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    refusals = [RunFolderError("the disk is read-only", expected="a disk", fix="Mount it again")]

    def record(kind: str, step: int, **detail: Any) -> None:
        if refusals:
            raise refusals.pop()
        told.append((kind, step))

    saver = Saver(tmp_path, record=record)
    saver.start(state(1), step=1)
    saver.wait()
    with pytest.raises(RunFolderError, match="read-only"):
        saver.tell()
    saver.close()
    saver.tell()
    assert told == [("saved", 1)]


def test_a_fault_in_the_thread_does_not_pass_in_silence(tmp_path: Path) -> None:
    def broken() -> None:
        raise ZeroDivisionError("oops")

    told: list[str] = []
    saver = Saver(tmp_path, before=broken, record=lambda kind, step, **detail: told.append(detail["reason"]))
    with pytest.raises(RunFolderError, match="ZeroDivisionError: oops"):
        saver.save(state(1), step=1)
    assert len(told) == 1


def test_a_checkpoint_is_not_begun_where_there_is_no_room_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda folder: 1228)  # 256 floats take 1,024 bytes; 1.2 times that is 1,228.8
    saver = Saver(tmp_path)
    assert saver.save(state(1), step=1).step == 1
    monkeypatch.setattr(module, "free_bytes", lambda folder: 1227)
    with pytest.raises(RunFolderError, match="takes 1228 bytes, 1227 are free"):
        saver.save(state(2), step=2)
    assert steps(tmp_path) == [1]
