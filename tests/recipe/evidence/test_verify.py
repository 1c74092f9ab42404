"""verify says of a stretch of a run: identical, different because of something, or different without a known reason."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stepwell
from stepwell.core.errors import Interrupted, JobError, RunFolderError
from stepwell.engine.records.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from stepwell.engine.records.run_folder import RunFolder
from stepwell.recipe.evidence import stretch as stretch_module
from stepwell.recipe.evidence.verify import Verification, verify

NOISE = [0.0]


class Layers(nn.Module):
    """A small network that can be made to differ: by a number outside of it, or by chance from the n-th call on."""

    calls: Tensor

    def __init__(self, *, chance_after: int | None = None) -> None:
        super().__init__()
        self.first, self.norm, self.drop, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 2)
        self.chance_after = chance_after
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters()):
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter) * 0.3 + 0.01 * number)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.norm(self.first(inputs))
        if self.training:
            self.calls += 1
            hidden = hidden + NOISE[0]
            if self.chance_after is not None and int(self.calls) > self.chance_after:
                hidden = hidden + random.SystemRandom().random()
        out: Tensor = self.last(self.drop(torch.relu(hidden)))
        return out


def data(num: int = 48) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(num, 4, generator=torch.Generator().manual_seed(5))
    return inputs, (inputs.sum(1) > 0).long()


def trained(out: Path, model: nn.Module | None = None, *, recipe: dict[str, Any] | None = None, **settings: Any) -> Any:
    """24 steps, a checkpoint and an evaluation every 6, a row each step."""
    chosen = dict[str, Any]({"optimizer": {"name": "adamw", "lr": 1e-2}, "batch_size": 8}) | (recipe or {})
    settings = dict[str, Any]({"budget": "4 epochs", "log_every": "1 steps", "seed": 3}) | settings
    return stepwell.fit(model or Layers(), data(), val=data(20), recipe=stepwell.Recipe(**chosen), out=out, **settings)


def checked(out: Path, model: nn.Module | None = None, **given: Any) -> Verification:
    return verify(out, model=model or Layers(), data=data(), val=data(20), **given)


@pytest.fixture(autouse=True)
def _noise_ends_with_the_test_and_no_repository_is_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    NOISE[0] = 0.0


RECIPES: dict[str, dict[str, Any]] = {
    "adamw": {},
    "mixup, ema, one cycle": {"schedule": "one_cycle", "techniques": ["mixup", {"name": "ema", "half_life": "3 steps"}]},
    "plateau, early stopping": {"schedule": {"name": "plateau", "patience": 0}, "techniques": [{"name": "early_stopping"}]},
    "swa": {"optimizer": {"name": "sgd", "lr": 0.05}, "techniques": [{"name": "swa", "start": "40%", "every": "2 steps"}]},
    "micro-batches": {"micro_batch_size": 3},
    "fp16": {"precision": "fp16"},
    "layer statistics": {"techniques": [{"name": "layer_statistics"}, {"name": "clip_norm", "max_norm": 0.5}]},
    "lion, tensors": {"optimizer": {"name": "lion", "lr": 1e-3}, "plan": "tensors"},
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_that_nobody_touched_is_identical(tmp_path: Path, name: str) -> None:
    trained(tmp_path / "run", recipe=RECIPES[name])
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    found = checked(tmp_path / "run")
    assert (found.verdict, found.first_step, found.last_step, found.changes) == ("identical", 18, 24, [])
    assert found.compared.num_rows >= 7  # six steps and an evaluation
    assert [part.before == part.now for part in found.compared.parts] == [True] * len(found.compared.parts)
    assert {part.name for part in found.compared.parts} >= {"weights", "optimizer"}
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


def test_a_stretch_from_the_start_is_computed_where_there_is_one_checkpoint(tmp_path: Path) -> None:
    trained(tmp_path / "run", checkpoint_every="100 steps")
    found = checked(tmp_path / "run")
    assert (found.verdict, found.first_step, found.last_step) == ("identical", 0, 24)
    assert found.compared.num_rows == 24 + 4
    with pytest.raises(RunFolderError) as refused:
        checked(tmp_path / "run", steps=23)
    assert (
        refused.value.what
        == "the stretch from the start to the only checkpoint, of step 24, has 24 steps; at most 23 may be computed"
    )
    assert "--steps 24" in refused.value.fix


def test_a_long_stretch_from_the_start_is_not_computed_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path / "run", checkpoint_every="100 steps")
    monkeypatch.setattr(stretch_module, "MOST_FROM_START", 10)
    with pytest.raises(RunFolderError, match="at most 10"):
        checked(tmp_path / "run")
    assert checked(tmp_path / "run", steps=24).verdict == "identical"


def test_one_flipped_bit_of_a_checkpoint_is_named(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    place = checkpoints(tmp_path / "run" / "checkpoints")[0]
    state = load_checkpoint(place)
    state["step"]["model"]["norm.running_mean"][2:3].view(torch.int32).bitwise_xor_(1)
    save_checkpoint(place.parent, state, step=24)
    found = checked(tmp_path / "run")
    assert found.verdict == "unexplained"
    assert [(item.name, item.num_different, item.num_elements) for item in found.compared.tensors] == [
        ("step/model/norm.running_mean", 1, 8)
    ]
    assert 0 < found.compared.tensors[0].largest < 1e-6
    assert [part.name for part in found.compared.parts if part.before != part.now] == ["weights"]
    assert (found.compared.row, found.repeated, found.chance) == (None, True, None)


def test_a_negative_zero_in_a_state_is_not_a_zero(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    places = checkpoints(tmp_path / "run" / "checkpoints")
    earlier, later = (load_checkpoint(place) for place in reversed(places))
    for state, zero in ((earlier, 0.0), (later, -0.0)):
        state["best"]["value"], state["best"]["step"] = zero, 6  # nothing is better, so it stays
    for place, state in zip(reversed(places), (earlier, later), strict=True):
        save_checkpoint(place.parent, state, step=int(place.name[5:]))
    found = checked(tmp_path / "run")
    assert (found.verdict, found.compared.values, found.compared.tensors, found.compared.row) == (
        "unexplained",
        ["best.value"],
        [],
        None,
    )


def test_code_that_changed_is_found_at_the_first_row_that_differs(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    NOISE[0] = 1e-3
    found = checked(tmp_path / "run")
    assert found.verdict == "unexplained"
    assert found.compared.row is not None
    assert (found.compared.row.file, found.compared.row.step, found.compared.row.after, found.compared.row.column) == (
        "train",
        19,
        18,
        "loss",
    )
    assert found.compared.tensors[0].name.startswith("step/model/")
    assert (found.repeated, found.chance) == (True, None)


def test_chance_is_found_at_the_first_step_that_uses_it(tmp_path: Path) -> None:
    trained(tmp_path / "run", Layers(chance_after=20))
    found = checked(tmp_path / "run", Layers(chance_after=20))
    assert found.verdict == "unexplained"
    assert found.compared.row is not None
    assert (found.compared.row.step, found.compared.row.after) == (21, 20)
    assert (found.repeated, found.chance) == (True, 20)


def test_a_difference_is_put_down_to_what_changed_and_a_change_without_effect_is_told(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    record = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    record["environment"]["threads"]["intra"] = 7
    record["environment"]["system"]["release"] = "1.0"
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(record), encoding="utf-8")
    same = checked(tmp_path / "run")
    assert same.verdict == "identical"
    assert [(item.path, item.before, item.affects) for item in same.changes] == [
        ("threads.intra", 7, "bits"),
        ("system.release", "1.0", "nothing known"),
    ]
    NOISE[0] = 1e-3
    other = checked(tmp_path / "run")
    assert (other.verdict, [item.path for item in other.causes], other.repeated) == ("changed", ["threads.intra"], False)


def test_what_is_not_known_to_matter_is_no_reason(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    record = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    record["environment"]["system"]["release"] = "1.0"
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(record), encoding="utf-8")
    NOISE[0] = 1e-3
    assert checked(tmp_path / "run").verdict == "unexplained"


def test_a_manifest_of_an_older_version_will_do(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    record = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    for name in ("environment", "techniques", "model_code", "git"):
        del record[name]
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(record), encoding="utf-8")
    assert [item.path.split(".")[0] for item in checked(tmp_path / "run").changes if item.affects == "bits"] == ["techniques"]
    record["versions"]["torch"] = "1.0"
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(record), encoding="utf-8")
    found = checked(tmp_path / "run")
    assert found.verdict == "identical"
    assert ("versions.torch", "1.0") in [(item.path, item.before) for item in found.changes]


def test_a_damaged_checkpoint_is_passed_over_and_told(tmp_path: Path) -> None:
    trained(tmp_path / "run", keep=3)
    file = tmp_path / "run" / "checkpoints" / "step-24" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    found = checked(tmp_path / "run")
    assert (found.verdict, found.first_step, found.last_step, found.damaged) == ("identical", 12, 18, ["step-24"])


def test_a_run_that_is_going_on_is_refused(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.lock()
    try:
        with pytest.raises(RunFolderError, match="is in use by"):
            checked(tmp_path / "run")
    finally:
        folder.close()


def test_a_run_of_fit_needs_what_python_gave_it(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    with pytest.raises(RunFolderError) as refused:
        verify(tmp_path / "run")
    assert "model or data given from Python" in refused.value.what
    assert f"stepwell.verify({str(tmp_path / 'run')!r}, model=..., data=...)" in refused.value.fix


def test_a_recipe_of_functions_is_given_again_and_must_be_the_same(tmp_path: Path) -> None:
    recipe: dict[str, Any] = {"objective": half_squared, "optimizer": {"name": "sgd", "lr": 0.1}, "batch_size": 8}
    trained(tmp_path / "run", recipe=recipe)
    with pytest.raises(JobError):
        checked(tmp_path / "run")
    assert checked(tmp_path / "run", recipe=stepwell.Recipe(**recipe)).verdict == "identical"
    with pytest.raises(JobError, match="another recipe"):
        checked(tmp_path / "run", recipe=stepwell.Recipe(**recipe | {"batch_size": 4}))


def half_squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).pow(2).mean() / 2


@pytest.mark.parametrize("name", ["nothing", "a file", "an empty folder"])
def test_what_is_no_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a file").write_text("x")
    (tmp_path / "an empty folder").mkdir()
    with pytest.raises(RunFolderError) as refused:
        verify(tmp_path / name)
    assert refused.value.expected
    assert refused.value.fix


def test_a_run_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    for place in checkpoints(tmp_path / "run" / "checkpoints"):
        (place / "manifest.json").unlink()
    with pytest.raises(RunFolderError, match="no whole checkpoint"):
        checked(tmp_path / "run")


def test_a_run_that_the_clock_on_the_wall_ended_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**6))
    monkeypatch.setattr("stepwell.engine.trainer.time.monotonic", lambda: float(next(ticks)))
    run = trained(tmp_path / "run", stop={"max_time": "15 seconds"}, recipe={"schedule": {"name": "plateau", "patience": 0}})
    assert run.stop_reason.startswith("max time")
    assert 6 < run.steps < 24
    found = checked(tmp_path / "run")
    assert (found.verdict, found.last_step) == ("identical", run.steps)


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_steps_that_were_left_out_are_left_out_again(tmp_path: Path, policy: str) -> None:
    """One row in 48 can't be learned from, so each epoch has a bad batch; the clock and the place in the data part."""
    inputs, targets = data()
    inputs[11] = 60.0

    class Overflowing(Layers):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs) * torch.where(inputs[:, :1] > 50, torch.inf, 1.0)

    recipe = stepwell.Recipe(optimizer={"name": "adamw", "lr": 1e-2}, batch_size=8, on_nonfinite=policy)  # type: ignore[arg-type]
    out = tmp_path / "run"
    run = stepwell.fit(
        Overflowing(), (inputs, targets), val=data(20), recipe=recipe, out=out, budget="20 steps", log_every="1 steps"
    )
    assert [event.kind for event in run.history.events].count("nonfinite") >= 3
    found = verify(out, model=Overflowing(), data=(inputs, targets), val=data(20))
    assert (found.verdict, found.last_step) == ("identical", run.steps)


def test_a_checkpoint_that_a_signal_left_in_the_middle_of_an_evaluation_is_verified(tmp_path: Path) -> None:
    class Interrupting(Layers):
        def forward(self, inputs: Tensor) -> Tensor:
            if not self.training and int(self.calls) == 12:
                signal.raise_signal(signal.SIGINT)
            return super().forward(inputs)

    with pytest.raises(Interrupted):
        trained(tmp_path / "run", Interrupting(), recipe={"techniques": [{"name": "ema", "half_life": "2 steps"}]})
    assert load_checkpoint(checkpoints(tmp_path / "run" / "checkpoints")[0])["evaluated_at"] == 6
    found = checked(tmp_path / "run")
    assert (found.verdict, found.first_step, found.last_step) == ("identical", 6, 12)
