"""`stepwell audit`: a run as it was written holds; each kind of damage is found and named; a crash is no damage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import stepwell
from stepwell.core.errors import JobError, RunFolderError
from stepwell.engine.records.event_log import read_events
from stepwell.engine.records.storage import sha256
from stepwell.engine.trainer import Trainer
from stepwell.recipe.evidence import fingerprint, manifest
from stepwell.recipe.evidence.audit import audit


def train(folder: Path, **settings: object) -> None:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    told: dict = {"budget": "3 epochs", "out": folder, "recipe": stepwell.Recipe(optimizer="sgd", techniques=["ema"])} | settings
    stepwell.fit(nn.Linear(4, 2), (x, (x.sum(1) > 0).long()), val=(x, (x.sum(1) > 0).long()), **told)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "run"
    train(folder)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def answers(folder: Path, **settings: str) -> dict[str, str]:
    return {check.name: check.answer for check in audit(folder, **settings).checks}


def test_a_run_as_it_was_written_holds_in_every_point(run: Path) -> None:
    found = audit(run)
    assert found.ok
    assert {check.answer for check in found.checks} == {"holds"}
    names = {check.name for check in found.checks}
    assert {"manifest and job", "event log", "model/model.safetensors", "result.json", "metrics"} <= names
    assert {f"checkpoint {path.name}" for path in (run / "checkpoints").iterdir()} <= names
    assert found.head == read_events(run / "events.jsonl")[-1].sha256


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_digit(path: Path) -> None:
    """The last digit of a table's last row, so that it still reads as a number."""
    text = path.read_text(encoding="utf-8").rstrip("\n")
    path.write_text(text[:-1] + ("1" if text[-1] != "1" else "2") + "\n", encoding="utf-8")


def without_last_line(path: Path) -> None:
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")


def newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))


def other_checkpoint(run: Path) -> None:
    """A whole checkpoint of another run under the name of one of this."""
    train(run.parent / "other", seed=5)
    shutil.rmtree(newest(run))
    shutil.copytree(
        newest(run.parent / "other"), newest(run.parent / "other").parent.parent.parent / "run" / "checkpoints" / "step-6"
    )


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "the job": (lambda run: (run / "job.yaml").write_text("seed: 4\n", encoding="utf-8"), "manifest and job"),
    "the job's absence": (lambda run: (run / "job.yaml").unlink(), "manifest and job"),
    "the manifest": (lambda run: flip(run / "manifest.json"), "event log"),
    "the manifest's absence": (lambda run: (run / "manifest.json").unlink(), "manifest and job"),
    "an event": (lambda run: flip(run / "events.jsonl"), "event log"),
    "the events' absence": (lambda run: (run / "events.jsonl").unlink(), "event log"),
    "the weights": (lambda run: flip(run / "model" / "model.safetensors"), "model/model.safetensors"),
    "the description": (lambda run: flip(run / "model" / "model.json"), "model/model.json"),
    "a figure in the metrics": (lambda run: other_digit(run / "metrics" / "train.csv"), "metrics"),
    "a row of the metrics": (lambda run: without_last_line(run / "metrics" / "train.csv"), "metrics"),
    "the result": (lambda run: flip(run / "result.json"), "result.json"),
    "the result's absence": (lambda run: (run / "result.json").unlink(), "result.json"),
    "a checkpoint": (lambda run: flip(newest(run) / "state.safetensors"), "checkpoint step-6"),
    "a checkpoint of another run": (other_checkpoint, "checkpoint step-6"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found_where_it_is(run: Path, what: str) -> None:
    do, name = DAMAGE[what]
    do(run)
    found = audit(run)
    assert not found.ok
    assert name in [check.name for check in found.checks if check.answer == "broken"]


def test_a_checkpoint_that_the_log_does_not_know_is_told(run: Path) -> None:
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (run / "events.jsonl").write_text("".join(lines[:1] + lines[-2:]), encoding="utf-8")
    assert answers(run)[f"checkpoint {newest(run).name}"] == "broken"


def test_an_expected_head_tells_a_history_that_was_written_anew(run: Path, tmp_path: Path) -> None:
    kept = audit(run).head
    assert answers(run, expect=kept)["expected head"] == "holds"
    shutil.rmtree(run)
    train(run)  # equal in all but the times: whole in itself, and another history
    assert audit(run).ok
    assert answers(run, expect=kept)["expected head"] == "broken"


def test_an_expected_head_still_holds_when_the_run_has_gone_on(run: Path) -> None:
    kept = audit(run).head
    train(run, existing="resume")
    assert audit(run).head != kept
    assert answers(run, expect=kept)["expected head"] == "holds"
    assert audit(run).ok


def test_a_history_cut_short_is_told_by_an_expected_head_alone(run: Path) -> None:
    kept = audit(run).head
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (run / "events.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")
    assert audit(run).ok  # as docs/audit.md says
    assert answers(run, expect=kept)["expected head"] == "broken"


def test_a_head_that_is_none_is_a_mistake_in_the_command(run: Path) -> None:
    with pytest.raises(JobError, match="64 hex digits"):
        audit(run, expect="abc")
    with pytest.raises(RunFolderError, match="holds no run"):
        audit(run / "checkpoints")


@pytest.mark.parametrize("place", ["before the log knows of a checkpoint", "in the middle of a line"])
def test_a_crash_is_no_damage_and_a_resume_puts_on_record_what_it_left(tmp_path: Path, place: str) -> None:
    run = tmp_path / "run"
    train(run)
    path = run / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    saved = [index for index, line in enumerate(lines) if b'"saved"' in line][-1]
    shutil.rmtree(run / "model")
    (run / "result.json").unlink()
    path.write_bytes(b"".join(lines[:saved]) + (lines[saved][:50] if "line" in place else b""))
    found = audit(run)
    assert found.ok
    assert answers(run)[f"checkpoint {newest(run).name}"] == "not known"
    train(run, existing="resume")
    found = audit(run)
    assert {check.answer for check in found.checks} == {"holds"}
    kinds = [event.kind for event in read_events(path)]
    assert "found" in kinds
    assert ("log_cut" in kinds) == ("line" in place)


def test_a_resume_elsewhere_is_on_record_with_what_differs(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    train(run, existing="resume")
    (event,) = [event for event in read_events(run / "events.jsonl") if event.kind == "environment_changed"]
    told = {item["path"]: (item["before"], item["now"], item["affects"]) for item in event.detail["differences"]}
    assert told["variables.MKL_CBWR"] == (None, "AVX2", "bits")
    assert audit(run).ok


def test_a_resume_in_the_same_environment_says_nothing_of_it(run: Path) -> None:
    train(run, existing="resume")
    kinds = [event.kind for event in read_events(run / "events.jsonl")]
    assert "resumed" in kinds
    assert "environment_changed" not in kinds


def test_a_run_that_failed_says_why_in_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Trainer) -> str:
        self.save()
        raise RuntimeError("the fan stopped; password=hunter2hunter2")

    monkeypatch.setattr(Trainer, "run", broken)
    with pytest.raises(RuntimeError):
        train(tmp_path / "run")
    failed = read_events(tmp_path / "run" / "events.jsonl")[-1]
    assert (failed.kind, failed.detail["error"]) == ("failed", "RuntimeError")
    assert failed.detail["reason"] == "the fan stopped; password=[redacted]"


def test_a_run_in_which_nothing_happened_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Trainer) -> str:
        raise RuntimeError("at once")

    monkeypatch.setattr(Trainer, "run", broken)
    with pytest.raises(RuntimeError):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_manifest_has_the_job_the_seed_and_each_technique_with_its_version(run: Path) -> None:
    told = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert told["job_sha256"] == sha256((run / "job.yaml").read_bytes())
    assert (told["schema"], told["seed"]) == (2, 0)
    from stepwell.techniques.average import ema

    found = {item["id"]: item for item in told["techniques"]}
    assert found.keys() == {"sgd", "ema"}
    assert found["ema"]["sha256"] == sha256(Path(str(ema.__file__)).read_bytes())
    assert found["ema"]["version"] == stepwell.__version__
    assert told["environment"]["numeric"] == fingerprint.numeric_fingerprint()


def test_the_git_state_is_that_of_the_jobs_folder(tmp_path: Path) -> None:
    assert manifest.git_state(tmp_path) is None

    def git(*words: str) -> str:
        told = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
        return subprocess.run(
            ["git", *words], cwd=tmp_path, env=os.environ | told, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    assert manifest.git_state(tmp_path) == {"commit": None, "changed_files": 0, "diff_sha256": None}
    (tmp_path / "job.yaml").write_text("seed: 1\n", encoding="utf-8")
    git("add", ".")
    git("commit", "-qm", "one")
    clean = manifest.git_state(tmp_path)
    assert clean == {"commit": git("rev-parse", "HEAD"), "changed_files": 0, "diff_sha256": None}
    (tmp_path / "job.yaml").write_text("seed: 2\n", encoding="utf-8")
    second = manifest.git_state(tmp_path)
    (tmp_path / "job.yaml").write_text("seed: 3\n", encoding="utf-8")
    third = manifest.git_state(tmp_path)
    assert second is not None
    assert third is not None
    assert second["commit"] == clean["commit"]
    assert second["changed_files"] == third["changed_files"] == 1
    assert len({second["diff_sha256"], third["diff_sha256"], None}) == 3


def test_a_git_that_is_absent_or_never_answers_keeps_no_run_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert manifest.git_state(tmp_path) is None
    (tmp_path / "git").write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n", encoding="utf-8")
    (tmp_path / "git").chmod(0o700)
    monkeypatch.setattr(manifest, "GIT_SECONDS", 0.2)
    assert manifest.git_state(tmp_path) is None  # had it waited for the end, there would be an answer


def test_what_was_typed_in_has_no_source_and_says_so() -> None:
    code: dict = {}
    exec("def loss(outputs, targets): return outputs.sum()", code)
    assert manifest.code_version(code["loss"])["sha256"] is None


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_audit_changes_nothing_not_even_what_a_crash_left(run: Path) -> None:
    for path in [run / "events.jsonl", *(path for path in (run / "metrics").rglob("*") if path.is_file())]:
        path.write_bytes(path.read_bytes()[:-7])
    before = contents(run)
    audit(run)
    assert contents(run) == before


def test_rows_that_are_gone_are_found(run: Path) -> None:
    files = [path for path in (run / "metrics").rglob("train*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert answers(run)["metrics"] == "broken"
