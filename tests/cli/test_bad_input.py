"""Bad input: exit code 2, one error of three parts with file and line, and nothing lost or left behind."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from table_job import CLASSES, HEADER, JOB, REGRESSION, call, content, full_rows, row, rows, write

from stepwell.engine.records import saver
from stepwell.engine.records.checkpoint import checkpoints, load_checkpoint

BY_TIME = "split: {validation: 0.2, test: 0.2, by: time}"
SPLIT = "split: {validation: 0.2, test: 0.2}"


def job(old: str, new: str, *, of: str = JOB) -> str:
    assert old in of
    return of.replace(old, new)


MISTAKES_IN_THE_JOB = {
    "an unknown key": (job("batch_size", "batchsize"), "job.yaml:8", "'batchsize'", "Did you mean 'batch_size'"),
    "a wrong type": (job("lr: 0.1", "lr: fast"), "job.yaml:7", "lr is 'fast'", "lr: 0.1"),
    "a key twice": (JOB + "budget: 9 epochs\n", "job.yaml:10", "first at job.yaml:9", "Remove one"),
    "a quoted number": (job("lr: 0.1", 'lr: "0.1"'), "job.yaml:7", "'0.1' (text)", "Remove the quotes"),
    "a tab": (job("  batch_size", "\tbatch_size"), "job.yaml:8", "tab", "spaces"),
    "aliases that explode": (
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: &d [*c, *c]\n" + JOB,
        "job.yaml:1",
        "&a is an anchor",
        "Remove the anchor",
    ),
    "a tag": (job("{name: sgd, lr: 0.1}", "!!python/object/apply:os.mkdir [owned]"), "job.yaml:7", "tag", "Remove the tag"),
    "an empty file": ("", "job.yaml:1", "empty", "data: {source: digits}"),
    "bytes that are no text": ("\udcff\udcfe", "job.yaml:1", "not UTF-8", "Save the file as UTF-8"),
    "a missing data file": (job("credit.csv", "debit.csv"), "job.yaml:1", "'debit.csv' does not exist", "holds credit.csv"),
    "a missing split file": (
        job(SPLIT, "split:\n  by: file\n  validation_path: late.csv"),
        "job.yaml:4",
        "'late.csv' does not exist",
        "Check the path",
    ),
    "one file for two parts": (job(SPLIT, "split: {by: file, test_path: credit.csv}"), "job.yaml:1", "two parts", "another file"),
    "a technique twice": (
        job("  batch_size", "  techniques:\n    - {name: ema}\n    - {name: ema}\n  batch_size"),
        "job.yaml:10",
        "'ema' again",
        "Remove one",
    ),
    "a batch larger than the data": (job("batch_size: 8", "batch_size: 4096"), "job.yaml:8", "24 training examples", "smaller"),
    "an objective of another task": (job("bce", "cross_entropy"), "job.yaml:6", "doesn't fit the task binary", "bce"),
    "a model for other data": (job("{name: mlp, hidden: [8]}", "convnet"), "job.yaml:3", "convnet", "mlp"),
    "a separator of two characters": (job("target:", "separator: ab, target:"), "job.yaml:1", "'ab'", "separator"),
}


@pytest.mark.parametrize("verb", ["train", "check", "explain"])
@pytest.mark.parametrize("case", MISTAKES_IN_THE_JOB)
def test_a_mistake_in_the_job_is_told_at_its_line_and_leaves_nothing(here: Path, case: str, verb: str) -> None:
    text, place, what, fix = MISTAKES_IN_THE_JOB[case]
    (here / "job.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    before = content(here)
    answer = call(verb, "job.yaml")
    told = answer.mistake()
    assert answer.code == 2
    assert told[0].startswith(f"{place}: ")
    assert what in told[0]
    assert fix in told[2]
    assert content(here) == before


MISTAKES_IN_THE_DATA = {
    "an empty file": (JOB, "", "credit.csv", "empty"),
    "empty lines": (JOB, "\n\n", "credit.csv", "nothing but empty lines"),
    "a header only": (JOB, HEADER, "credit.csv", "a header but no rows"),
    "a header without its line end": (JOB, HEADER.strip(), "credit.csv", "a header but no rows"),
    "a short row": (JOB, HEADER + rows(20) + "1,2,red\n" + rows(5), "credit.csv:22", "3 fields, the header has 4"),
    "a long row": (JOB, HEADER + rows(20) + "1,2,red,no,no\n" + rows(5), "credit.csv:22", "5 fields, the header has 4"),
    "bytes that are no text": (JOB, HEADER + rows(20) + "1,2,\udcff,no\n", "credit.csv", "not UTF-8"),
    "another separator": (JOB, (HEADER + rows(20)).replace(",", ";"), "credit.csv:1", "one column"),
    "two columns of one name": (JOB, "age,age,colour,paid\n" + rows(20), "credit.csv:1", "'age'"),
    "no target column": (job("target: paid", "target: piad"), HEADER + rows(40), "credit.csv", "target column 'piad'"),
    "no other column": (JOB, "paid\n" + "yes\nno\n" * 20, "credit.csv", "no columns to learn from"),
    "a column of gaps": (JOB, HEADER + ",1,red,no\n,2,red,yes\n" * 20, "credit.csv", "'age' has no values"),
    "an infinite feature": (JOB, HEADER + rows(20) + "inf,1,red,no\n" + rows(9, 21), "credit.csv:22", "'age' is inf"),
    "a feature near infinity": (JOB, HEADER + rows(20) + "1e308,1,red,no\n-1e308,1,red,no\n" * 9, "credit.csv", "'age'"),
    "a target that is missing": (JOB, HEADER + rows(20) + "1,1,red,\n" + rows(9, 21), "credit.csv:22", "'paid' is missing"),
    "a target that is NaN": (REGRESSION, HEADER + full_rows(20) + "1,nan,red,no\n" + full_rows(9), "credit.csv:22", "'income'"),
    "a target that is Inf": (REGRESSION, HEADER + full_rows(20) + "1,inf,red,no\n" + full_rows(9), "credit.csv:22", "'income'"),
    "a constant class": (JOB, HEADER + rows(40).replace("yes", "no"), "credit.csv", "'paid' is no in every"),
    "a constant number": (REGRESSION, HEADER + "1,5,red,no\n2,5,red,no\n" * 20, "credit.csv", "'income' is 5 in every"),
    "one row": (JOB, HEADER + rows(1), "credit.csv", "1 example, too few"),
    "one row and no split": (job(SPLIT, "split: {validation: 0, test: 0}"), HEADER + rows(1), "credit.csv", "every training"),
    "a word in a regression": (REGRESSION, HEADER + full_rows(20) + "1,much,red,no\n" + full_rows(9), "credit.csv:22", "'much'"),
    "text for a regression": (job("income", "colour", of=REGRESSION), HEADER + rows(40), "credit.csv:", "holds '"),
    "many values for a binary task": (job("target: paid", "target: age"), HEADER + rows(40), "credit.csv", "different values"),
    "numbers for a classification": (
        job("target: paid", "target: income", of=CLASSES),
        HEADER + "".join(f"1,{number * 1.37},red,no\n" for number in range(40)),
        "credit.csv",
        "24 different values in 24",
    ),
    "a class that only validation has": (
        job(SPLIT, BY_TIME, of=CLASSES),
        HEADER + rows(30) + row(1).replace("no", "yes").replace("yes", "maybe") + rows(9),
        "credit.csv:32",
        "'maybe' of target 'paid' is in the validation part",
    ),
}


@pytest.mark.parametrize("case", MISTAKES_IN_THE_DATA)
def test_a_mistake_in_the_data_is_told_at_its_line_and_leaves_nothing(here: Path, case: str) -> None:
    text, table, place, what = MISTAKES_IN_THE_DATA[case]
    write(here, job=text)
    (here / "credit.csv").write_bytes(table.encode("utf-8", "surrogateescape"))
    before = content(here)
    for verb in ("check", "train"):
        answer = call(verb, "job.yaml")
        told = answer.mistake()
        assert answer.code == 2
        assert told[0].startswith(place)
        assert what in told[0]
        assert content(here) == before


def test_files_of_a_split_that_share_a_row_are_refused_with_both_lines(here: Path) -> None:
    write(here, job=job(SPLIT, "split: {by: file, validation_path: later.csv, test_path: last.csv}"))
    (here / "later.csv").write_text(HEADER + rows(5, 41), encoding="utf-8")
    (here / "last.csv").write_text(HEADER + rows(3, 46) + row(7), encoding="utf-8")
    answer = call("train", "job.yaml")
    assert answer.code == 2
    assert answer.mistake()[0].startswith("last.csv:5: this row stands at credit.csv:9 too")
    assert not (here / "runs").exists()


def test_a_nan_among_the_features_is_a_gap_that_is_filled(here: Path) -> None:
    write(here, table=HEADER + rows(20) + "nan,1,red,no\n" + rows(19, 21))
    assert call("check", "job.yaml").code == 0


def test_a_mistake_does_not_block_the_next_try_in_the_same_folder(here: Path) -> None:
    assert call("train", "job.yaml", "--out", "run", "--set", "recipe.batch_size=4096").code == 2
    assert not (here / "run").exists()
    assert call("train", "job.yaml", "--out", "run", "--quiet", "--set", "budget=1 steps").code == 0


MISTAKES_IN_NEW_DATA = {
    "no such file": (None, "new.csv", "does not exist"),
    "empty": ("", "new.csv", "empty"),
    "a header only": (HEADER, "new.csv", "no rows"),
    "a column is missing": ("age,colour\n30,red\n", "new.csv", "'income' is missing"),
    "text in a column of numbers": (HEADER + "30,1,red,no\nold,1,red,no\n", "new.csv:3", "'old'"),
    "an infinite number": (HEADER + "30,1,red,no\n30,-inf,red,no\n", "new.csv:3", "'income' is -inf"),
    "a ragged row": (HEADER + row(1) + "1,2\n", "new.csv:3", "2 fields"),
}


@pytest.mark.parametrize("case", MISTAKES_IN_NEW_DATA)
def test_new_data_that_does_not_fit_is_told_at_its_line_and_the_run_stays_as_it_is(with_run: Path, case: str) -> None:
    text, place, what = MISTAKES_IN_NEW_DATA[case]
    if text is not None:
        (with_run / "new.csv").write_text(text, encoding="utf-8")
    before = content(with_run)
    commands = [["predict", "run", "new.csv", "--out", "answers.csv"]]
    if case != "a column is missing":
        commands.append(["evaluate", "run", "--data", "new.csv"])
    for command in commands:
        answer = call(*command)
        assert answer.code == 2
        assert answer.mistake()[0].startswith(place)
        assert what in answer.err
    assert content(with_run) == before


def test_evaluation_needs_targets_that_training_knew(with_run: Path) -> None:
    (with_run / "new.csv").write_text(HEADER + row(0) + "30,1,red,maybe\n", encoding="utf-8")
    assert "'maybe'" in call("evaluate", "run", "--data", "new.csv").mistake()[0]
    (with_run / "new.csv").write_text("age,income,colour\n30,1,red\n", encoding="utf-8")
    assert "target column 'paid'" in call("evaluate", "run", "--data", "new.csv").mistake()[0]


@pytest.mark.parametrize("out", ["nowhere/answers.csv", "run"])
def test_predictions_that_can_not_be_written_there_are_refused_before_anything_is_read(with_run: Path, out: str) -> None:
    before = content(with_run)
    answer = call("predict", "run", "credit.csv", "--out", out)
    assert answer.code == 2
    assert out.split("/")[0] in answer.mistake()[0]
    assert content(with_run) == before


@pytest.mark.parametrize("verb", ["resume", "evaluate", "predict", "report"])
@pytest.mark.parametrize("folder", ["nowhere", "job.yaml", "empty"])
def test_what_is_no_run_is_refused_by_every_verb_that_takes_one(with_run: Path, verb: str, folder: str) -> None:
    (with_run / "empty").mkdir()
    before = content(with_run)
    answer = call(verb, folder, *(["credit.csv"] if verb == "predict" else []))
    assert answer.code == 2
    assert folder in answer.mistake()[0]
    assert content(with_run) == before


@pytest.mark.parametrize("options", [[], ["--set", "seed=3"]])
def test_a_folder_that_holds_a_run_is_refused_and_stays_as_it_is(with_run: Path, options: list[str]) -> None:
    before = content(with_run, but=("lock",))
    answer = call("train", "job.yaml", "--out", "run", *options)
    assert answer.code == 2
    told = answer.mistake()
    assert ("another job's run" if options else "this job's run") in told[0]
    assert "stepwell resume run" in told[2]
    assert content(with_run, but=("lock",)) == before


def test_a_folder_that_holds_something_else_is_refused_and_stays_as_it_is(here: Path) -> None:
    (here / "photos").mkdir()
    (here / "photos" / "me.txt").write_text("me", encoding="utf-8")
    before = content(here)
    for out in ("photos", "credit.csv", "credit.csv/run"):
        answer = call("train", "job.yaml", "--out", out)
        assert answer.code == 2
        assert out in answer.mistake()[0]
        assert content(here) == before


@pytest.mark.parametrize("command", [["train", "job.yaml", "--out", "run"], ["resume", "run", "--budget", "9 epochs"]])
def test_a_folder_in_use_is_refused_and_says_by_whom(with_run: Path, command: list[str]) -> None:
    with open(with_run / "run" / "lock", "r+", encoding="utf-8") as holder:
        holder.truncate()
        holder.write("4711")
        holder.flush()
        fcntl.flock(holder, fcntl.LOCK_EX)
        before = content(with_run)
        answer = call(*command)
        assert answer.code == 2
        assert "in use by process 4711" in answer.mistake()[0]
        assert content(with_run) == before


def test_two_trainings_in_one_process_do_not_hold_each_other_s_folder(with_run: Path) -> None:
    assert call("train", "job.yaml", "--out", "run").code == 2
    assert call("resume", "run", "--quiet").code == 0


def test_data_that_changed_is_refused_by_resume_and_evaluate(with_run: Path) -> None:
    (with_run / "credit.csv").write_text(HEADER + rows(41), encoding="utf-8")
    before = content(with_run)
    for command in (["resume", "run"], ["evaluate", "run"]):
        answer = call(*command)
        assert answer.code == 2
        assert "the data has changed" in answer.mistake()[0]
        assert content(with_run) == before


@pytest.mark.parametrize("name", ["result.json", "manifest.json", "model/model.json", "model/model.safetensors", "job.yaml"])
def test_a_run_with_a_broken_file_is_told_so(with_run: Path, name: str) -> None:
    (with_run / "run" / name).write_text("{[", encoding="utf-8")
    answer = call("evaluate", "run")
    assert answer.code == 2
    assert "run/" in answer.mistake()[0]


def deny(monkeypatch: pytest.MonkeyPatch, function: str, part: str) -> None:
    """os.FUNCTION refuses paths with a certain part, as for a user without rights: the tests may run as root."""
    real = getattr(os, function)

    def refuse(path: Any, *arguments: Any, **settings: Any) -> Any:
        if part in str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *arguments, **settings)

    monkeypatch.setattr(os, function, refuse)


def test_without_permission_to_write_the_folder_is_named_and_nothing_is_left(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(here)
    for out in (["--out", "run"], []):
        with monkeypatch.context() as patch:
            deny(patch, "mkdir", "run")
            answer = call("train", "job.yaml", *out)
        assert answer.code == 2
        assert "run" in answer.mistake()[0]
        assert "ermission" in answer.err
        assert "--out" in answer.mistake()[2]
        assert content(here) == before


def full_disk_at(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """No space is left once a file with a certain part in its path is flushed."""
    real = os.fsync

    def fail(file: int) -> None:
        if part in os.readlink(f"/proc/self/fd/{file}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", fail)


SAME = ("model/model.safetensors", "metrics/train.csv", "metrics/validation.csv")


def test_a_checkpoint_that_finds_no_space_is_told_and_training_goes_on(with_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        full_disk_at(patch, "step-9")
        answer = call("train", "job.yaml", "--out", "full", "--quiet")
    assert answer.code == 0
    assert "the checkpoint of step 9 was not saved: the disk is full while writing full/checkpoints/step-9" in answer.err
    events = [json.loads(line) for line in (with_run / "full" / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["kind"] == "save_failed"] == [9]
    assert [event["step"] for event in events if event["kind"] == "saved"] == [3, 6, 12]
    assert list((with_run / "full" / "checkpoints").glob(".*")) == []
    for name in SAME:
        assert (with_run / "full" / name).read_bytes() == (with_run / "run" / name).read_bytes()


def test_a_disk_that_stays_full_ends_the_run_and_resume_reaches_the_same_weights(
    with_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        full_disk_at(patch, "checkpoints/.step-")
        patch.setattr(saver, "MOST_FAILED", 2)
        answer = call("train", "job.yaml", "--out", "full", "--quiet")
    assert answer.code == 3
    told = answer.mistake()
    assert told[0].startswith("2 checkpoints in a row could not be saved: the disk is full while writing full/checkpoints/")
    assert "stepwell resume" in told[2]
    assert checkpoints(with_run / "full" / "checkpoints") == []
    assert list((with_run / "full" / "checkpoints").glob(".*")) == []
    assert call("resume", "full", "--quiet").code == 0
    for name in SAME:
        assert (with_run / "full" / name).read_bytes() == (with_run / "run" / name).read_bytes()


def test_a_disk_that_is_full_from_the_start_leaves_nothing_that_blocks_the_next_try(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(here)
    with monkeypatch.context() as patch:
        full_disk_at(patch, "manifest.json")
        answer = call("train", "job.yaml", "--out", "run")
    assert answer.code == 2
    assert "the disk is full" in answer.mistake()[0]
    assert content(here) == before


def test_a_loss_that_blows_up_ends_with_3_says_what_to_try_and_keeps_what_was_good(here: Path) -> None:
    write(here, job=job("lr: 0.1", "lr: 1.0", of=REGRESSION).replace("4 epochs", "60 epochs"), table=HEADER + full_rows(40))
    answer = call("train", "job.yaml", "--out", "run", "--quiet")
    assert answer.code == 3
    what, _, fix = answer.mistake()
    assert "became non-finite" in what
    assert all(word in what for word in ("last finite", "grad_norm", "lr 1", "Weights were not updated"))
    assert all(word in fix for word in ("lower peak lr", "warmup", "clip_norm 1.0", "details: run"))
    kept = checkpoints(here / "run" / "checkpoints")
    assert kept
    weights = load_checkpoint(kept[0])["step"]["model"]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
    again = call("resume", "run", "--quiet")
    assert (again.code, again.mistake()) == (3, answer.mistake())
    assert load_checkpoint(kept[0])["step"]["model"].keys() == weights.keys()


def test_check_tells_that_a_loss_blows_up_before_anything_is_trained(here: Path) -> None:
    write(here, job=job("lr: 0.1", "lr: 1e30", of=REGRESSION), table=HEADER + full_rows(40))
    before = content(here)
    answer = call("check", "job.yaml")
    assert answer.code == 3
    assert "after one step" in answer.mistake()[0]
    assert content(here) == before


def test_the_traceback_is_shown_for_debug_only(here: Path) -> None:
    (here / "credit.csv").unlink()
    command = [sys.executable, "-m", "stepwell.cli.main", "train", "job.yaml", "--debug"]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.returncode == 2
    assert shown.stderr.startswith("Traceback")
    assert shown.stderr.splitlines()[-3].startswith("error:    job.yaml:1: data file 'credit.csv' does not exist")
    assert "Traceback" not in call("train", "job.yaml").err
