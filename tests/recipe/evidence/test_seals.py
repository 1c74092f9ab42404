"""A delivered model that isn't the one on record is used by nothing; lost checkpoints are no reason to begin again unasked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import stepwell
from stepwell.core.errors import RunFolderError, StepwellError
from stepwell.recipe.delivered import load_model

JOB = {
    "data": {"source": "iris"},
    "model": {"name": "mlp", "hidden": [4]},
    "task": "classification",
    "recipe": {"optimizer": {"name": "sgd", "lr": 0.1}, "batch_size": 30},
    "budget": "2 epochs",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seals") / "run"
    stepwell.train(stepwell.Job.from_mapping(JOB), out=folder)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def start_from(run: Path) -> object:
    job = stepwell.Job.from_mapping(JOB | {"init_from": str(run), "budget": "1 epochs"})
    return stepwell.train(job, out=run.parent / "next")


USERS: dict[str, Callable[[Path], object]] = {
    "evaluate": lambda run: stepwell.evaluate(run),
    "export": lambda run: stepwell.export(run, to="safetensors"),
    "init_from": start_from,
    "a teacher": lambda run: load_model(str(run)),
}


@pytest.mark.parametrize("user", USERS)
def test_a_flipped_bit_in_the_delivered_weights_is_noticed_before_they_are_used(run: Path, user: str) -> None:
    flip(run / "model" / "model.safetensors", -3)  # in the numbers of the last tensor: the file still reads as one
    with pytest.raises(StepwellError, match=r"model\.safetensors was damaged or changed since the run delivered it"):
        USERS[user](run)
    stepwell.resume(run)  # as the message says: it is written anew from the checkpoints
    USERS[user](run)


def test_a_changed_description_of_the_model_is_noticed(run: Path) -> None:
    path = run / "model" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"model\.json was damaged or changed"):
        stepwell.evaluate(run)


def test_flipped_bits_in_the_weights_of_a_run_of_fit_are_not_exported(tmp_path: Path) -> None:
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    stepwell.fit(nn.Linear(4, 2), (x, (x.sum(1) > 0).long()), budget="1 epochs", out=tmp_path / "run")
    flip(tmp_path / "run" / "model" / "model.safetensors", -3)
    with pytest.raises(RunFolderError, match="was damaged or changed"):
        stepwell.export(tmp_path / "run", to="safetensors")


def test_a_model_is_used_where_no_hash_of_it_is_on_record(run: Path) -> None:
    """As after a kill between the model and the end of the log, or of a version that kept none."""
    path = run / "events.jsonl"
    lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if '"finished"' not in line]
    path.write_text("".join(lines), encoding="utf-8")
    flip(run / "model" / "model.safetensors", -3)
    assert load_model(str(run)) is not None
    path.unlink()
    assert load_model(str(run)) is not None


def test_a_run_all_of_whose_checkpoints_were_deleted_is_not_trained_again_unasked(run: Path) -> None:
    metrics = (run / "metrics" / "train.csv").read_bytes()
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RunFolderError, match="has saved 2 checkpoints, up to step-6, and none is there any more"):
        stepwell.resume(run)
    assert (run / "metrics" / "train.csv").read_bytes() == metrics
    stepwell.evaluate(run)  # the model is still there


def test_a_run_that_was_cut_off_before_its_first_checkpoint_begins_again(run: Path) -> None:
    path = run / "events.jsonl"
    path.write_text(path.read_text(encoding="utf-8").splitlines(keepends=True)[0], encoding="utf-8")
    for name in ("checkpoints", "model", "metrics"):
        shutil.rmtree(run / name)
    (run / "result.json").unlink()
    assert stepwell.resume(run).steps == 6
