"""Runs whose techniques reshape the model: delivered, evaluated, continued and used for predictions like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import stepwell
from stepwell.core.errors import JobError, RunFolderError
from stepwell.core.modules.low_rank import adapted_layers
from stepwell.recipe.adapters import load_adapter, merge_adapter, save_adapter
from stepwell.recipe.delivered import load_delivered, rebuilding
from stepwell.recipe.files import read_job
from stepwell.techniques import Dropout, Freeze, Lora, NewHead, XavierInit

JOB = """
data: {source: digits}
split: {validation: 0.2, test: 0.2, by: stratified}
model: {name: mlp, hidden: [16, 8], dropout: 0.1}
task: classification
recipe:
  optimizer: {name: adamw, lr: 3e-3}
  techniques:
    - {name: lora, rank: 2}
    - {name: dropout, probability: 0.2, patterns: {body.2: 0.3}}
    - {name: new_head}
  batch_size: 64
budget: 20 steps
"""


def job(folder: Path, text: str = JOB) -> stepwell.Job:
    path = folder / "job.yaml"
    path.write_text(text)
    return read_job(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("reshaped")
    return stepwell.train(job(folder), out=folder / "run")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five digits as a new file: columns of 64 pixels."""
    from sklearn.datasets import load_digits

    path = tmp_path_factory.mktemp("new") / "digits.csv"
    load_digits(as_frame=True).data.head(5).to_csv(path, index=False)
    return path


def test_a_delivered_model_has_its_adapters_and_gives_the_same_metrics(run: Any) -> None:
    delivered = load_delivered(run.folder)
    assert list(adapted_layers(delivered.model)) == ["body.0", "body.3"]
    assert all(torch.equal(tensor, run.model.state_dict()[name]) for name, tensor in delivered.model.state_dict().items())
    report = stepwell.evaluate(run.folder)
    assert report.metrics["accuracy"] == run.test_metrics["accuracy"]


def test_base_weights_keep_the_bits_they_were_built_with(run: Any) -> None:
    from stepwell.models import build

    built = build("mlp", load_signature(run), {"hidden": [16, 8], "dropout": 0.1}, seed=0).state_dict()
    saved = load_file(run.folder / "model" / "model.safetensors")
    assert torch.equal(saved["body.0.weight"], built["body.0.weight"])
    assert torch.equal(saved["body.3.bias"], built["body.3.bias"])
    assert not torch.equal(saved["head.weight"], built["head.weight"])


def load_signature(run: Any) -> Any:
    from stepwell.core.signature import Signature

    return Signature.from_dict(load_delivered(run.folder).description["signature"])


def test_explain_tells_what_was_reached_and_how_much_trains(tmp_path: Path) -> None:
    text = stepwell.explain(job(tmp_path)).text
    # 64 -> 16 -> 8 -> 10: (64 + 16) * 2 + (16 + 8) * 2 in adapters, 90 in the head, 1,176 frozen.
    assert "lora adapts 2 layers: 298 of 1,474 parameters train (20.2 %)" in text
    assert "dropout sets 1 place to 0.2, 1 place to 0.3" in text


def test_explain_leaves_out_a_probability_that_rates_by_position_stand_in_for(tmp_path: Path) -> None:
    changed = JOB.replace("probability: 0.2, patterns: {body.2: 0.3}", "rates: typical")
    text = stepwell.explain(job(tmp_path, changed)).text
    assert "dropout(rates=typical" in text
    assert "dropout(probability=0.2, " in stepwell.explain(job(tmp_path)).text


def test_adapters_of_a_run_are_saved_loaded_and_merged(run: Any, tmp_path: Path) -> None:
    from stepwell.models import build

    model = load_delivered(run.folder).model
    save_adapter(model, tmp_path)
    plain = build("mlp", load_signature(run), {"hidden": [16, 8], "dropout": 0.1}, seed=0).eval()
    inputs = torch.randn(4, 64)
    assert torch.equal(load_adapter(plain, tmp_path)(inputs), model(inputs))
    torch.testing.assert_close(merge_adapter(plain)(inputs), model(inputs), rtol=0, atol=1e-5)


def test_a_run_with_adapters_goes_on_to_the_bits_of_the_whole_one(tmp_path: Path) -> None:
    whole = stepwell.train(job(tmp_path, JOB.replace("20 steps", "24 steps")), out=tmp_path / "whole")
    stepwell.train(job(tmp_path), out=tmp_path / "half")
    longer = stepwell.resume(tmp_path / "half", budget="24 steps")
    ours, theirs = whole.model.state_dict(), longer.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_samples_add_spread_and_entropy_to_predictions(run: Any, images: Path, tmp_path: Path) -> None:
    source = stepwell.evaluate(run.folder)  # the run is whole
    assert source.metrics
    frame = predictions(run, images, tmp_path, samples=30)
    assert list(frame.columns[-2:]) == ["std", "entropy"]
    assert (frame["std"] > 0).all()
    probabilities = frame[[name for name in frame.columns if name.startswith("probability_")]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    np.testing.assert_allclose(frame["entropy"], -(probabilities * np.log(probabilities)).sum(axis=1), rtol=1e-6)
    again = predictions(run, images, tmp_path, samples=30)
    assert again.equals(frame)
    assert "std" not in predictions(run, images, tmp_path, samples=0)


def predictions(run: Any, images: Path, folder: Path, *, samples: int) -> Any:
    return stepwell.predict(run.folder, images, out=folder / "predictions.csv", samples=samples)


def test_the_command_line_passes_samples_on(run: Any, images: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from stepwell.cli.app import app

    out = tmp_path / "predictions.csv"
    done = CliRunner().invoke(app, ["predict", str(run.folder), str(images), "--samples", "3", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert out.read_text().splitlines()[0].endswith("std,entropy")


def test_a_single_sample_is_refused(run: Any, images: Path) -> None:
    with pytest.raises(JobError, match="samples is 1"):
        stepwell.predict(run.folder, images, samples=1)


def test_what_reshapes_a_model_is_on_record_in_the_order_in_which_it_acts() -> None:
    techniques = [Lora(rank=2), Freeze(patterns=["0"]), Dropout(probability=0.3), XavierInit(), NewHead(num_outputs=3)]
    assert [item["name"] for item in rebuilding(techniques)] == ["new_head", "dropout", "lora"]
    assert rebuilding(techniques)[1]["probability"] == 0.3


def test_a_technique_that_is_not_there_any_more_is_told_as_a_run_that_cannot_be_loaded(run: Any, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run.folder, tmp_path / "run")
    place = tmp_path / "run" / "model" / "model.json"
    place.write_text(place.read_text().replace('"new_head"', '"newer_head"'))
    with pytest.raises((RunFolderError, JobError), match="newer_head"):
        load_delivered(tmp_path / "run")
