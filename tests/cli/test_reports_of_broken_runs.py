"""A run that ended early leaves a report too, and the report never hides why it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import stepwell.report.page
from stepwell.cli.training import Call, run_verb
from stepwell.core.errors import TrainingStopped
from stepwell.recipe.job import Job
from stepwell.recipe.verbs import train

JOB = Job(
    data={"source": "digits"},
    model={"name": "mlp", "hidden": [8]},
    task="classification",
    recipe={"optimizer": {"name": "sgd", "lr": 1e30}},
    budget="3 epochs",
)


def attempt(folder: Path) -> None:
    run_verb(lambda progress: train(JOB, out=folder, progress=progress), Call(folder / "job.yaml", quiet=True, folder=folder))


def test_a_run_that_blew_up_leaves_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrainingStopped):
        attempt(tmp_path / "run")
    assert "loss not finite" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert str(tmp_path / "run" / "report.html") in capsys.readouterr().out


def test_a_report_that_can_not_be_written_does_not_hide_why_training_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(folder: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stepwell.report.page, "write_report", fail)
    with pytest.raises(TrainingStopped, match="non-finite"):
        attempt(tmp_path / "run")
    assert "No space left" in caplog.text


def test_without_a_run_folder_there_is_nothing_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(progress: Any) -> None:
        raise TrainingStopped("a", expected="b", fix="c")

    with pytest.raises(TrainingStopped):
        run_verb(stopped, Call(tmp_path / "job.yaml", quiet=True, folder=tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""
