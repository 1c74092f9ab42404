"""The loop around the step: when it stops, what it delivers, what it keeps, what it does about bad steps."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.errors import Interrupted, RunFolderError, TrainingStopped
from stepwell.engine.records.checkpoint import checkpoints, load_checkpoint, newest_checkpoint, save_checkpoint
from stepwell.engine.records.run_folder import RunFolder, read_metrics
from stepwell.recipe.fit import fit
from stepwell.recipe.job import Recipe
from stepwell.recipe.run import Run


def data(num: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(num, 5, generator=generator)
    return inputs, (inputs[:, 0] + 0.5 * torch.randn(num, generator=generator) > 0).long()


def network() -> nn.Module:
    generator = torch.Generator().manual_seed(7)
    model = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model


def recipe(*techniques: dict[str, Any], **changes: Any) -> Recipe:
    settings = {"optimizer": {"name": "adamw", "lr": 0.05}, "techniques": list(techniques), "batch_size": 10}
    return Recipe(**(settings | changes))


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize(
    ("budget", "steps"),
    [("3 epochs", 15), ("7 steps", 7), ("70 samples", 7), ("0.5 epochs", 3), ("71 samples", 8)],
)
def test_a_budget_in_any_unit_is_spent_to_the_step(budget: str, steps: int) -> None:
    run = fit(network(), data(50), recipe=recipe(), budget=budget)
    assert (run.steps, run.stop_reason) == (steps, "budget spent")


def test_a_budget_in_tokens_counts_tokens() -> None:
    tokens = torch.randint(0, 7, (20, 6), generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7))
    run = fit(model, (tokens, tokens), recipe=recipe(batch_size=5), budget="150 tokens", task="language_modeling")
    assert run.steps == 5


def test_max_time_stops_and_records_the_reason() -> None:
    run = fit(network(), data(50), recipe=recipe(), budget="1M steps", stop={"max_time": "0.2 s"})
    assert 0 < run.steps < 1_000_000
    assert run.stop_reason == "max time of 0.2 s reached"


def test_early_stopping_puts_the_best_weights_back_to_the_bit() -> None:
    """Train labels are noise, so validation soon gets worse; the best epoch is trained again on its own."""
    inputs, _ = data(50)
    noise = torch.randint(0, 2, (50,), generator=torch.Generator().manual_seed(3))
    run = fit(
        network(),
        (inputs, noise),
        val=data(60, seed=1),
        recipe=recipe({"name": "early_stopping", "patience": 3}),
        budget="60 epochs",
    )
    best = int(run.best["step"])
    assert run.steps == best + 3 * 5
    assert "early" in run.stop_reason or "improve" in run.stop_reason
    shorter = fit(network(), (inputs, noise), recipe=recipe(), budget=f"{best} steps")
    assert torch.equal(flat(run.model), flat(shorter.model))
    losses = [row["loss"] for row in run.history.validation]
    assert run.best["value"] == min(losses) == run.metrics["loss"]


def test_the_average_is_what_is_evaluated_and_delivered() -> None:
    val = data(60, seed=1)
    run = fit(network(), data(50), val=val, recipe=recipe({"name": "ema", "half_life": "4 steps"}), budget="4 epochs")
    with torch.no_grad():
        loss = nn.functional.cross_entropy(run.model(val[0]), val[1])
    assert run.metrics["loss"] == pytest.approx(float(loss), rel=1e-6)
    plain = fit(network(), data(50), recipe=recipe(), budget="4 epochs")
    assert not torch.equal(flat(plain.model), flat(run.model))


def with_bad_row(at: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One row whose squared error overflows in fp32, though every number is finite."""
    inputs, _ = data(50)
    targets = inputs[:, :1].clone()
    targets[at] = 3e38
    return inputs, targets


def regressor() -> nn.Module:
    generator = torch.Generator().manual_seed(7)
    model = nn.Linear(5, 1)
    with torch.no_grad():
        model.weight.copy_(torch.randn(1, 5, generator=generator))
    return model


def test_a_non_finite_step_stops_before_it_touches_the_weights() -> None:
    model, seen = regressor(), []

    class Watch:
        def start(self, *_: Any) -> None: ...
        def step(self, row: Any) -> None:
            seen.append(flat(model).clone())

        def evaluated(self, *_: Any) -> None: ...
        def event(self, *_: Any) -> None: ...
        def finish(self) -> None: ...

    with pytest.raises(TrainingStopped, match=r"non-finite.*Weights were not updated.*lower peak lr") as caught:
        fit(model, with_bad_row(21), recipe=recipe(), budget="2 epochs", progress=Watch(), log_every="1 steps")
    assert caught.value.exit_code == 3
    assert torch.isfinite(flat(model)).all()
    assert torch.equal(seen[-1], flat(model))


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_skip_and_rollback_go_on_and_record_every_bad_step(policy: str) -> None:
    run = fit(regressor(), with_bad_row(21), recipe=recipe(on_nonfinite=policy), budget="3 epochs", checkpoint_every="2 steps")
    kinds = [event.kind for event in run.history.events]
    assert torch.isfinite(flat(run.model)).all()
    assert run.steps == 15
    assert kinds.count("nonfinite") >= 3
    assert (kinds.count("rolled_back") > 0) == (policy == "rollback")
    assert all(row["loss"] == row["loss"] for row in run.history.train if row["skipped"] == 0)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_skipping_gives_up_where_every_batch_is_bad(precision: str) -> None:
    inputs, _ = data(50)
    bad = (inputs, torch.full((50, 1), 3e38))
    with pytest.raises(TrainingStopped, match="100 times in a row") as caught:
        fit(regressor(), bad, recipe=recipe(on_nonfinite="skip", precision=precision), budget="5 epochs")
    assert "Weights were not updated" in str(caught.value)


def test_a_stopped_run_keeps_its_last_good_weights_and_meets_the_same_step_again(tmp_path: Path) -> None:
    model = regressor()
    settings: dict[str, Any] = {"recipe": recipe(), "budget": "2 epochs", "checkpoint_every": "1M steps", "out": tmp_path / "run"}
    with pytest.raises(TrainingStopped) as first:
        fit(model, with_bad_row(21), **settings)
    found = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert torch.equal(found[1]["step"]["model"]["weight"], model.weight.detach())
    with pytest.raises(TrainingStopped) as second:
        fit(regressor(), with_bad_row(21), existing="resume", **settings)
    assert str(first.value).split("(")[0] == str(second.value).split("(")[0]


def test_rollback_gives_up_where_every_batch_is_bad() -> None:
    inputs, _ = data(50)
    with pytest.raises(TrainingStopped):
        fit(regressor(), (inputs, torch.full((50, 1), 3e38)), recipe=recipe(on_nonfinite="rollback"), budget="5 epochs")


def test_a_run_folder_holds_rows_events_checkpoints_and_the_model(tmp_path: Path) -> None:
    run = fit(
        network(), data(50), val=data(20, seed=1), recipe=recipe(), budget="4 epochs", out=tmp_path / "run", log_every="1 steps"
    )
    train, validation = read_metrics(tmp_path / "run", "train"), read_metrics(tmp_path / "run", "validation")
    assert train == run.history.train
    assert validation == run.history.validation
    assert [row["step"] for row in train] == list(range(1, 21))
    assert [row["epoch"] for row in validation] == [1.0, 2.0, 3.0, 4.0]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["stop_reason"], result["steps"]) == ("budget spent", 20)
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in run.model.state_dict().items())
    kept = {path.name for path in checkpoints(tmp_path / "run" / "checkpoints")}
    assert {"step-20", "step-15"} <= kept <= {"step-20", "step-15", f"step-{run.best['step']}"}


def test_a_run_continues_from_its_folder_to_the_same_bits(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "recipe": recipe({"name": "ema", "half_life": "4 steps"}),
        "budget": "4 epochs",
        "val": data(20, seed=1),
    }
    whole = fit(network(), data(50), **settings)
    fit(network(), data(50), out=tmp_path / "run", **settings)
    import shutil

    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-20")
    shutil.rmtree(tmp_path / "run" / "model")
    again = fit(network(), data(50), out=tmp_path / "run", existing="resume", **settings)
    assert torch.equal(flat(whole.model), flat(again.model))
    assert again.history.validation == whole.history.validation == read_metrics(tmp_path / "run", "validation")
    assert again.history.train == whole.history.train == read_metrics(tmp_path / "run", "train")
    assert "resumed" in [event.kind for event in again.history.events]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_step_it_ends_on_and_says_how_to_go_on(tmp_path: Path, number: int) -> None:
    timer = threading.Timer(0.5, os.kill, (os.getpid(), number))
    timer.start()
    handlers = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted, match="stepwell resume") as caught:
        fit(network(), data(50), recipe=recipe(), budget="1M steps", checkpoint_every="1M steps", out=tmp_path / "run")
    timer.join()
    assert caught.value.exit_code == 128 + number
    found = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert found[1]["step"]["clock"]["steps"] > 0
    assert f"step {found[1]['step']['clock']['steps']};" in str(caught.value)
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, {"weights": torch.full((3,), float(step)), "step": step}, step=step)
    file = tmp_path / "step-2" / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunFolderError, match="checksum"):
        load_checkpoint(tmp_path / "step-2")
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["step"] == 1
    assert "1 steps are trained again" in caplog.text
    assert (tmp_path / ".corrupt-step-2").is_dir()


@pytest.mark.parametrize("missing", ["manifest.json", "state.json", "state.safetensors"])
def test_a_checkpoint_without_one_of_its_files_is_not_whole(tmp_path: Path, missing: str) -> None:
    save_checkpoint(tmp_path, {"weights": torch.ones(2)}, step=1)
    (tmp_path / "step-1" / missing).unlink()
    with pytest.raises(RunFolderError, match="holds no checkpoint that is whole"):
        newest_checkpoint(tmp_path)
    with pytest.raises(RunFolderError, match="holds no checkpoint that is whole"):  # it was kept under another name
        newest_checkpoint(tmp_path)


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    first = RunFolder(tmp_path / "run")
    first.create("job: 1\n")
    with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()}"):
        RunFolder(tmp_path / "run").lock()
    first.close()
    RunFolder(tmp_path / "run").lock()


def test_what_a_start_that_was_killed_left_does_not_block_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "run" / "metrics").mkdir(parents=True)
    (tmp_path / "run" / ".job.yaml.tmp-77-0").write_bytes(b"job")
    folder = RunFolder(tmp_path / "run")
    folder.create("job: 1\n")
    folder.close()
    assert sorted(item.name for item in (tmp_path / "run").iterdir()) == ["job.yaml", "lock", "metrics"]


@pytest.mark.parametrize("name", ["metrics/train.csv", "notes.txt", ".hidden.tmp-77-0"])
def test_what_anyone_else_left_in_a_folder_blocks_a_new_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "run" / "metrics").mkdir(parents=True)
    (tmp_path / "run" / name).write_bytes(b"x")
    with pytest.raises(RunFolderError, match="is not empty"):
        RunFolder(tmp_path / "run").create("job: 1\n")
    assert (tmp_path / "run" / name).read_bytes() == b"x"


def test_one_sample_left_alone_with_batch_norm_is_refused_before_training_with_a_batch_size_that_works() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"leave one sample alone.*batch_size: 9"):
        fit(model, data(51), recipe=recipe(), budget="1 epochs")
    run = fit(model, data(51), recipe=recipe(batch_size=9), budget="1 epochs")
    assert isinstance(run, Run)


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"recipe": recipe(), "budget": "4 epochs", "val": data(20, seed=1), "out": tmp_path / "run"}
    first = fit(network(), data(50), **settings)
    before = (tmp_path / "run" / "metrics" / "validation.csv").read_bytes()
    again = fit(network(), data(50), existing="resume", **settings)
    assert torch.equal(flat(first.model), flat(again.model))
    assert (tmp_path / "run" / "metrics" / "validation.csv").read_bytes() == before
    assert (again.steps, again.metrics) == (first.steps, first.metrics)


def test_a_run_that_stopped_early_stays_stopped(tmp_path: Path) -> None:
    noise = torch.randint(0, 2, (50,), generator=torch.Generator().manual_seed(3))
    settings: dict[str, Any] = {
        "recipe": recipe({"name": "early_stopping", "patience": 2}),
        "budget": "60 epochs",
        "val": data(60, seed=1),
        "out": tmp_path / "run",
    }
    first = fit(network(), (data(50)[0], noise), **settings)
    again = fit(network(), (data(50)[0], noise), existing="resume", **settings)
    assert first.steps < 300
    assert (again.steps, again.stop_reason) == (first.steps, first.stop_reason)
    assert torch.equal(flat(first.model), flat(again.model))
