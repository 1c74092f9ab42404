"""Weights to start from: what is loaded, what is kept, what is refused, and what goes on record."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import stepwell
from stepwell.core.errors import DataError, JobError
from stepwell.recipe.files import dump, read_job
from stepwell.recipe.initial import InitialWeights, initial_weights_from, read_weights, start_from_

FLAT = {"optimizer": {"name": "sgd", "lr": 1e-9}, "batch_size": 32}


def net(classes: int = 3, width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, classes))


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    weights = {name: torch.randn_like(t) if t.is_floating_point() else t + 5 for name, t in net().state_dict().items()}
    save_file(weights, tmp_path / "w.safetensors")
    return weights


def test_every_tensor_and_buffer_is_set_and_the_file_s_hash_is_told(tmp_path: Path, saved) -> None:
    name = "w.safetensors"
    model = net()
    started = start_from_(model, InitialWeights(name), base=tmp_path)
    assert all(torch.equal(tensor, saved[key]) for key, tensor in model.state_dict().items())
    assert started.loaded == list(net().state_dict())
    assert started.kept == started.unused == []
    assert started.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert started.summary == f"{len(saved)} tensors loaded"


def test_a_head_of_another_width_must_be_excepted_by_name(tmp_path: Path, saved) -> None:
    model = net(classes=5)
    before = model[2].weight.clone()
    with pytest.raises(JobError) as raised:
        start_from_(model, InitialWeights("w.safetensors"), base=tmp_path)
    assert raised.value.what == "2.weight has shape (5, 4) in the model and (3, 4) in w.safetensors, and 1 more differ"
    assert raised.value.fix == "Leave it out: init_from: {path: w.safetensors, except: [2]}"
    assert not torch.equal(model[0].weight, saved["0.weight"]), "nothing is loaded where something is refused"
    started = start_from_(model, InitialWeights("w.safetensors", ("2",)), base=tmp_path)
    assert started.kept == ["2.weight", "2.bias"]
    assert torch.equal(model[2].weight, before)
    assert torch.equal(model[0].weight, saved["0.weight"])


def test_what_is_excepted_keeps_its_values_even_where_it_would_fit(tmp_path: Path, saved) -> None:
    model = net()
    before = model[1].running_mean.clone()
    started = start_from_(model, InitialWeights("w.safetensors", ("1.running_*",)), base=tmp_path)
    assert started.kept == ["1.running_mean", "1.running_var"]
    assert torch.equal(model[1].running_mean, before)


def test_what_either_side_lacks_is_reported(tmp_path: Path, saved, caplog: pytest.LogCaptureFixture) -> None:
    del saved["1.weight"]
    save_file(saved | {"extra.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    with caplog.at_level(logging.WARNING, logger="stepwell.init_from"):
        started = start_from_(net(), InitialWeights("w.safetensors"), base=tmp_path)
    assert (started.kept, started.unused) == (["1.weight"], ["extra.weight"])
    assert "1 kept as they were (1.weight); 1 of the file not used (extra.weight)" in caplog.text


def test_nothing_to_load_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    save_file({"0.weights": torch.zeros(4, 2)}, tmp_path / "w.safetensors")
    with pytest.raises(JobError, match=r"such as '0.weight'.*Did you mean '0.weights'"):
        start_from_(net(), InitialWeights("w.safetensors"), base=tmp_path)


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path, saved) -> None:
    with pytest.raises(JobError, match=r"init_from.except has '3', which matches no module"):
        start_from_(net(), InitialWeights("w.safetensors", ("3",)), base=tmp_path)


def test_names_behind_a_wrapper_s_prefix_are_found(tmp_path: Path) -> None:
    weights = {f"module.{name}": tensor for name, tensor in net().state_dict().items()}
    save_file(weights, tmp_path / "c.safetensors")
    assert set(read_weights(tmp_path / "c.safetensors")) == set(net().state_dict())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("w.pt", b"\x80\x02", r"no safetensors file.*Convert it once: `stepwell import .*w.pt`, and give w.safetensors"),
        ("w.safetensors", b"12345678", "shorter than its own header says"),
        ("w.safetensors", b"\x02\0\0\0\0\0\0\0{}", "it holds no tensors by name"),
        ("w.npz", b"", "its name ends in '.npz'"),
        ("w", b"", "its name has no ending"),
    ],
    ids=["pickle", "damaged", "without tensors", "archive", "unnamed"],
)
def test_files_that_are_no_weights_are_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_weights(tmp_path / name)


def test_a_path_with_nothing_or_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="init_from names 'gone', which does not exist"):
        start_from_(net(), InitialWeights("gone"), base=tmp_path)
    (tmp_path / "run").mkdir()
    with pytest.raises(DataError, match=r"holds no model.*Name another folder"):
        start_from_(net(), InitialWeights("run"), base=tmp_path)
    (tmp_path / "run" / "job.yaml").touch()
    with pytest.raises(DataError, match="Finish the run first"):
        start_from_(net(), InitialWeights("run"), base=tmp_path)


@pytest.mark.parametrize(
    ("value", "said"),
    [(3, "init_from is 3"), ({"except": []}, "init_from has no path|path"), ({"path": "a", "exept": []}, "unknown key 'exept'")],
)
def test_other_values_of_init_from_are_refused(value: Any, said: str) -> None:
    with pytest.raises(JobError, match=said):
        stepwell.Job(recipe=FLAT, budget="1 epochs", init_from=value)


def test_a_job_keeps_it_as_a_value(tmp_path: Path) -> None:
    spec = {"path": "runs/a", "except": ["head"]}
    job = stepwell.Job(recipe=FLAT, budget="1 epochs", init_from=spec)
    assert job.init_from == initial_weights_from(spec) == InitialWeights("runs/a", ("head",))
    (tmp_path / "job.yaml").write_text(dump(job.to_mapping()))
    assert read_job(tmp_path / "job.yaml", given=("data", "model", "task")) == job
    assert stepwell.Job(recipe=FLAT, budget="1 epochs", init_from="runs/a").to_mapping()["init_from"]["except"] == []


def iris(**more: Any) -> stepwell.Job:
    given = {"data": {"source": "iris"}, "model": {"name": "mlp", "hidden": [5]}, "task": "classification", "recipe": FLAT}
    return stepwell.Job.from_mapping(given | {"budget": "2 epochs", "seed": 1} | more)


def test_a_job_starts_from_a_run_s_weights_and_says_so_in_its_manifest(tmp_path: Path) -> None:
    stepwell.train(iris(seed=2), out=tmp_path / "first", base=tmp_path)
    job = iris(init_from="first")
    stepwell.train(job, out=tmp_path / "second", base=tmp_path)
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("first", "second"))
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-6, rtol=0)  # at a rate of 1e-9 nothing moves far
    found = json.loads((tmp_path / "second" / "manifest.json").read_text())["init_from"]
    assert found["sha256"] == hashlib.sha256((tmp_path / "first" / "model" / "model.safetensors").read_bytes()).hexdigest()
    assert found["loaded"] == list(one) or set(found["loaded"]) == set(one)
    assert "init_from" in stepwell.explain(job, base=tmp_path).text


def test_a_resumed_run_doesnt_read_the_file_again(tmp_path: Path) -> None:
    stepwell.train(iris(seed=2), out=tmp_path / "first", base=tmp_path)
    whole = stepwell.train(iris(init_from="first", budget="4 epochs"), out=tmp_path / "whole", base=tmp_path)
    stepwell.train(iris(init_from="first"), out=tmp_path / "part", base=tmp_path)
    (tmp_path / "first" / "model" / "model.safetensors").unlink()
    again = stepwell.resume(tmp_path / "part", budget="4 epochs")
    for one, other in zip(whole.model.parameters(), again.model.parameters()):
        assert torch.equal(one, other)


def test_fit_starts_from_a_file_and_goes_on_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved) -> None:
    monkeypatch.chdir(tmp_path)
    data = (torch.randn(8, 2), torch.arange(8) % 5)
    spec = {"path": "w.safetensors", "except": ["2"]}
    recipe = stepwell.Recipe(optimizer={"name": "sgd", "lr": 1e-9}, batch_size=8)
    settings: dict[str, Any] = {"recipe": recipe, "budget": "1 epochs", "out": "run", "init_from": spec}
    model = net(classes=5)
    stepwell.fit(model, data, **settings)
    torch.testing.assert_close(model[0].weight, saved["0.weight"], atol=1e-6, rtol=0)
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["init_from"]["kept"] == ["2.weight", "2.bias"]
    (tmp_path / "w.safetensors").unlink()
    stepwell.fit(net(classes=5), data, **settings, existing="resume")


def test_adapters_that_the_model_has_no_place_for_are_refused_and_nothing_is_loaded(tmp_path: Path, saved) -> None:
    save_file({**saved, "0.lora_a": torch.zeros(2, 2), "0.lora_b": torch.zeros(4, 2)}, tmp_path / "adapted.safetensors")
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(JobError, match=r"adapters of a LoRA run \(0\.lora_a, 0\.lora_b\)"):
        start_from_(model, InitialWeights(path="adapted.safetensors"), base=tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
