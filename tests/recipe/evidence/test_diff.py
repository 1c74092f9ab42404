"""diff names what two runs differ in, from their folders alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import stepwell
from stepwell.cli.verdicts import difference_text
from stepwell.core.errors import RunFolderError
from stepwell.recipe.evidence.diff import diff


@pytest.fixture(autouse=True)
def _no_repository_is_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def data(num: int = 32) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(num, 4, generator=torch.Generator().manual_seed(5))
    return inputs, (inputs.sum(1) > 0).long()


def network() -> nn.Module:
    model = nn.Linear(4, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
    return model


def trained(out: Path, *, techniques: list[Any] | None = None, lr: float = 0.1, **settings: Any) -> Any:
    """12 steps, a row each, three evaluations."""
    recipe = stepwell.Recipe(optimizer={"name": "sgd", "lr": lr}, techniques=techniques or [], batch_size=8)
    settings = {"budget": "3 epochs", "log_every": "1 steps"} | settings
    return stepwell.fit(network(), data(), val=data(10), recipe=recipe, out=out, **settings)


def test_two_runs_of_one_job_differ_in_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        trained(tmp_path / name)
    found = diff(tmp_path / "a", tmp_path / "b")
    assert (found.job, found.environment, found.packages, found.data, found.compared.row) == ([], [], [], None, None)
    assert (found.compared.tensors, found.events, found.compared.num_rows) == ([], {}, 12 + 3)
    [part] = found.compared.parts
    assert part.before == part.now != ""
    assert found.compared.same
    assert all(pair.a == pair.b for pair in found.metrics)
    assert {pair.name for pair in found.metrics} >= {"steps", "train loss", "validation loss", "best loss", "best at step"}


def test_settings_are_told_one_by_one(tmp_path: Path) -> None:
    trained(tmp_path / "a", techniques=[{"name": "clip_norm", "max_norm": 1.0}, "label_smoothing"], seed=1)
    trained(tmp_path / "b", techniques=[{"name": "clip_norm", "max_norm": 0.5}], seed=1, log_every="2 steps")
    found = diff(tmp_path / "a", tmp_path / "b")
    assert [(item.path, item.before, item.after, item.kind) for item in found.job if item.kind == "changed"] == [
        ("recipe.techniques.clip_norm.max_norm", 1.0, 0.5, "changed"),
        ("log_every", "1 steps", "2 steps", "changed"),
    ]
    assert [item.path for item in found.job if item.kind == "removed"] == ["recipe.techniques.label_smoothing"]


def test_the_first_diverging_row_is_named_with_both_values(tmp_path: Path) -> None:
    """The rate differs from the sixth step on, so the weights after it do, and the loss at the seventh."""
    for name, schedule in (("a", None), ("b", {"name": "multistep", "milestones": ["5 steps"], "gamma": 0.5})):
        recipe = stepwell.Recipe(optimizer={"name": "sgd", "lr": 0.1}, schedule=schedule, batch_size=8)
        stepwell.fit(network(), data(), val=data(10), recipe=recipe, out=tmp_path / name, budget="3 epochs", log_every="1 steps")
    row = diff(tmp_path / "a", tmp_path / "b").compared.row
    assert row is not None
    assert (row.file, row.step, row.after, row.column, row.before, row.now) == ("train", 6, 5, "lr", 0.1, 0.05)


def test_only_steps_that_both_logged_are_compared(tmp_path: Path) -> None:
    trained(tmp_path / "a", evaluate_every="2 steps")
    trained(tmp_path / "b", evaluate_every="3 steps")
    found = diff(tmp_path / "a", tmp_path / "b")
    assert (found.compared.row, found.compared.num_rows) == (None, 12 + 2)
    assert found.compared.same


def test_the_tensor_that_is_furthest_apart_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        trained(tmp_path / name)
    file = tmp_path / "b" / "model" / "model.safetensors"
    weights = load_file(file)
    weights["bias"] += 0.25
    weights["weight"][1, 3] += 0.5
    save_file(weights, file)
    found = diff(tmp_path / "a", tmp_path / "b")
    first = found.compared.tensors[0]
    assert (first.name, first.num_different, first.num_elements) == ("weight", 1, 8)
    assert first.largest == pytest.approx(0.5, abs=1e-6)
    assert [item.name for item in found.compared.tensors] == ["weight", "bias"]
    assert not found.compared.same


def test_environment_packages_data_and_events_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        trained(tmp_path / name)
    record = json.loads((tmp_path / "b" / "manifest.json").read_text(encoding="utf-8"))
    record["environment"]["threads"]["intra"] = 7
    record["environment"]["packages"]["installed"]["numpy"] = "0.1"
    record["data"] = {"fingerprint": "f" * 64}
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(record), encoding="utf-8")
    with open(tmp_path / "b" / "events.jsonl", "a", encoding="utf-8") as log:
        log.write('{"kind": "nonfinite", "step": 3}\n')
    found = diff(tmp_path / "a", tmp_path / "b")
    assert [(item.path, item.now) for item in found.environment] == [("threads.intra", 7)]
    assert [(item.path, item.now, item.affects) for item in found.packages] == [("numpy", "0.1", "bits")]
    assert found.data is not None
    assert found.data.before == json.loads((tmp_path / "a" / "manifest.json").read_text(encoding="utf-8"))["data"]["fingerprint"]
    assert found.data.now == "f" * 64
    assert found.events == {"nonfinite": (0, 1)}


def test_a_run_that_is_not_finished_is_compared_as_far_as_it_went(tmp_path: Path) -> None:
    for name in ("a", "b"):
        trained(tmp_path / name)
    (tmp_path / "b" / "result.json").unlink()
    for file in (tmp_path / "b" / "model").iterdir():
        file.unlink()
    found = diff(tmp_path / "a", tmp_path / "b")
    assert (found.compared.row, found.compared.num_rows, found.compared.parts[0].now) == (None, 15, "")
    steps = next(pair for pair in found.metrics if pair.name == "steps")
    assert (steps.a, steps.b) == (12, 12)
    assert "weights: only A has delivered any" in difference_text(found)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    trained(tmp_path / "a")
    with pytest.raises(RunFolderError):
        diff(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b").mkdir()
    with pytest.raises(RunFolderError, match="holds no run"):
        diff(tmp_path / "b", tmp_path / "a")


def test_the_text_fits_into_a_hundred_columns(tmp_path: Path) -> None:
    trained(tmp_path / "a", techniques=[{"name": "clip_norm", "max_norm": 1.0}])
    trained(tmp_path / "b", techniques=["label_smoothing"], lr=0.2, seed=2)
    text = difference_text(diff(tmp_path / "a", tmp_path / "b"))
    table = [line for line in text.splitlines() if not line.startswith(("A  ", "B  "))]
    assert max(map(len, table)) <= 100
    assert "first difference: train, step 1: " in text
    assert "the same: environment, packages, data, events" in text
    assert "weights: 2 tensors not the same, furthest apart " in text
