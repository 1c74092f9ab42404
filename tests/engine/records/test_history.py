"""The rows of a resumed run stay in its folder until somebody looks, and then are what they would have been."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import stepwell
from stepwell.core.errors import RunFolderError
from stepwell.engine.records import later_rows, metric_files
from stepwell.engine.records import metric_log as metric_log_module
from stepwell.engine.records.history import History, Recorder
from stepwell.engine.records.later_rows import LaterRows
from stepwell.engine.records.metric_log import MetricLog
from stepwell.engine.records.run_folder import RunFolder

CHUNK = 32


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_log_module, "CHUNK", CHUNK)
    monkeypatch.setattr(later_rows, "CHUNK", CHUNK)


def written(folder: Path, num: int, name: str = "train") -> list[dict[str, float]]:
    log = MetricLog(folder / "metrics" / name)
    rows = [{"step": float(step), "loss": float("nan") if step > 7 else 1 / step} for step in range(1, num + 1)]
    for row in rows:
        log.append(row)
    log.close()
    return rows


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int | None]]:
    """The spans of rows that are read from now on."""
    spans: list[tuple[int, int | None]] = []
    before = metric_files.Snapshot.rows

    def rows(self: Any, start: int, stop: int | None) -> Any:
        spans.append((start, stop))
        return before(self, start, stop)

    monkeypatch.setattr(metric_files.Snapshot, "rows", rows)
    return spans


def resumed(folder: Path, num: int) -> Recorder:
    recorder = Recorder(folder=RunFolder(folder), log_every=1)
    window = {"loss": 0.0, "samples": 0.0, "skipped": 0.0, "reports": 0.0}
    recorder.load_state_dict({"window": window, "rows": {"train": num, "validation": 0, "layers": 0}})
    return recorder


def test_no_row_is_read_to_go_on_and_to_count(tmp_path: Path, read: list[Any]) -> None:
    written(tmp_path, 100)
    recorder = resumed(tmp_path, 90)
    recorder.history.add("train", {"step": 91.0, "loss": 0.25})
    assert recorder.state_dict()["rows"] == {"train": 91, "validation": 0, "layers": 0}
    assert read == []


def test_whoever_looks_has_the_rows_up_to_the_checkpoint_and_those_after_it(tmp_path: Path) -> None:
    rows = written(tmp_path, 100)
    history = resumed(tmp_path, 90).history
    history.add("train", {"step": 91.0, "loss": 0.25})
    assert repr(history.train) == repr([*rows[:90], {"step": 91.0, "loss": 0.25}])
    assert history.train is history.train
    history.add("train", {"step": 92.0})
    assert history.train[-1] == {"step": 92.0}
    assert history.count("train") == 92


def test_of_the_end_only_as_many_files_are_read_as_are_needed(tmp_path: Path, read: list[Any]) -> None:
    rows = written(tmp_path, 100)
    recorder = resumed(tmp_path, 90)
    assert next(recorder.history.newest_first("train"))["step"] == 90.0
    assert read == [(64, 90)]
    assert recorder.last_finite_loss() == 1 / 7
    assert read[1:] == [(64, 90), (32, 64), (0, 32)]
    assert [row["step"] for row in recorder.history.newest_first("train")] == [row["step"] for row in reversed(rows[:90])]


def test_a_log_that_lost_rows_counts_those_that_it_has(tmp_path: Path) -> None:
    written(tmp_path, 40)
    history = resumed(tmp_path, 50).history
    assert history.count("train") == len(history.train) == 40


def test_rows_whose_folder_is_gone_are_not_silently_left_out(tmp_path: Path) -> None:
    written(tmp_path / "run", 40)
    recorder = resumed(tmp_path / "run", 40)
    shutil.rmtree(tmp_path / "run")
    for _ in range(2):
        with pytest.raises(RunFolderError, match="no longer has the rows"):
            _ = recorder.history.train


def test_a_history_can_be_copied_compared_and_has_no_other_attributes(tmp_path: Path) -> None:
    written(tmp_path, 5)
    history = resumed(tmp_path, 5).history
    other = copy.deepcopy(history)
    assert other.train == history.train
    assert History([{"step": 1.0}]) == History([{"step": 1.0}])
    with pytest.raises(AttributeError, match="no attribute 'rows'"):
        _ = history.rows
    assert next(reversed(LaterRows(tmp_path, "train", 0)), None) is None


def test_a_resumed_run_has_the_history_of_the_one_that_went_through(tmp_path: Path) -> None:
    def fit(out: str, budget: str, resume: bool = False) -> Any:
        x = torch.linspace(-1, 1, 96).view(48, 2)
        data = (x, (x[:, 0] > 0).long())
        model = nn.Linear(2, 2)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        recipe = stepwell.Recipe(
            objective="cross_entropy",
            optimizer={"name": "sgd", "lr": 0.1},
            techniques=[{"name": "layer_statistics", "every": "5 steps"}],
            batch_size=8,
        )
        settings = {"evaluate_every": "10 steps", "checkpoint_every": "15 steps", "log_every": "1 steps"}
        existing = "resume" if resume else "refuse"
        return stepwell.fit(
            model, data, val=data, recipe=recipe, budget=budget, out=tmp_path / out, existing=existing, **settings
        )

    whole = fit("whole", "80 steps").history
    calls = 0
    before = Recorder.step

    def step(self: Recorder, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 53:
            raise KeyboardInterrupt
        before(self, *args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Recorder, "step", step)
        with pytest.raises(KeyboardInterrupt):
            fit("part", "80 steps")
    part = fit("part", "80 steps", resume=True).history
    assert part.train == whole.train
    assert part.validation == whole.validation
    assert part.layers == whole.layers
