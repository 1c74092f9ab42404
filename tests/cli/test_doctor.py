"""`stepwell doctor`: what it answers for a job and for a run, with which exit code, and what --fix writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from table_job import Answer, call, content

from stepwell.recipe.files import read_job

JOB = """\
# a job with a rate that is far too high
data: {source: table, path: points.csv, target: side}
split: {validation: 0.3, test: 0.1}
model: {name: mlp, hidden: [8]}
task: classification
recipe:
  objective: {name: cross_entropy}
  optimizer: {name: lion, lr: 30.0}
  batch_size: 16
budget: 8 epochs
"""


def table(num_rows: int = 200) -> str:
    """Two numbers in no order, and on which side of a line they lie."""
    lines = ["a,b,side"]
    for number in range(num_rows):
        a, b = (number * 37 % 101) / 50 - 1, (number * 53 % 97) / 48 - 1
        lines.append(f"{a:.4f},{b:.4f},{'left' if a + b < 0 else 'right'}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text(JOB, encoding="utf-8")
    (tmp_path / "points.csv").write_text(table(), encoding="utf-8")
    return tmp_path


def doctor(*words: str) -> Answer:
    return call("doctor", *words)


def test_a_finding_ends_with_exit_code_1_and_changes_nothing(here: Path) -> None:
    before = content(here)
    ran = doctor("job.yaml")
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.startswith("lr_too_high (confidence ")
    assert "recipe.optimizer.lr = " in ran.out
    assert content(here) == before


def test_fix_writes_a_mended_job_in_the_authors_words_with_its_data_found_and_says_what_it_brought(here: Path) -> None:
    ran = doctor("job.yaml", "--fix", "--out", "ward")
    assert ran.code == 1
    assert "mended job: ward/job-mended.yaml" in ran.out
    assert "over 2 seeds" in ran.out.split("verified:")[1]
    mended = read_job("ward/job-mended.yaml")
    assert mended.recipe.optimizer.lr < 3.0
    assert mended.replace_at("recipe.optimizer.lr", 30.0).replace_at("data.path", "points.csv") == read_job("job.yaml")
    written = (here / "ward" / "job-mended.yaml").read_text(encoding="utf-8")
    assert "model: {name: mlp, hidden: [8]}\n" in written, "no default is spelled out"
    assert (here / "ward" / "diagnosis.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not doctor("ward/job-mended.yaml").out.startswith("lr_too_high")


def test_a_mended_job_is_never_written_over_another_file(here: Path) -> None:
    (here / "job-mended.yaml").write_text("mine", encoding="utf-8")
    ran = doctor("job.yaml", "--fix")
    assert ran.code == 2
    assert "job-mended.yaml exists" in ran.err
    assert (here / "job-mended.yaml").read_text(encoding="utf-8") == "mine"


def test_json_holds_all_that_was_found_and_applied(here: Path) -> None:
    ran = doctor("job.yaml", "--fix", "--json")
    told = json.loads(ran.out)
    assert ran.code == 1
    assert told["healthy"] is False
    assert told["findings"][0]["id"] == "lr_too_high"
    assert told["repair"]["verified"]["gain"] > 0.2
    assert told["job"]["file"] == "job-mended.yaml"
    assert told["job"]["changes"].keys() == {"recipe.optimizer.lr"}


def test_the_job_may_be_changed_and_given_other_data_first(here: Path) -> None:
    (here / "other.csv").write_text(table(100), encoding="utf-8")
    ran = doctor("job.yaml", "--set", "recipe.optimizer.lr=0.01", "--data", "other.csv")
    assert ran.code == 0, ran.out + ran.err
    assert ran.out.startswith("healthy")


def test_advice_is_told_where_nothing_is_wrong_and_tried_where_it_is_asked_for(here: Path) -> None:
    sound = ("job.yaml", "--set", "recipe.optimizer={name: adamw, lr: 0.1}", "--set", "budget=40 epochs")
    plain, none, tried = (json.loads(doctor(*sound, "--json", "--advice", word).out) for word in ("cheap", "none", "all"))
    assert all(told["healthy"] for told in (plain, none, tried))
    assert none["advice"] == []
    assert tried["num_steps"] > plain["num_steps"] == none["num_steps"]


def test_a_run_is_judged_by_its_records_and_with_fix_by_its_job(here: Path) -> None:
    assert call("train", "job.yaml", "--out", "run", "--quiet").code == 0
    before = content(here / "run")
    ran = doctor("run", "--out", "ward")
    assert ran.code in (0, 1)
    assert "asked: the records of the run; nothing was trained" in ran.out
    assert (here / "ward" / "diagnosis.html").exists()
    assert "findings" in json.loads(doctor("run", "--json").out)
    fixed = doctor("run", "--fix")
    assert "mended job: " in fixed.out
    assert read_job("run-mended.yaml").recipe.optimizer.lr < 3.0
    assert content(here / "run") == before, "a run's folder is left alone"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere.yaml",), "does not exist"),
        (("empty",), "holds no run"),
        (("job.yaml", "--set", "recipe.optimizer.lr=-1"), "lion.lr is -1"),
        (("job.yaml", "--set", "data={source: digits}", "--data", "points.csv"), "--data"),
        (("job.yaml", "--data", "absent.csv"), "absent.csv"),
        (("job.yaml", "--advice", "some"), "--advice is 'some'"),
    ],
)
def test_a_mistake_is_three_lines_and_exit_code_2(here: Path, words: tuple[str, ...], told: str) -> None:
    (here / "empty").mkdir()
    ran = doctor(*words)
    assert ran.code == 2
    assert told in ran.err
    assert [line.split(":")[0] for line in ran.err.splitlines()] == ["error", "expected", "fix"]
