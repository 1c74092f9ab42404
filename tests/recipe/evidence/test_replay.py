"""replay trains a run again and says whether everything that it left is the same, byte by byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import stepwell
from stepwell.cli.verdicts import replay_text
from stepwell.core.errors import DataError, RunFolderError
from stepwell.engine.records.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from stepwell.recipe.evidence.replay import replay

JOB = """\
data: {source: table, path: table.csv, target: paid}
split: {validation: 0.25, test: 0.25}
model: {name: mlp, hidden: [4]}
task: classification
recipe:
  optimizer: {name: adamw, lr: 1e-2}
  techniques: [{name: ema, half_life: 3 steps}]
  batch_size: 8
budget: 4 epochs
"""


@pytest.fixture(autouse=True)
def _no_repository_is_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(place: Path, shift: int = 0) -> None:
    rows = [f"{n * 7 % 40 + shift},{n * 37 % 911 / 10},{'yes' if n * 5 % 7 < 3 else 'no'}" for n in range(32)]
    (place / "table.csv").write_text("\n".join(["age,income,paid", *rows]) + "\n", encoding="utf-8")


def trained(place: Path, **settings: Any) -> Path:
    """8 steps of 2 an epoch, a checkpoint each epoch, the last two of which stay."""
    from stepwell.recipe.files import parse_job

    table(place)
    job = parse_job(JOB, [f"{path}={value}" for path, value in settings.items()])
    stepwell.train(job, out=place / "run", base=place)
    return place / "run"


def test_a_run_of_a_job_comes_out_the_same(tmp_path: Path) -> None:
    run = trained(tmp_path)
    found = replay(run)
    assert (found.verdict, found.out, found.changes) == ("identical", tmp_path / "run-replay", [])
    assert (found.checkpoints, found.compared.num_rows) == ([6, 8], 8 + 4)
    assert found.compared.parts[0].before == found.compared.parts[0].now
    name = Path("model", "model.safetensors")
    assert (run / name).read_bytes() == (found.out / name).read_bytes()
    assert replay(run).out == tmp_path / "run-replay-2"
    assert replay(run, out=tmp_path / "elsewhere").out == tmp_path / "elsewhere"


def test_a_resumed_run_comes_out_as_one_that_was_trained_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stepwell.data.sources import ShuffledSource

    drawn = ShuffledSource.next

    def lost(source: ShuffledSource, cursor: int, model: Any = None) -> Any:
        if cursor == 5:
            raise KeyboardInterrupt
        return drawn(source, cursor, model)

    with monkeypatch.context() as patched:
        patched.setattr(ShuffledSource, "next", lost)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path)
    assert not (tmp_path / "run" / "result.json").exists()
    stepwell.resume(tmp_path / "run")
    assert replay(tmp_path / "run").verdict == "identical"


def test_a_run_of_fit_comes_out_the_same_with_what_python_gave_it(tmp_path: Path) -> None:
    inputs = torch.randn(32, 4, generator=torch.Generator().manual_seed(5))
    data = (inputs, (inputs.sum(1) > 0).long())
    model, spare = start(), start()
    stepwell.fit(model, data, budget="3 epochs", out=tmp_path / "run", log_every="1 steps")
    found = replay(tmp_path / "run", model=spare, data=data)
    assert (found.verdict, found.compared.num_rows) == ("identical", 3)
    assert torch.equal(spare.weight, start().weight), "the module given stays as it is"
    other = replay(tmp_path / "run", model=model, data=data)  # trained already, so another start
    assert other.verdict == "unexplained"
    assert other.compared.row is not None
    assert (other.compared.row.step, other.compared.row.after, other.compared.row.column) == (1, None, "loss")


def start() -> nn.Linear:
    model = nn.Linear(4, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
    return model


def test_a_run_that_started_from_other_weights_starts_from_them_again(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    first = trained(tmp_path / "first")
    file = tmp_path / "first.safetensors"
    file.write_bytes((first / "model" / "model.safetensors").read_bytes())
    run = trained(tmp_path, init_from=file)
    assert replay(run).verdict == "identical"
    weights = load_file(file)
    name = next(iter(weights))
    weights[name] = weights[name] + torch.full_like(weights[name], 0.5)
    save_file(weights, file)
    found = replay(run)
    assert (found.verdict, [item.path for item in found.causes]) == ("changed", ["init_from.sha256"])
    assert "different, because init_from.sha256 changed" in replay_text(found)


def test_a_changed_delivered_weight_and_a_changed_checkpoint_are_named(tmp_path: Path) -> None:
    run = trained(tmp_path)
    file = run / "model" / "model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[0]
    weights[name].view(-1)[0] += 0.125
    save_file(weights, file)
    place = checkpoints(run / "checkpoints")[1]
    state = load_checkpoint(place)
    state["step"]["cursor"] += 1
    save_checkpoint(place.parent, state, step=6)
    found = replay(run)
    assert (found.verdict, found.compared.row) == ("unexplained", None)
    assert [(item.name, item.num_different) for item in found.compared.tensors] == [(name, 1)]
    assert found.compared.values == ["checkpoints/step-6: step.cursor"]
    assert found.compared.parts[0].before != found.compared.parts[0].now


def test_changed_metrics_of_the_test_part_are_named(tmp_path: Path) -> None:
    run = trained(tmp_path)
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    result["test"]["accuracy"] += 0.01
    (run / "result.json").write_text(json.dumps(result), encoding="utf-8")
    found = replay(run)
    assert (found.verdict, found.compared.values) == ("unexplained", ["result.json: test.accuracy"])


def test_data_that_changed_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    run = trained(tmp_path)
    table(tmp_path, shift=1)
    with pytest.raises(DataError, match="the data has changed"):
        replay(run)
    (tmp_path / "table.csv").unlink()
    with pytest.raises(DataError, match="does not exist"):
        replay(run)
    assert not (tmp_path / "run-replay").exists()


def test_what_no_job_trains_in_one_go_is_refused(tmp_path: Path) -> None:
    run = trained(tmp_path)
    stepwell.resume(run, budget="5 epochs")
    with pytest.raises(RunFolderError, match="continued with another budget"):
        replay(run)
    found = stepwell.verify(run)
    assert (found.verdict, found.first_step, found.last_step) == ("identical", 8, 10)
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    (run / "result.json").write_text(json.dumps(result | {"stop_reason": "max time of 3 s reached"}), encoding="utf-8")
    with pytest.raises(RunFolderError, match="limit in time"):
        replay(run)
    (run / "result.json").unlink()
    with pytest.raises(RunFolderError, match="no finished run") as refused:
        replay(run)
    assert "stepwell resume" in refused.value.fix
