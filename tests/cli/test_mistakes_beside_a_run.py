"""schedule, predict and resume, called wrongly: three lines that say what to do instead, and nothing changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from table_job import HEADER, call, content, rows


def test_a_job_without_a_schedule_has_a_picture_of_its_constant_rate(here: Path) -> None:
    answer = call("schedule", "job.yaml", "--png", "lr.png")
    assert (answer.code, answer.out.splitlines()[0]) == (0, "optimizer.lr: 0.1 at every step")
    assert (here / "lr.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("path", ["none/lr.png", "lr", "lr.svg", ".", "job.yaml/lr.png"])
def test_a_picture_that_can_t_be_written_is_refused_before_the_job_is_read(here: Path, path: str) -> None:
    (here / "job.yaml").write_text("nonsense", encoding="utf-8")
    before = content(here)
    answer = call("schedule", "job.yaml", "--png", path)
    assert answer.code == 2
    assert "png" in " ".join(answer.mistake())
    assert content(here) == before


def test_predict_says_which_kind_of_file_the_run_reads(with_run: Path) -> None:
    np.savez(with_run / "new.npz", inputs=np.zeros((3, 3)))
    what, expected, fix = call("predict", "run", "new.npz").mistake()
    assert what == "new.npz ends in .npz"
    assert "a CSV or Parquet file with the columns age, income, colour" in expected
    assert "to_csv(" in fix


@pytest.mark.parametrize("name", ["new.csv", "new.pkl", "new"])
def test_bytes_that_are_no_text_are_told_whatever_they_are_called(with_run: Path, name: str) -> None:
    (with_run / name).write_bytes(b"\x80\x04\x95\x00,\xff\n\x80,\x81\n")
    answer = call("predict", "run", name)
    assert answer.code == 2
    assert "fault in stepwell" not in " ".join(answer.mistake())


def test_predictions_never_replace_the_data_that_they_are_made_from(with_run: Path) -> None:
    (with_run / "new.csv").write_text(HEADER + rows(3), encoding="utf-8")
    before = content(with_run)
    assert "is the data itself" in call("predict", "run", "new.csv", "--out", "../here/new.csv").mistake()[0]
    assert content(with_run) == before


@pytest.mark.parametrize("verb", [("predict", "{}", "credit.csv"), ("evaluate", "{}"), ("resume", "{}"), ("report", "{}")])
@pytest.mark.parametrize("name", ["weights.pt", "job.yaml", "nothing"])
def test_what_is_no_run_folder_is_told_alike_by_every_verb(with_run: Path, verb: tuple[str, ...], name: str) -> None:
    (with_run / "weights.pt").write_bytes(b"\x80\x02")
    answer = call(*(word.format(name) for word in verb))
    assert answer.code == 2
    what, _, fix = answer.mistake()
    assert name in what
    ways = {"weights.pt": "stepwell import weights.pt", "job.yaml": "stepwell train job.yaml", "nothing": "Give the folder"}
    assert ways[name] in fix


def test_a_resume_says_what_may_change_and_what_to_do_for_the_rest(with_run: Path) -> None:
    before = content(with_run)
    _, expected, fix = call("resume", "run", "--set", "recipe.optimizer.lr=1").mistake()
    assert "--budget and --max-time" in expected
    assert "stepwell train run/job.yaml --set recipe.optimizer.lr=1" in fix
    assert '--budget "9 epochs"' in call("resume", "run", "--set", "budget=9 epochs").mistake()[2]
    assert '--max-time "1 minutes"' in call("resume", "run", "--set", "stop.max_time=1 minutes").mistake()[2]
    assert content(with_run) == before


def test_a_resume_to_less_than_is_done_is_refused_and_a_limit_in_time_is_kept(with_run: Path) -> None:
    # 24 training rows in batches of 8 are 3 steps an epoch: 12 steps are done.
    what, _, fix = call("resume", "run", "--budget", "3 epochs", "--quiet").mistake()
    assert what == "the run has done 12 steps, and a budget of 3 epochs is 9 steps"
    assert '--budget "12 steps"' in fix
    assert "12 steps, budget spent" in call("resume", "run", "--budget", "12 steps", "--quiet").out
    assert (
        "max time of 0.001 s reached" in call("resume", "run", "--budget", "99999 epochs", "--max-time", "0.001 s", "--quiet").out
    )


def test_a_run_that_ended_by_itself_is_not_lengthened(here: Path) -> None:
    settings = ["--set", "recipe.techniques=[{name: early_stopping, patience: 1, min_delta: 1.0}]"]
    assert call("train", "job.yaml", "--out", "run", "--quiet", *settings).code == 0
    what, expected, _ = call("resume", "run", "--budget", "50 epochs", "--quiet").mistake()
    assert "ended by itself (early_stopping" in what
    assert "budget" in expected


def test_resume_given_as_an_option_of_train_names_the_verb(here: Path) -> None:
    assert "stepwell resume RUN" in call("train", "job.yaml", "--resume").mistake()[2]
