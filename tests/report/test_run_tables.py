"""Reading run folders: finished, unfinished, cut short, resumed, with hostile or broken files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stepwell.core.errors import RunFolderError
from stepwell.engine.records.metric_log import MetricLog
from stepwell.report.series import Series, band, thin
from stepwell.report.tables import comparison, read_run, summary
from stepwell.report.text import number


def write(folder: Path, **files: str) -> Path:
    (folder / "metrics").mkdir(parents=True, exist_ok=True)
    (folder / "job.yaml").write_text("budget: 3 epochs\n", encoding="utf-8")
    places = {
        "train": "metrics/train.csv",
        "validation": "metrics/validation.csv",
        "events": "events.jsonl",
        "result": "result.json",
    }
    for name, text in files.items():
        (folder / places.get(name, f"{name}.csv")).write_text(text, encoding="utf-8")
    return folder


def test_a_folder_that_holds_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no run"):
        read_run(tmp_path)
    with pytest.raises(RunFolderError, match="there is no folder"):
        read_run(tmp_path / "nowhere")


def test_a_run_that_has_only_begun_can_be_read(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "a"))
    assert (run.stop_reason, run.steps, run.best, run.train, run.problems) == ("unfinished", 0, None, {}, [])


def test_a_last_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    # "1" is what a kill left of "12,...": as a row it would be step 1 again
    run = read_run(write(tmp_path / "a", train="step,loss\n10,0.5\n11,0.4\n1"))
    assert run.train["step"].tolist() == [10, 11]
    assert run.steps == 11


def test_of_steps_written_twice_the_later_record_counts(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "a", train="step,loss\n1,5\n2,4\n3,3\n2,40\n3,30\n4,20\n"))
    assert run.train["step"].tolist() == [1, 2, 3, 4]
    assert run.train["loss"].tolist() == [5, 40, 30, 20]


def test_what_was_not_logged_and_what_was_not_finite_are_told_apart(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "a", train="step,loss,finance\n1,,1\n2,nan,2\n3,-inf,\n4,0.5,4\n"))
    assert np.isnan(run.train["loss"]).tolist() == [True, False, False, False]
    assert np.isinf(run.train["loss"]).tolist() == [False, True, True, False]
    assert "finance" in run.train  # a name that holds "nan" stays as it is


def test_the_best_evaluation_has_the_lowest_loss_or_the_highest_accuracy_and_is_never_nan(tmp_path: Path) -> None:
    low = read_run(write(tmp_path / "a", validation="step,epoch,loss\n1,1,0.5\n2,2,0.2\n3,3,nan\n4,4,0.3\n")).best
    high = read_run(write(tmp_path / "b", validation="step,epoch,loss,accuracy\n1,1,1,0.5\n2,2,2,inf\n3,3,3,0.9\n")).best
    none = read_run(write(tmp_path / "c", validation="step,epoch,loss\n1,1,nan\n")).best
    assert low is not None
    assert high is not None
    assert (low.step, low.metric, low.value) == (2, "loss", 0.2)
    assert (high.step, high.metric, high.value) == (3, "accuracy", 0.9)
    assert none is None


def test_the_best_evaluation_on_record_goes_before_the_table(tmp_path: Path) -> None:
    result = json.dumps({"steps": 4, "best": {"metric": "accuracy", "step": 1, "value": 0.5, "metrics": {"loss": 1.0}}})
    best = read_run(write(tmp_path / "a", validation="step,loss,accuracy\n1,1,0.5\n2,2,0.9\n", result=result)).best
    assert best is not None
    assert (best.step, best.metric, best.value) == (1, "accuracy", 0.5)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"steps": "many", "test": 3, "best": [], "metrics": {"a": "b"}}'])
def test_a_broken_result_is_no_reason_to_fail(tmp_path: Path, text: str) -> None:
    run = read_run(write(tmp_path / "a", result=text, train="step,loss\n7,1\n"))
    assert run.steps == 7
    assert (run.test, run.final) == ({}, {})
    assert summary(run)[0] == ("run", "a")
    assert bool(run.problems) == (text == "{")


def test_events_are_counted_by_kind_and_a_line_cut_short_is_left_out(tmp_path: Path) -> None:
    events = '{"kind": "saved", "step": 1}\n{"kind": "nonfinite", "step": 2}\n{"kind": "saved", "step": 3}\n{"kind": "sa'
    run = read_run(write(tmp_path / "a", events=events))
    assert run.event_counts == {"saved": 2, "nonfinite": 1}


@pytest.mark.parametrize(
    ("kind", "reason"), [("interrupted", "interrupted"), ("nonfinite", "stopped: loss not finite"), ("saved", "unfinished")]
)
def test_a_run_without_a_result_ended_as_its_last_event_says(tmp_path: Path, kind: str, reason: str) -> None:
    assert read_run(write(tmp_path / "a", events=json.dumps({"kind": kind, "step": 3}) + "\n")).stop_reason == reason


def test_runs_are_compared_in_one_table_with_gaps_where_one_has_no_such_metric(tmp_path: Path) -> None:
    one = read_run(write(tmp_path / "one", result='{"stop_reason": "budget spent", "steps": 5, "test": {"accuracy": 0.75}}'))
    two = read_run(write(tmp_path / "two", result='{"stop_reason": "early stop", "steps": 3, "test": {"r2": 0.5}}'))
    assert comparison([one, two]) == [
        ["run", "ended", "steps", "time", "best validation", "test accuracy", "test r2"],
        ["one", "budget spent", "5", "", "", "75.00 %", ""],
        ["two", "early stop", "3", "", "", "", "0.5"],
    ]


def test_rows_with_too_many_cells_are_left_out(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "a", train="step,loss\n1,2\n2,3,4,5\n3,6\n"))
    assert run.train["loss"].tolist() == [2, 6]


def test_of_a_long_run_extremes_ends_and_counts_are_those_of_its_rows(tmp_path: Path) -> None:
    folder, log = write(tmp_path / "a"), MetricLog(tmp_path / "a" / "metrics" / "train")
    losses = np.random.default_rng(0).normal(size=21_000)
    losses[[5, 9000, 20_990]] = np.nan, np.inf, 99.0
    losses[12_345] = -99.0
    for step, loss in enumerate(losses.tolist(), start=1):
        log.append({"step": step, "epoch": step / 100, "loss": loss})
    run = read_run(folder)
    series = Series.of(run.train, "loss")
    assert len(series.steps) < 400
    assert (run.steps, run.epochs) == (21_000, 210.0)
    first, last = losses[63], losses[-1]  # a point stands for 64 rows and holds their last value
    assert series.words("loss") == (
        f"loss: {number(first)} at step 64, {number(last)} at step 21,000, lowest -99, highest 99, "
        "not finite at 2 of 21,000 logged steps"
    )
    assert series.broken.tolist() == [64, 9024]
    steps, values = thin(series)
    assert {-99.0, 99.0} <= set(values.tolist())
    assert (np.diff(steps) >= 0).all()
    edges = band(series)
    assert (np.nanmin(edges.low), np.nanmax(edges.high)) == (-99.0, 99.0)


def test_a_log_that_is_damaged_is_said_once_and_the_rest_is_shown(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", validation="step,loss\n1,2\n")
    (folder / "metrics" / "train").mkdir()
    (folder / "metrics" / "train" / "000000000-000008192.npz").write_bytes(b"PK no archive")
    run = read_run(folder)
    assert len(run.problems) == 1
    assert "000000000-000008192.npz can't be read" in run.problems[0]
    assert run.validation["loss"].tolist() == [2.0]


def test_rows_after_a_missing_file_are_said_to_be_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", train="step,loss\n1,2\n")
    (folder / "metrics" / "train").mkdir()
    (folder / "metrics" / "train" / "000008192.csv").write_text("step,loss\n8193,1\n", encoding="utf-8")
    run = read_run(folder)
    assert run.train["step"].tolist() == [1]
    assert run.problems == ["train: a file is missing before 000008192.csv; the rows from there on are left out"]
