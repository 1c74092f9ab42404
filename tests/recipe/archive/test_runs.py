"""Lists of runs and making room among them: states, conditions, orders, and what is never removed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import stepwell
from stepwell.core.errors import JobError, RunFolderError
from stepwell.engine.records.checkpoint import save_checkpoint, verify_checkpoint
from stepwell.recipe.archive.cleaning import carry_out, parse_age, plan_cleaning
from stepwell.recipe.archive.runs import RunEntry, in_use, runs
from stepwell.report.runs import cleaning_text, runs_table, size

JOB = """\
data: {source: digits}
model: {name: MODEL, hidden: [8]}
task: classification
recipe:
  optimizer: {name: sgd, lr: RATE}
  techniques:
    - {name: mixup, alpha: 0.2}
    - {name: clip_norm, max_norm: 1.0}
budget: BUDGET epochs
seed: 0
"""
RESULT = {"stop_reason": "budget spent", "steps": 30, "headline": "accuracy", "metrics": {"loss": 0.5, "accuracy": 0.8}}


def run(place: Path, *, model: str = "mlp", rate: str = "0.1", budget: str = "3", started: int = 1, **result: Any) -> Path:
    """A run folder as training leaves it; without a result where none is given."""
    place.mkdir(parents=True)
    (place / "job.yaml").write_text(JOB.replace("MODEL", model).replace("RATE", rate).replace("BUDGET", budget))
    (place / "manifest.json").write_text(json.dumps({"started": f"2031-05-{started:02d}T10:00:00+00:00", "versions": {}}))
    (place / "lock").write_text("")
    if result:
        (place / "result.json").write_text(json.dumps(RESULT | result))
    return place


def events(place: Path, *kinds: str, step: int = 7) -> None:
    (place / "events.jsonl").write_text("".join(json.dumps({"kind": kind, "step": step}) + "\n" for kind in kinds))


def saved(place: Path, *steps: int, best: int | None = None) -> Path:
    (place / "checkpoints").mkdir(exist_ok=True)
    state = {"weights": torch.arange(4.0), "best": {} if best is None else {"step": best}}
    for step in steps:
        save_checkpoint(place / "checkpoints", state, step=step)
    return place


def aged(place: Path, days: float) -> Path:
    """As if nothing had been written to it for so long."""
    for path in place.rglob("*"):
        os.utime(path, (time.time() - days * 86400,) * 2)
    return place


def entry(root: Path, name: str) -> RunEntry:
    [found] = [item for item in runs(root) if item.name == name]
    return found


def test_each_state_is_told_from_the_lock_the_result_and_the_events(tmp_path: Path) -> None:
    run(tmp_path / "finished", test={"accuracy": 0.9})
    events(run(tmp_path / "stopped by a signal"), "started", "saved", "interrupted")
    saved(run(tmp_path / "killed"), 5)
    events(run(tmp_path / "failed"), "started", "nonfinite")
    events(run(tmp_path / "never started"), "started")
    run(tmp_path / "running")
    with open(tmp_path / "running" / "lock") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        states = {item.name: item.state for item in runs(tmp_path)}
    assert states == {
        "finished": "finished",
        "stopped by a signal": "interrupted",
        "killed": "interrupted",
        "failed": "failed",
        "never started": "never started",
        "running": "running",
    }
    assert entry(tmp_path, "running").state == "never started", "the lock goes with the process"
    assert [entry(tmp_path, name).steps for name in ("finished", "stopped by a signal", "killed")] == [30, 7, 5]


def test_a_run_of_train_is_listed_with_its_own_numbers(tmp_path: Path) -> None:
    recipe = {"optimizer": {"name": "sgd", "lr": 0.1}, "batch_size": 32}
    job = {"data": {"source": "iris"}, "model": {"name": "mlp", "hidden": [4]}, "task": "classification", "recipe": recipe}
    done = stepwell.train(stepwell.Job.from_mapping(job | {"budget": "2 epochs"}), out=tmp_path / "a" / "b")
    [found] = runs(tmp_path)
    assert (found.name, found.state, found.model, found.task) == ("a/b", "finished", "mlp", "classification")
    assert (found.metric, found.part, found.steps) == ("accuracy", "test", done.steps)
    assert found.value == done.test_metrics["accuracy"]
    assert found.num_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert in_use(found.folder) is False


DAMAGE: dict[str, Any] = {
    "job gone": lambda place: (place / "job.yaml").unlink(),
    "job no yaml": lambda place: (place / "job.yaml").write_bytes(b"\xff\x00: ["),
    "job a pipe": lambda place: ((place / "job.yaml").unlink(), os.mkfifo(place / "job.yaml")),
    "result cut": lambda place: (place / "result.json").write_text('{"steps": 3'),
    "result a list": lambda place: (place / "result.json").write_text("[1]"),
    "result a link": lambda place: ((place / "result.json").unlink(), (place / "result.json").symlink_to(place / "job.yaml")),
    "result without numbers": lambda place: (place / "result.json").write_text('{"steps": 1, "metrics": {"loss": []}}'),
    "result metrics a word": lambda place: (place / "result.json").write_text('{"metrics": "none"}'),
    "manifest deep": lambda place: (place / "manifest.json").write_text("[" * 100_000),
    "events a folder": lambda place: (place / "events.jsonl").mkdir(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_run_is_listed_with_its_reason_beside_the_whole_ones(damage: Any, tmp_path: Path) -> None:
    damage(run(tmp_path / "broken", test={}))
    run(tmp_path / "whole", test={"accuracy": 0.9})
    states = {item.name: item.state for item in runs(tmp_path, sort="name")}
    assert states == {"broken": "damaged", "whole": "finished"}
    assert entry(tmp_path, "broken").problem
    assert "broken is damaged: " in runs_table(runs(tmp_path))


def several(root: Path) -> None:
    run(root / "a", rate="0.1", budget="3", started=1, test={"accuracy": 0.7, "loss": 0.9})
    run(root / "b", rate="3e-3", budget="30", started=3, model="convnet", test={"accuracy": 0.9, "loss": 0.4})
    run(root / "deep" / "c", rate="0.01", budget="5", started=2)


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("recipe.optimizer.lr=0.003", "b"),
        ("recipe.optimizer.lr >= 1e-2", "a c"),
        ("model.name!=convnet", "a c"),
        ("model=convnet", "b"),
        ("recipe.techniques~mix", "a b c"),
        ("recipe.techniques.mixup.alpha<0.3", "a b c"),
        ("recipe.techniques.1.max_norm=1", "a b c"),
        ("recipe.techniques.ema.decay>0", ""),
        ("budget>4 epochs", "b c"),
        ("state=finished", "a b"),
        ("accuracy>0.8", "b"),
        ("metric<=0.7", "a"),
        ("started<2031-05-03", "a c"),
        ("name~deep", "c"),
        ("size<1GiB", "a b c"),
        (["state=finished", "recipe.optimizer.lr<0.05"], "b"),
        ("init_from=null", ""),
    ],
)
def test_conditions_pick_the_runs_that_a_reader_of_the_jobs_would(where: Any, names: str, tmp_path: Path) -> None:
    several(tmp_path)
    assert sorted(item.folder.name for item in runs(tmp_path, where=where)) == names.split()


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("started", "b c a"),
        ("metric", "b a c"),
        ("loss", "b a c"),
        ("name", "a b c"),
        ("recipe.optimizer.lr", "b c a"),
        ("steps", "a b c"),
    ],
)
def test_orders_put_the_newest_the_best_and_the_least_first(sort: str, names: str, tmp_path: Path) -> None:
    several(tmp_path)
    assert [item.folder.name for item in runs(tmp_path, sort=sort)] == names.split()


def test_a_slip_in_a_condition_or_an_order_is_refused_rather_than_finding_nothing(tmp_path: Path) -> None:
    several(tmp_path)
    for text, said in [
        ("recipee.optimizer.name=adamw", "Did you mean 'recipe'"),
        ("acuracy>0.5", "Did you mean 'accuracy'"),
        ("just words", "is no condition"),
        ("size>big", "size is 'big'"),
    ]:
        with pytest.raises(JobError, match=said):
            runs(tmp_path, where=text)
    with pytest.raises(JobError, match="no run can have 'stated'"):
        runs(tmp_path, sort="stated")
    with pytest.raises(RunFolderError, match="there is no folder"):
        runs(tmp_path / "gone")


def test_what_only_looks_like_a_run_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "jobs" / "model").mkdir(parents=True)
    (tmp_path / "jobs" / "job.yaml").write_text(JOB)
    (tmp_path / ".hidden").mkdir()
    run(tmp_path / ".hidden" / "r")
    run(tmp_path / "real", test={})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert [item.name for item in runs(tmp_path)] == ["real"]


def test_the_table_fits_the_entries_and_says_how_many_it_leaves_out(tmp_path: Path) -> None:
    several(tmp_path)
    lines = runs_table(runs(tmp_path, sort="metric"), most=2).splitlines()
    assert lines[0].split() == ["run", "state", "model", "task", "metric", "steps", "started", "size"]
    assert lines[1].split()[:6] == ["b", "finished", "convnet", "classification", "accuracy", "90.00"]
    assert lines[3] == "1 more; without --limit all are shown"
    assert runs_table([]) == "no runs"
    assert [size(number) for number in (0, 1023, 1024, 3 << 30)] == ["0 B", "1023 B", "1.0 KiB", "3.0 GiB"]


def left(place: Path) -> set[str]:
    return {path.name for path in (place / "checkpoints").iterdir()}


def test_nothing_changes_without_the_word_and_with_it_the_plan_is_what_goes(tmp_path: Path) -> None:
    place = saved(run(tmp_path / "a", test={}), 1, 2, 3, 4, best=2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    plan = plan_cleaning(tmp_path, keep=1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert [item.path.name for item in plan.removals] == ["step-1", "step-3"], "the newest and the best stay"
    assert plan.num_bytes == sum(
        f.stat().st_size for name in ("step-1", "step-3") for f in (place / "checkpoints" / name).iterdir()
    )
    assert cleaning_text(plan, done="planned", root=tmp_path).endswith("add --yes to do it")
    assert carry_out(plan).removals == plan.removals
    assert left(place) == {"step-2", "step-4"}
    assert {"result.json", "job.yaml", "manifest.json"} <= {path.name for path in place.iterdir()}


def test_the_newest_whole_checkpoint_stays_where_newer_ones_are_damaged(tmp_path: Path) -> None:
    place = saved(run(tmp_path / "a"), 1, 2, 3, 4)
    for step in (3, 4):
        (place / "checkpoints" / f"step-{step}" / "state.json").write_text("{}")
    carry_out(plan_cleaning(tmp_path, keep=1))
    assert left(place) == {"step-2", "step-4"}
    verify_checkpoint(place / "checkpoints" / "step-2")


def test_where_no_checkpoint_is_whole_none_goes_nor_what_was_set_aside(tmp_path: Path) -> None:
    place = saved(run(tmp_path / "a"), 1, 2)
    for step in (1, 2):
        (place / "checkpoints" / f"step-{step}" / "state.json").unlink()
    shutil.copytree(place / "checkpoints" / "step-1", place / "checkpoints" / ".corrupt-step-9")
    assert plan_cleaning(tmp_path, keep=1, older="1h").removals == []
    assert plan_cleaning(tmp_path, keep=1).removals == []


def test_a_run_in_use_is_left_alone_by_the_plan_and_by_its_execution(tmp_path: Path) -> None:
    place = saved(run(tmp_path / "a"), 1, 2, 3)
    plan = plan_cleaning(tmp_path, keep=1)
    with open(place / "lock") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert plan_cleaning(tmp_path, keep=1).removals == []
        assert plan_cleaning(tmp_path, keep=1).spared == {place: "in use"}
        done = carry_out(plan)
    assert done.removals == []
    assert "in use" in done.spared[place]
    assert left(place) == {"step-1", "step-2", "step-3"}


def test_leftovers_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    place = saved(run(tmp_path / "a", test={}), 1, 2)
    dead = 2**22 + 1  # above the largest number of a process that Linux gives
    for name in (f".step-3.tmp-{dead}-0", ".corrupt-step-2"):
        shutil.copytree(place / "checkpoints" / "step-1", place / "checkpoints" / name)
    (place / f".result.json.tmp-{dead}-1").write_text("{")
    (tmp_path / f".b.tmp-{dead}-0").mkdir()
    (tmp_path / f".c.tmp-{os.getpid()}-0").mkdir()
    (place / "checkpoints" / "step-2").rename(place / "checkpoints" / f".step-2.tmp-{dead}-4-old")
    plan = plan_cleaning(tmp_path)
    gone = {f".step-3.tmp-{dead}-0", ".corrupt-step-2", f".result.json.tmp-{dead}-1", f".b.tmp-{dead}-0"}
    assert {item.path.name for item in plan.removals} == gone
    carry_out(plan)
    assert left(place) == {"step-1", f".step-2.tmp-{dead}-4-old"}, "what was only moved away comes back on resume"
    assert {path.name for path in tmp_path.iterdir()} == {"a", f".c.tmp-{os.getpid()}-0"}


def test_only_old_runs_and_only_as_much_as_is_asked_for(tmp_path: Path) -> None:
    old, new = saved(run(tmp_path / "old"), 1, 2, 3), saved(run(tmp_path / "new"), 1, 2, 3)
    aged(old, 40)
    assert {item.run for item in plan_cleaning(tmp_path, older="30d").removals} == {old}
    assert plan_cleaning(tmp_path, older="6w").removals == []
    total = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    one = sum(path.stat().st_size for path in (old / "checkpoints" / "step-1").iterdir())
    [item] = plan_cleaning(tmp_path, max_size=f"{total - one} B").removals
    assert item.path == old / "checkpoints" / "step-1", "the oldest first"
    assert len(plan_cleaning(tmp_path, max_size=f"{total - one - 1} B").removals) == 2
    assert {item.run for item in plan_cleaning(tmp_path, max_size="1 B", older="30d").removals} == {old}
    assert new.exists()


def test_whole_runs_go_only_when_all_is_said_and_never_with_something_foreign_in_them(tmp_path: Path) -> None:
    for number, name in enumerate(("first", "second", "third", "mine")):
        aged(saved(run(tmp_path / name, test={}), 1), 10 - number)
    (tmp_path / "second" / "inside").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    plan = plan_cleaning(tmp_path, keep=1, only="all")
    assert [item.path.name for item in plan.removals] == ["first"]
    assert {place.name: why for place, why in plan.spared.items()} == {
        "second": "holds inside, which is not the run's",
        "mine": "holds notes.txt, which is not the run's",
    }
    carry_out(plan)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "second", "third"]


def test_limits_that_are_none_are_refused(tmp_path: Path) -> None:
    for limits in ({"keep": 0}, {"older": "soon"}, {"max_size": "much"}, {"only": "everything"}):
        with pytest.raises(JobError):
            plan_cleaning(tmp_path, **limits)  # type: ignore[arg-type]
    assert [parse_age(text) for text in ("1h", "2 days", "1.5w")] == [3600.0, 172800.0, 907200.0]
