"""A job edited by hand in a run folder is noticed by every verb; a budget given at a resume is known to all later ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import stepwell
from stepwell.core.errors import JobError, RunFolderError
from stepwell.engine.records.event_log import read_events
from stepwell.recipe.evidence.audit import audit

RECIPE = {"optimizer": {"name": "sgd", "lr": 0.05}, "schedule": "cosine", "batch_size": 30}


def job(**changed: Any) -> stepwell.Job:
    given = {"data": {"source": "iris"}, "model": "mlp", "task": "classification", "recipe": RECIPE, "budget": "8 steps"}
    return stepwell.Job.from_mapping(given | {"checkpoint_every": "4 steps", "log_every": "1 steps"} | changed)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job_record") / "run"
    stepwell.train(job(), out=folder)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def edit(folder: Path, before: str, after: str) -> None:
    text = (folder / "job.yaml").read_text(encoding="utf-8")
    assert before in text
    (folder / "job.yaml").write_text(text.replace(before, after), encoding="utf-8")


def kinds(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event.detail for event in read_events(folder / "events.jsonl") if event.kind == kind]


def of_job(folder: Path) -> tuple[str, str]:
    (check,) = [check for check in audit(folder).checks if check.name == "manifest and job"]
    return check.answer, check.told


VERBS: dict[str, Callable[[Path], Any]] = {
    "resume": stepwell.resume,
    "evaluate": lambda run: stepwell.evaluate(run, split="train"),
    "verify": stepwell.verify,
    "replay": stepwell.replay,
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("before", "after", "told"),
    [("lr: 0.05", "lr: 0.5", "recipe.optimizer.lr 0.05 -> 0.5"), ("seed: 0", "seed: 1", "seed 0 -> 1")],
)
def test_a_job_edited_in_what_is_computed_is_refused_with_the_setting(
    run: Path, verb: str, before: str, after: str, told: str
) -> None:
    edit(run, before, after)
    content = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
    with pytest.raises(RunFolderError, match="was edited since the run was started") as refused:
        VERBS[verb](run)
    assert told in refused.value.what
    assert {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()} == content
    answer, why = of_job(run)
    assert answer == "broken"
    assert told in why


def test_the_text_that_the_manifest_keeps_puts_an_edited_job_right(run: Path) -> None:
    before = (run / "job.yaml").read_bytes()
    edit(run, "lr: 0.05", "lr: 0.5")
    (run / "job.yaml").write_text(json.loads((run / "manifest.json").read_text(encoding="utf-8"))["job"], encoding="utf-8")
    assert (run / "job.yaml").read_bytes() == before
    assert audit(run).ok


def test_a_job_whose_manifest_keeps_only_its_sum_is_refused_too(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    del manifest["job"]
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    edit(run, "budget: 8 steps", "budget: 12 steps")
    with pytest.raises(RunFolderError, match="an older version wrote the manifest"):
        stepwell.resume(run)


def test_a_budget_edited_by_hand_is_taken_up_told_and_on_record(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit(run, "budget: 8 steps", "budget: 12 steps")
    assert of_job(run)[0] == "broken"  # nothing says yet that it is meant
    assert stepwell.resume(run).steps == 12
    assert "budget '8 steps' -> '12 steps'" in caplog.text
    assert kinds(run, "budget_changed") == [{"before": "8 steps", "now": "12 steps"}]
    (told,) = kinds(run, "job_edited")
    assert told["changes"] == [{"path": "budget", "before": "8 steps", "now": "12 steps"}]
    assert of_job(run)[0] == "holds"
    assert stepwell.resume(run).steps == 12
    assert len(kinds(run, "job_edited")) == 1
    assert stepwell.verify(run).verdict == "identical"
    edit(run, "seed: 0", "seed: 1")
    assert of_job(run)[0] == "broken"


def test_an_edited_limit_in_time_and_an_edited_comment_are_on_record_and_change_nothing(run: Path) -> None:
    edit(run, "seed: 0", "seed: 0  # as always")
    stepwell.resume(run)
    assert kinds(run, "job_edited")[0]["changes"] == []
    edit(run, "seed: 0  # as always", "seed: 0\nstop: {max_time: 10 minutes}")
    stepwell.resume(run)
    assert [item["path"] for item in kinds(run, "job_edited")[1]["changes"]] == ["stop"]
    assert kinds(run, "budget_changed") == []
    assert audit(run).ok


def test_a_budget_edited_below_what_is_done_is_refused_and_not_put_on_record(run: Path) -> None:
    edit(run, "budget: 8 steps", "budget: 6 steps")
    with pytest.raises(JobError, match="has done 8 steps"):
        stepwell.resume(run)
    assert kinds(run, "job_edited") == kinds(run, "budget_changed") == []


def test_a_second_resume_goes_on_under_the_budget_that_the_first_was_given(tmp_path: Path) -> None:
    stepwell.train(job(budget="4 steps"), out=tmp_path / "twice")
    limited = stepwell.resume(tmp_path / "twice", budget="12 steps", max_time="0.000001 seconds")
    assert limited.steps == 4
    last = stepwell.resume(tmp_path / "twice")
    assert (last.steps, last.stop_reason) == (12, "budget spent")
    stepwell.train(job(budget="4 steps"), out=tmp_path / "once")
    stepwell.resume(tmp_path / "once", budget="12 steps")
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("once", "twice"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert kinds(tmp_path / "twice", "budget_changed") == [{"before": "4 steps", "now": "12 steps"}]
    stepwell.resume(tmp_path / "twice", budget="16 steps")
    assert kinds(tmp_path / "twice", "budget_changed")[1:] == [{"before": "12 steps", "now": "16 steps"}]
    assert stepwell.verify(tmp_path / "twice").verdict == "identical"
    with pytest.raises(RunFolderError, match="continued with another budget"):
        stepwell.replay(tmp_path / "twice")
    assert of_job(tmp_path / "twice")[1].endswith("budget 12 steps from step 4, budget 16 steps from step 12")
    (change,) = [item for item in stepwell.diff(tmp_path / "once", tmp_path / "twice").job if item.path == "budget"]
    assert change.before == "4 steps, 12 steps from step 4"
    assert change.after == "4 steps, 12 steps from step 4, 16 steps from step 12"


def test_a_run_of_fit_whose_job_was_edited_is_not_continued_by_the_same_edit_in_python(tmp_path: Path) -> None:
    def fit(lr: float, budget: str = "4 steps") -> Any:
        x = torch.linspace(-1, 1, 64).view(32, 2)
        recipe = stepwell.Recipe(optimizer={"name": "sgd", "lr": lr}, batch_size=8)
        return stepwell.fit(
            nn.Linear(2, 2), (x, (x[:, 0] > 0).long()), recipe=recipe, budget=budget, out=tmp_path / "run", existing="resume"
        )

    fit(0.1)
    edit(tmp_path / "run", "lr: 0.1", "lr: 0.2")
    with pytest.raises(RunFolderError, match=r"recipe\.optimizer\.lr 0\.1 -> 0\.2"):
        fit(0.2)
    edit(tmp_path / "run", "lr: 0.2", "lr: 0.1")
    edit(tmp_path / "run", "budget: 4 steps", "budget: 6 steps")
    assert fit(0.1, "6 steps").steps == 6
    assert kinds(tmp_path / "run", "budget_changed") == [{"before": "4 steps", "now": "6 steps"}]
