"""Simpler rule sets beside the doctor: each rule speaks where its published threshold is passed, and not below."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from benchmarks.clinic.baselines import RULES, absolute, always, patterns, rows_of_case, symptoms, table
from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.score import Scored
from benchmarks.clinic.watched import Watched, watched
from torch import Tensor, nn
from torch.utils.data import TensorDataset


def setup_with(**changes: Any) -> Setup:
    inputs = torch.linspace(-1, 1, 64).reshape(32, 2)
    data = TensorDataset(inputs, (inputs[:, 0] > 0).long())
    given = {
        "model": nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)),
        "train": data,
        "val": data,
        "loss": nn.CrossEntropyLoss(),
        "optimizer": {"name": "sgd", "lr": 0.01},
        "batch_size": 8,
        "epochs": 3,
    }
    return {**given, **changes}


def scaled(factor: float) -> TensorDataset:
    inputs, targets = setup_with()["train"].tensors
    return TensorDataset(factor * inputs, targets)


def test_the_learning_rate_is_always_blamed() -> None:
    assert always(setup_with(), Watched()) == ["lr_too_high"]


def test_absolute_limits_are_silent_at_their_borders() -> None:
    assert absolute(setup_with(), Watched(train_skill=[0.5], val_skill=[0.55])) == []


@pytest.mark.parametrize(
    ("changes", "seen", "said"),
    [
        ({"train": scaled(1.1)}, Watched(), ["unnormalised_inputs"]),
        ({"optimizer": {"name": "adam", "lr": 0.02}}, Watched(), ["lr_too_high"]),
        ({"optimizer": {"name": "sgd", "lr": 1e-8}}, Watched(), ["lr_too_low"]),
        ({"model": nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.6), nn.ReLU(), nn.Linear(4, 2))}, Watched(), ["dropout_too_high"]),
        ({}, Watched(train_loss=[1.0, 0.9], val_loss=[1.0, 1.1]), ["overfitting"]),
        ({}, Watched(train_skill=[0.99], val_skill=[0.96]), ["data_leakage"]),
        ({"model": nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2))}, Watched(), ["missing_nonlinearity"]),
        ({"model": nn.Sequential(nn.Linear(2, 2), nn.Softmax(1))}, Watched(), ["softmax_before_ce"]),
    ],
)
def test_an_absolute_limit_that_is_passed_is_told(changes: dict[str, Any], seen: Watched, said: list[str]) -> None:
    assert absolute(setup_with(**changes), seen) == said


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (Watched(losses=[1.0, math.nan]), ["exploding_gradient"]),
        (Watched(losses=[1.0], first_norm=[71.0], last_norm=[1.0]), ["exploding_gradient"]),
        (Watched(losses=[1.0], first_norm=[9e-5], last_norm=[0.1]), ["vanishing_gradient"]),
        (Watched(losses=[1.0], zero_gradient=[0.7]), ["dead_relu"]),
        (Watched(losses=[1.0], val_skill=[0.4, 0.5, 0.4, 0.5]), ["lr_too_high"]),
        (Watched(losses=[1.0], val_skill=[0.3, 0.305, 0.309]), ["lr_too_low"]),
        (Watched(losses=[1.0], layer_output=10.0), ["unnormalised_inputs"]),
        (Watched(losses=[1.0], zero_gradient=[0.9], val_skill=[0.6]), []),
        (Watched(losses=[1.0], first_norm=[69.0], last_norm=[1.0], zero_gradient=[0.69], layer_output=9.9), []),
    ],
)
def test_symptoms_are_told_of_trainings_that_do_badly(seen: Watched, said: list[str]) -> None:
    assert symptoms(setup_with(), seen) == said


def test_a_pattern_is_told_by_its_first_cause() -> None:
    flat = Watched(losses=[1.0] * 40, val_loss=[1.0] * 10, train_loss=[1.0] * 10)
    assert patterns(setup_with(), flat) == ["lr_too_low"]
    assert patterns(setup_with(), Watched()) == []


def test_a_training_is_watched_epoch_by_epoch_and_leaves_the_model_alone() -> None:
    setup = setup_with()
    before = setup["model"][0].weight.clone()
    seen = watched(setup)
    assert len(seen.losses) == 12
    assert len(seen.val_loss) == len(seen.train_skill) == len(seen.zero_gradient) == 3
    assert len(seen.first_norm) == 12
    assert seen.layer_output > 0
    assert torch.equal(setup["model"][0].weight, before)


def test_a_step_that_fails_ends_the_watching() -> None:
    def broken(outputs: Tensor, targets: Tensor) -> Tensor:
        raise ValueError("as a user's loss may")

    assert watched(setup_with(loss=broken)).crashed


def test_every_rule_set_is_scored_on_the_same_case() -> None:
    case = Case("small", lambda seed: setup_with(), ("lr_too_high",), "accuracy", "made here")
    rows = rows_of_case(case)
    assert set(rows) == set(RULES)
    assert rows["always"].said == ("lr_too_high",)
    assert all(one.truth == ("lr_too_high",) for one in rows.values())


# Of two sick setups one is called sick, with its cause; the healthy one is called sick.
def test_the_table_shows_the_scores_of_each_rule_set() -> None:
    results = [
        Scored("a", ("x",), ("x",), 0.0, (), None, 1.0),
        Scored("b", ("x",), (), 0.0, (), None, 2.0),
        Scored("c", (), ("x",), 0.0, ("x",), None, 3.0),
    ]
    line = table({"rules": results}).splitlines()[1].split()
    assert line == ["rules", "0.500", "0.500", "0.500", "0.000", "1.000", "2.000", "3.000"]
