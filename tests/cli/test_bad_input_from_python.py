"""Bad input to `stepwell.fit`: an error of three parts before anything is trained, never a silent wrong result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import stepwell
from stepwell.core.errors import DataError, JobError, RunFolderError, StepwellError

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
CLASSES = (X.sum(1) > 0).long()
NUMBERS = X.sum(1, keepdim=True) * 0.5
HOLE = X.clone()
HOLE[3, 1] = float("nan")
ENDLESS = NUMBERS.clone()
ENDLESS[7] = float("inf")


def network(num_outputs: int = 2, dtype: torch.dtype = torch.float32) -> nn.Module:
    model = nn.Linear(4, num_outputs, dtype=dtype)
    with torch.no_grad():
        model.weight.copy_(torch.linspace(-1, 1, 4 * num_outputs, dtype=dtype).view(num_outputs, 4))
        model.bias.zero_()
    return model


def recipe(objective: Any = None, **settings: Any) -> stepwell.Recipe:
    return stepwell.Recipe(objective=objective, optimizer={"name": "sgd", "lr": 0.1}, **{"batch_size": 8} | settings)


def fit(model: Any = None, data: Any = (X, CLASSES), **settings: Any) -> Any:
    return stepwell.fit(network() if model is None else model, data, **{"budget": "2 epochs"} | settings)


def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return ((outputs - targets) ** 2).mean()


MISTAKES: dict[str, tuple[Callable[[], Any], type[StepwellError], str]] = {
    "a class instead of an object": (lambda: fit(nn.Linear), JobError, "an instance"),
    "no model": (lambda: stepwell.fit(None, (X, CLASSES)), JobError, "torch.nn.Module"),  # type: ignore[arg-type]
    "inputs and targets of different lengths": (lambda: fit(data=(X, CLASSES[:-1])), DataError, "40, 39"),
    "validation inputs of another shape": (lambda: fit(val=(X[:, :3], CLASSES)), DataError, r"\[\(3,\)\].*\[\(4,\)\]"),
    "validation targets of another shape": (lambda: fit(val=(X, NUMBERS)), DataError, "targets of the validation data"),
    "validation parts of different lengths": (lambda: fit(val=(X, CLASSES[:-1])), DataError, "40, 39"),
    "an unknown argument": (lambda: fit(epochs=3), JobError, "'epochs'.*Known: .*checkpoint_every"),
    "a budget without a unit": (lambda: fit(budget=3), JobError, "budget is 3"),
    "a recipe that is a word": (lambda: fit(recipe="adamw"), JobError, "recipe is 'adamw'"),
    "NaN in inputs": (lambda: fit(data=(HOLE, CLASSES)), DataError, "inputs hold nan in row 3, column 1"),
    "NaN in validation inputs": (lambda: fit(val=(HOLE, CLASSES)), DataError, "nan in row 3"),
    "Inf in targets": (lambda: fit(network(1), (X, ENDLESS)), DataError, "targets hold inf in row 7"),
    "whole numbers for a model of floats": (lambda: fit(data=((X * 9).long(), CLASSES)), JobError, "inputs are int64"),
    "single precision for a double model": (lambda: fit(network(2, torch.float64)), JobError, "inputs are float32"),
    "no examples": (lambda: fit(data=(X[:0], CLASSES[:0])), DataError, "no examples"),
    "no validation examples": (lambda: fit(val=(X[:0], CLASSES[:0])), DataError, "no examples"),
    "no data": (lambda: fit(data=None), DataError, "None"),
    "no targets": (lambda: fit(data=X), JobError, "no objective is given"),
    "text": (lambda: fit(data=(np.array([["a"]] * 40), CLASSES)), DataError, "expected numbers"),
    "a loss that returns a list": (lambda: fit(recipe=recipe(lambda o, t: [squared(o[:, 0], t)])), JobError, "list"),
    "a loss that returns a float": (lambda: fit(recipe=recipe(lambda o, t: float(o.sum()))), JobError, "without .item()"),
    "a loss without a gradient": (lambda: fit(recipe=recipe(lambda o, t: o.detach().mean())), JobError, "doesn't depend"),
    "float targets for classes": (lambda: fit(data=(X, CLASSES.float()), recipe=recipe("cross_entropy")), DataError, "long"),
    "a target beyond the classes": (lambda: fit(data=(X, CLASSES * 2), recipe=recipe("cross_entropy")), DataError, "2 classes"),
    "more outputs than targets": (lambda: fit(network(3), (X, NUMBERS), recipe=recipe("mse")), DataError, "the same shape"),
    "a loss that broadcasts": (
        lambda: fit(network(1), (X, NUMBERS[:, 0]), recipe=recipe(squared)),
        JobError,
        r"broadcasts outputs \(8, 1\) against targets \(8,\)",
    ),
    "a loss that broadcasts the other way": (
        lambda: fit(nn.Sequential(network(1), nn.Flatten(0)), (X, NUMBERS), recipe=recipe(squared)),
        JobError,
        r"broadcasts outputs \(8,\) against targets \(8, 1\)",
    ),
    "losses that broadcast": (
        lambda: fit(network(1), (X, NUMBERS[:, 0]), recipe=recipe(lambda o, t: (o - t) ** 2)),
        JobError,
        r"a tensor \(8, 8\) for 8 samples",
    ),
    "a first layer of another width": (lambda: fit(nn.Linear(5, 2)), JobError, "8x4 and 5x2.*first layer's width"),
    "a batch larger than the data": (lambda: fit(recipe=recipe(batch_size=64)), JobError, "40 training examples"),
    "nothing to train": (lambda: fit(nn.Identity()), JobError, "no parameter that trains"),
    "a weight below zero": (lambda: fit(data=(X, CLASSES, -torch.ones(40))), DataError, "negative"),
    "all weights zero": (lambda: fit(data=(X, CLASSES, torch.zeros(40))), DataError, "all weights are 0"),
    "a model that returns a tuple": (lambda: fit(nn.LSTM(4, 2)), DataError, "tuple"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_an_error_of_three_parts_before_anything_is_trained(case: str) -> None:
    attempt, kind, words = MISTAKES[case]
    with pytest.raises(kind, match=words) as caught:
        attempt()
    assert all((caught.value.what, caught.value.expected, caught.value.fix))


def test_no_grad_mode_is_refused() -> None:
    with torch.no_grad(), pytest.raises(JobError, match="gradients are switched off"):
        fit()


@pytest.mark.parametrize("as_arrays", [False, True])
def test_double_data_trains_a_double_model_in_double(as_arrays: bool) -> None:
    model, targets = network(1, torch.float64), NUMBERS.double()
    data: tuple[Any, Any] = (X.double(), targets)
    if as_arrays:
        data = (data[0].numpy(), data[1].numpy())
    fit(model, data, recipe=recipe("mse", batch_size="full"), budget="1 steps", val=data)
    start = network(1, torch.float64)
    loss = ((start(X.double()) - targets) ** 2).mean()
    loss.backward()
    expected = start.weight.detach() - 0.1 * start.weight.grad  # type: ignore[operator]
    assert model.weight.dtype == torch.float64
    assert torch.allclose(model.weight, expected, rtol=0, atol=1e-14)  # single precision would be off by 1e-8


def test_double_data_is_made_single_for_a_single_model() -> None:
    assert fit(data=(X.double(), CLASSES)).steps == 4


@pytest.mark.parametrize("objective", ["mse", "bce", nn.MSELoss(), nn.functional.mse_loss])
def test_a_column_of_outputs_is_trained_like_the_same_numbers_in_a_row(objective: Any) -> None:
    """(N, 1) against (N,) in torch's own words would be N * N differences."""
    targets = (NUMBERS > 0).float()
    column, row = network(1), network(1)
    fit(column, (X, targets), recipe=recipe(objective))
    fit(row, (X, targets[:, 0]), recipe=recipe(objective))
    assert torch.equal(column.weight, row.weight)
    assert not torch.equal(column.weight, network(1).weight)


def test_a_loss_that_squeezes_by_itself_is_not_refused() -> None:
    run = fit(network(1), (X, NUMBERS[:, 0]), recipe=recipe(lambda o, t: squared(o.squeeze(1), t)))
    assert run.stop_reason == "budget spent"


def test_truth_values_and_tensors_with_a_history_are_data_like_any_other() -> None:
    plain, other = network(), network()
    fit(plain)
    fit(other, ((X.clone().requires_grad_() * 1.0), CLASSES.bool().long()))
    assert torch.equal(plain.weight, other.weight)
    assert fit(network(), (X, CLASSES.bool())).steps == 4


def test_a_folder_is_refused_for_what_it_holds_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.txt").write_text("me", encoding="utf-8")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for name in ("photos", "file"):
        with pytest.raises(RunFolderError, match=name):
            fit(out=tmp_path / name)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["me.txt"]
    with pytest.raises(JobError, match="existing is 'overwrite'"):
        fit(out=tmp_path / "photos", existing="overwrite")


def test_a_run_in_the_folder_is_resumed_by_its_own_job_only(tmp_path: Path) -> None:
    first = fit(out=tmp_path / "run")
    before = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    with pytest.raises(RunFolderError, match="already holds this job's run") as kept:
        fit(out=tmp_path / "run")
    with pytest.raises(RunFolderError, match="another job"):
        fit(out=tmp_path / "run", existing="resume", seed=4)
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == before
    # Whoever keeps the error does not keep the folder.
    again = fit(out=tmp_path / "run", existing="resume")
    assert kept.value.exit_code == 2
    assert torch.equal(again.model.weight, first.model.weight)


def test_a_mistake_does_not_block_the_next_try_in_the_same_folder(tmp_path: Path) -> None:
    with pytest.raises(JobError):
        fit(out=tmp_path / "run", recipe=recipe(batch_size=64))
    assert not (tmp_path / "run").exists()
    assert fit(out=tmp_path / "run").folder == tmp_path / "run"
