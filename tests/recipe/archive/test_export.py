"""Exports: the same outputs elsewhere, loaded by the very lines that were printed; model.json says how rows become inputs."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import stepwell
from stepwell.core.errors import DataError, JobError, RunFolderError
from stepwell.core.signature import Signature
from stepwell.core.slots import call_model
from stepwell.data.arrays import ArrayReader
from stepwell.data.documents import DocumentReader
from stepwell.data.text import TextReader
from stepwell.engine.records.storage import make_folder, write_bytes, write_json
from stepwell.engine.records.tensors import encode_tensors
from stepwell.models import registry
from stepwell.recipe.archive.export import export
from stepwell.recipe.archive.export_graph import compare, example_inputs
from stepwell.recipe.archive.export_words import input_words
from stepwell.recipe.delivered import load_delivered, read_delivered

RECIPE: dict[str, Any] = {"optimizer": {"name": "adamw", "lr": 1e-2}, "batch_size": 8}
TOKENS = Signature("tokens", (6,), 20, vocab_size=20)
DOCUMENT = Signature("document", (6,), 2, vocab_size=20)
SMALL = {"num_layers": 1, "width": 16, "num_heads": 2}
# Each built-in model once; below, the other kinds of data that some of them take.
MODELS: dict[str, tuple[str, Signature, dict[str, Any]]] = {
    "mlp": ("mlp", Signature("table", (3,), 1, (4, 5)), {"hidden": [8]}),
    "convnet": ("convnet", Signature("image", (1, 8, 8), 3), {}),
    "resnet": ("resnet", Signature("image", (3, 16, 16), 3), {}),
    "segmenter": ("segmenter", Signature("mask", (1, 9, 10), 1), {"channels": [4, 8]}),
    "recurrent": ("recurrent", DOCUMENT, {}),
    "transformer": ("transformer", DOCUMENT, SMALL),
    "bag_of_words": ("bag_of_words", DOCUMENT, {}),
    "multi_head": ("multi_head", Signature("vector", (4,), 4, heads=(("kind", 3), ("price", 1))), {"hidden": [8]}),
}
KINDS: dict[str, tuple[str, Signature, dict[str, Any]]] = {
    "vector": ("mlp", Signature("vector", (4,), 3), {"hidden": []}),
    "categories alone": ("mlp", Signature("table", (0,), 1, (4, 5)), {"hidden": [8]}),
    "image": ("mlp", Signature("image", (1, 8, 8), 3), {"hidden": [8], "norm": "batch"}),
    "series": ("recurrent", Signature("series", (5, 3), 1), {}),
    "lstm": ("recurrent", TOKENS, {"cell": "lstm", "num_layers": 2}),
    "tokens": ("transformer", TOKENS, SMALL | {"norm": "rms"}),
}


def folder_of(case: tuple[str, Signature, dict[str, Any]], place: Path) -> Path:
    """A run folder that holds a model and nothing else."""
    name, signature, settings = case
    make_folder(place / "model")
    built = registry.build(name, signature, settings, seed=3)
    write_bytes(place / "model" / "model.safetensors", encode_tensors(built.state_dict()))
    facts = {"format": 1, "model": {"name": name, "settings": settings}, "techniques": [], "signature": signature.to_dict()}
    write_json(place / "model" / "model.json", facts)
    return place


def numbers(output: Any) -> Any:
    """Outputs of torch or of onnxruntime as arrays."""
    items = output.values() if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else [output]
    return [np.asarray(item.detach() if isinstance(item, torch.Tensor) else item) for item in items]


def torch_gives_the_model_s_outputs(case: Any, place: Path) -> None:
    folder = folder_of(case, place / "run")
    exported = export(folder, to="torch-export")
    program = torch.export.load(exported.folder / "model.pt2").module()
    for rows in (1, 7):
        given = example_inputs(case[1], rows)
        wanted = numbers(call_model(load_delivered(folder).model, given))
        for one, other in zip(numbers(call_model(program, given)), wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "recurrent"])
def test_a_model_gives_its_own_outputs_as_a_torch_program_for_any_number_of_rows(name: str, tmp_path: Path) -> None:
    torch_gives_the_model_s_outputs(MODELS[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*MODELS.values(), *KINDS.values()], ids=[*MODELS, *KINDS])
def test_every_built_in_model_and_kind_of_data_gives_its_own_outputs_as_a_torch_program(case: Any, tmp_path: Path) -> None:
    torch_gives_the_model_s_outputs(case, tmp_path)


def test_the_models_tried_are_all_that_there_are() -> None:
    assert set(MODELS) == set(registry.names())


def onnx_gives_the_model_s_outputs(case: Any, place: Path) -> None:
    folder = folder_of(case, place / "run")
    exported = export(folder, to="onnx")
    facts = json.loads((exported.folder / "model.json").read_text())
    session = onnxruntime.InferenceSession(exported.folder / "model.onnx")
    assert [item.name for item in session.get_inputs()] == [item["name"] for item in facts["inputs"]]
    assert [item.name for item in session.get_outputs()] == facts["outputs"]
    for rows in (1, 7):
        given = example_inputs(case[1], rows)
        named = given if isinstance(given, dict) else {"inputs": given}
        got = session.run(None, {name: leaf.numpy() for name, leaf in named.items()})
        for one, other in zip(got, numbers(call_model(load_delivered(folder).model, given)), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("name", ["transformer", "multi_head"])
def test_a_model_gives_its_own_outputs_in_onnxruntime(name: str, tmp_path: Path) -> None:
    onnx_gives_the_model_s_outputs(MODELS[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*MODELS.values(), *KINDS.values()], ids=[*MODELS, *KINDS])
def test_every_built_in_model_and_kind_of_data_gives_its_own_outputs_in_onnxruntime(case: Any, tmp_path: Path) -> None:
    onnx_gives_the_model_s_outputs(case, tmp_path)


@pytest.fixture(scope="module")
def credit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a table with gaps, categories and a binary target."""
    place = tmp_path_factory.mktemp("credit")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.integers(20, 60, 60).astype(float), "income": rng.normal(3000, 500, 60)})
    frame.loc[::7, "income"] = np.nan
    frame["colour"] = np.array(["red", "blue", "grey"])[rng.integers(0, 3, 60)]
    frame["paid"] = np.where(frame["age"] > 40, "yes", "no")
    frame.to_csv(place / "credit.csv", index=False)
    data = {"source": "table", "path": "credit.csv", "target": "paid"}
    job = {"data": data, "model": {"name": "mlp", "hidden": [8]}, "task": "binary", "recipe": RECIPE, "budget": "3 epochs"}
    stepwell.train(stepwell.Job.from_mapping(job), out=place / "run", base=place)
    return place


def test_the_printed_lines_load_each_format_in_a_fresh_interpreter_and_load_py_has_the_same_lines(credit: Path, tmp_path) -> None:
    zeros = {"numeric": torch.zeros(2, 3), "categories": torch.zeros(2, 1, dtype=torch.int64)}
    wanted = numbers(call_model(load_delivered(credit / "run").model, zeros))[0]
    tell = "\nprint([list(map(float, row)) for row in (outputs[0] if isinstance(outputs, list) else outputs)])\ndel outputs\n"
    script = ""
    for to in ("safetensors", "torch-export", "onnx"):
        exported = export(credit / "run", to=to, out=tmp_path / to)
        script += exported.snippet + tell
        beside = (exported.folder / "load.py").read_text()
        assert beside.strip() == exported.snippet.replace(f"Path({str(exported.folder)!r})", "Path(__file__).parent")
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd="/", check=True)
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(told) == 3
    for outputs in told:
        np.testing.assert_allclose(outputs, wanted, atol=1e-5)


def test_model_json_alone_says_how_raw_rows_become_inputs_and_outputs_probabilities(credit: Path, tmp_path: Path) -> None:
    exported = export(credit / "run", to="onnx", out=tmp_path / "exported")
    facts = json.loads((exported.folder / "model.json").read_text())
    frame = pd.DataFrame({"age": [25.0, 51.0], "income": [np.nan, 2800.0], "colour": ["red", "never seen"]})
    frame.to_csv(tmp_path / "new.csv", index=False)
    columns = facts["preparation"]["inputs"]["columns"]
    filled = [frame[c["name"]].fillna(c["fill"]).sub(c["mean"]).div(c["scale"]) for c in columns["numeric"]]
    flags = [frame[c["name"]].isna() for c in columns["numeric"] if c["flagged"]]
    codes = [[c["values"].index(v) + 1 if v in c["values"] else 0 for v in frame[c["name"]]] for c in columns["categories"]]
    feed = {"numeric": np.stack([*filled, *flags], 1).astype("float32"), "categories": np.array(codes).T}
    [logits] = onnxruntime.InferenceSession(exported.folder / "model.onnx").run(None, feed)
    chances = [1 / (1 + math.exp(-value)) for value in logits[:, 0]]
    told = stepwell.predict(credit / "run", tmp_path / "new.csv")
    np.testing.assert_allclose(chances, told["probability_yes"], atol=1e-5)
    assert "numbers 2: 1 where income is empty, else 0" in facts["how_inputs_are_made"]
    assert facts["what_outputs_mean"] == ["logits: sigmoid gives the probability of class 'yes'"]
    assert facts["classes"] == ["no", "yes"]


def test_what_the_words_say_of_texts_and_arrays_is_what_the_readers_do() -> None:
    text = TextReader(characters="abh", length=4)
    facts = {"kind": "text", "inputs": text.to_dict()}
    assert input_words(facts) == ["each character becomes 1 + its place in inputs.characters, any other one 0; windows of 4"]
    assert text.encode("hab!").tolist() == [1 + facts["inputs"]["characters"].find(letter) for letter in "hab!"]

    documents = DocumentReader.fit(["good film", "bad film"], length=3, max_words=9, min_count=1)
    vocabulary = documents.to_dict()["vocabulary"]
    by_hand = [vocabulary.index(word) if word in vocabulary else 1 for word in ("good", "play")] + [0]
    assert documents.encode(["Good play"]).tolist() == [by_hand]
    assert input_words({"kind": "documents", "inputs": documents.to_dict()})[1].startswith("cut to 3 words, or filled up with 0")

    pixels = np.arange(12.0).reshape(1, 1, 3, 4)
    images = ArrayReader("npz", "image", (1, 3, 4), mean=(0.5,), scale=(0.25,), divide=255.0)
    np.testing.assert_allclose(images.encode(pixels, where="x").numpy(), (pixels / 255 - 0.5) / 0.25, atol=1e-6)
    [words] = input_words({"kind": "array", "inputs": images.to_dict()})
    assert words.startswith("(value / 255.0 - mean) / scale")
    assert "one per channel" in words


def test_adapters_are_merged_before_anything_is_written(credit: Path, tmp_path: Path) -> None:
    data = {"source": "table", "path": "credit.csv", "target": "paid"}
    recipe = RECIPE | {"techniques": [{"name": "lora", "rank": 2}]}
    job = {"data": data, "model": {"name": "mlp", "hidden": [8]}, "task": "binary", "recipe": recipe, "budget": "3 epochs"}
    stepwell.train(stepwell.Job.from_mapping(job), out=tmp_path / "run", base=credit)
    exported = export(tmp_path / "run", to="safetensors")
    assert not [name for name in load_file(exported.folder / "model.safetensors") if "lora" in name]
    assert any("LoRA adapters were merged" in note for note in exported.notes)
    given = example_inputs(Signature.from_dict(load_delivered(tmp_path / "run").description["signature"]), 5)
    before = call_model(load_delivered(tmp_path / "run").model, given)
    after = call_model(read_delivered(exported.folder).model, given)
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


class Sum(nn.Module):
    """Two inputs, by position."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layer(left + right)
        return outputs


class Chooses(nn.Module):
    """What it computes depends on the numbers it gets, in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layer(inputs)
        return outputs if inputs.sum().item() > 0 else -outputs


def test_a_run_of_fit_exports_its_weights_and_with_the_module_its_graph(tmp_path: Path) -> None:
    inputs, targets = (torch.randn(64, 3), torch.randn(64, 3)), torch.arange(64) % 2
    run = stepwell.fit(Sum(), (inputs, targets), budget="1 epochs", out=tmp_path / "run")
    exported = export(tmp_path / "run", to="safetensors")
    exec(compile(exported.snippet, "printed", "exec"), lines := {})
    assert torch.equal(lines["weights"]["layer.weight"], run.model.layer.weight)
    with pytest.raises(JobError, match=r"made from Python.*model=module, inputs=x"):
        export(tmp_path / "run", to="torch-export")
    other = Sum()
    kept = other.layer.weight.clone()
    exported = export(tmp_path / "run", to="torch-export", model=other, inputs=inputs)
    assert torch.equal(other.layer.weight, kept), "the module given stays as it is"
    program = torch.export.load(exported.folder / "model.pt2").module()
    torch.testing.assert_close(program(*inputs), run.model(*inputs), atol=1e-6, rtol=0)
    with pytest.raises(DataError, match="don't fit the model given"):
        export(tmp_path / "run", to="onnx", model=nn.Linear(3, 2), inputs=inputs[0])


def test_a_model_that_torch_cant_trace_is_refused_with_its_reason_and_leaves_nothing(tmp_path: Path) -> None:
    stepwell.fit(Chooses(), (torch.randn(64, 3), torch.arange(64) % 2), budget="1 epochs", out=tmp_path / "run")
    with pytest.raises(JobError, match=r"torch can't export this model to torch-export: .*data-dependent.*--to safetensors"):
        export(tmp_path / "run", to="torch-export", model=Chooses(), inputs=torch.randn(4, 3))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_export_that_computes_something_else_is_refused() -> None:
    model = nn.Linear(3, 2).eval()
    compare(model, model, torch.randn(4, 3), "onnx")
    with pytest.raises(JobError, match="doesn't compute what the model does"):
        compare(model, lambda given: model(given) + 0.01, torch.randn(4, 3), "onnx")
    with pytest.raises(JobError, match="outputs of other shapes"):
        compare(model, lambda given: model(given)[:, :1], torch.randn(4, 3), "onnx")


def test_onnx_without_its_packages_names_the_extra(credit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnxscript" else there(name, *rest))
    with pytest.raises(JobError, match=r'needs onnxscript.*pip install "stepwell\[export\]"'):
        export(credit / "run", to="onnx", out=tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_what_cant_be_exported_is_refused_in_three_parts(credit: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(RunFolderError, match="exists already"):
        export(credit / "run", to="safetensors", out=tmp_path / "there")
    with pytest.raises(RunFolderError, match=r"holds no trained model|there is no folder"):
        export(tmp_path / "gone", to="safetensors", out=tmp_path / "new")
    with pytest.raises(JobError, match=r"to is 'torchexport'.*Did you mean 'torch-export'"):
        export(credit / "run", to="torchexport")  # type: ignore[arg-type]
    with pytest.raises(JobError, match="says how to build its model"):
        export(credit / "run", to="torch-export", model=nn.Linear(1, 1), inputs=torch.ones(1, 1), out=tmp_path / "new")


def test_the_run_stays_as_it_is(credit: Path) -> None:
    before = {path: path.read_bytes() for path in (credit / "run").rglob("*") if path.is_file()}
    exported = export(credit / "run", to="safetensors")
    assert exported.folder == credit / "run-safetensors"
    assert {path: path.read_bytes() for path in (credit / "run").rglob("*") if path.is_file()} == before
