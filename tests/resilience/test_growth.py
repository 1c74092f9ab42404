"""T16: what a long run leaves stays small, and is opened without reading it all. Written through the run folder, as a recorder
does with one row a step; what it takes in seconds is in benchmarks/metrics_growth.py."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from counted import report

from stepwell.core.reports import Event
from stepwell.engine.records import storage
from stepwell.engine.records.run_folder import RunFolder
from stepwell.report.page import page
from stepwell.report.series import Series
from stepwell.report.tables import Stretches, read_run

NAMES = ("loss", "lr", "grad_norm", "param_norm", "epoch", "clip_norm.clipped", "weight_norm.largest")
MOST_BYTES = 64 << 20  # for 10^6 steps
STEPS = 3 * 8192 + 100


def write(folder: RunFolder, num_steps: int) -> list[float]:
    """A step, seven values of random bits that nothing makes smaller, and a wall-clock row; the losses."""
    draws, losses = np.random.default_rng(0), []
    for start in range(0, num_steps, 8192):
        bits = draws.integers(1, 0x7FE << 52, size=(min(8192, num_steps - start), len(NAMES)), dtype=np.int64)
        for place, values in enumerate(bits.view(np.float64).tolist()):
            step = start + place + 1
            folder.append("metrics/train", {"step": step, **dict(zip(NAMES, values))})
            folder.append("timing", {"step": step, "seconds": round(step * 0.0123 + values[0] % 0.01, 3)})
            losses.append(values[0])
    folder.close()
    return losses


def begun(path: Path) -> RunFolder:
    folder = RunFolder(path)
    folder.create("job: growth\n")
    return folder


def size(path: Path) -> int:
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())


class Counted:
    """An open file that counts the bytes that are read of it."""

    def __init__(self, file: BinaryIO, read: list[int]) -> None:
        self._file, self._read = file, read

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._read.append(len(piece))
        return piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much is read of files, piece by piece."""
    read: list[int] = []
    opened, read_bytes = storage.opened, storage.read_bytes

    def whole(path: Path, **settings: Any) -> bytes:
        content = read_bytes(path, **settings)
        read.append(len(content))
        return content

    monkeypatch.setattr(storage, "opened", lambda path: Counted(opened(path), read))
    monkeypatch.setattr(storage, "read_bytes", whole)
    return read


def check_long_run(folder: Path, losses: list[float], bytes_read: list[int]) -> None:
    """Its size, what opening it reads, and that the curve is the rows'."""
    num_steps, taken = len(losses), size(folder)
    assert taken <= MOST_BYTES * num_steps / 1_000_000
    bytes_read.clear()
    run = read_run(folder)
    touched = sum(bytes_read)
    assert touched < 0.15 * taken
    assert isinstance(run.train, Stretches)
    assert len(run.train["step"]) <= 16_384
    assert run.steps == num_steps
    series = Series.of(run.train, "loss")
    assert (np.nanmin(series.low), np.nanmax(series.high)) == (min(losses), max(losses))
    assert (series.num_logged, series.num_broken, run.problems) == (num_steps, 0, [])
    text = page(run, [])
    assert len(text) < 100_000
    report("T16 growth", floors={"steps": num_steps}, steps=run.steps, bytes_taken=taken, bytes_read_to_open=touched)


def test_a_step_takes_no_more_than_its_share_of_64_mib_and_opening_reads_a_fraction(
    tmp_path: Path, bytes_read: list[int]
) -> None:
    losses = write(begun(tmp_path / "run"), STEPS)
    check_long_run(tmp_path / "run", losses, bytes_read)


@pytest.mark.slow
def test_a_million_steps_of_seven_metrics_take_at_most_64_mib_and_opening_reads_a_fraction(
    tmp_path: Path, bytes_read: list[int]
) -> None:
    losses = write(begun(tmp_path / "run"), 1_000_000)
    check_long_run(tmp_path / "run", losses, bytes_read)


def test_a_flood_of_nan_is_counted_in_the_report_and_takes_next_to_nothing(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    for step in range(STEPS):
        folder.append("metrics/train", {"step": step + 1, "loss": math.nan if step > 50 else 1.0, "grad_norm": math.inf})
    folder.close()
    run = read_run(tmp_path / "run")
    assert Series.of(run.train, "loss").num_broken == STEPS - 51
    assert f"loss was not finite at {STEPS - 51:,} logged steps" in page(run, [])
    assert size(tmp_path / "run" / "metrics") < 4 * STEPS


def test_ten_thousand_events_take_less_than_ten_mebibytes(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    for step in range(10_000):
        folder.event(Event("nonfinite", step, {"loss": math.nan, "grad_norm": math.inf, "policy": "skip"}))
    folder.close()
    taken = size(tmp_path / "run")
    assert taken < 10 << 20
    assert sum(read_run(tmp_path / "run").event_counts.values()) == 10_000
    report("T16 growth", events=10_000, bytes_of_events=taken)
