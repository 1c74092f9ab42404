"""Freeze: what is named keeps its weights and batch-norm statistics, the rest is trained."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.techniques.model.freeze import Freeze, freeze_


def net() -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))


def train_a_step(model: nn.Module) -> dict[str, Tensor]:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)) + 3).square().sum().backward()
    optimizer.step()
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["0"], {"0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"}),
        (["*.bias"], {"0.0.bias", "0.1.bias", "1.0.bias", "1.1.bias"}),
        (["0.1", "1.0.weight"], {"0.1.weight", "0.1.bias", "1.0.weight"}),
    ],
)
def test_patterns_name_modules_or_parameters(patterns: list[str], expected: set[str]) -> None:
    model = net()
    assert set(freeze_(model, patterns)) == expected
    assert {name for name, parameter in model.named_parameters() if not parameter.requires_grad} == expected


def test_a_name_that_is_a_prefix_of_another_does_not_cover_it() -> None:
    model = nn.ModuleDict({"layer1": nn.Linear(2, 2), "layer10": nn.Linear(2, 2)})
    assert freeze_(model, ["layer1"]) == ["layer1.weight", "layer1.bias"]


def test_a_step_moves_the_rest_and_nothing_frozen_not_even_statistics() -> None:
    model = Freeze(patterns=["0"])(net(), Rng(0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    after = train_a_step(model)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        name for name in before if name.startswith("1.") and name != "1.0.bias"
    } | ({"1.0.bias"} if not torch.equal(before["1.0.bias"], after["1.0.bias"]) else set())


def test_statistics_can_go_on_averaging() -> None:
    model = Freeze(patterns=["0"], norm_statistics="updated")(net(), Rng(0))
    before = model.state_dict()["0.1.running_mean"].clone()
    assert not torch.equal(before, train_a_step(model)["0.1.running_mean"])


def test_frozen_norms_use_their_running_statistics_in_training_and_in_copies() -> None:
    model = copy.deepcopy(Freeze(patterns=["0"])(net(), Rng(0)))
    model.train()
    inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    linear, norm = model[0]
    expected = (linear(inputs) - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(model[0](inputs), expected)


def test_state_dict_keeps_its_names() -> None:
    assert list(Freeze(patterns=["0"])(net(), Rng(0)).state_dict()) == list(net().state_dict())


def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest_name() -> None:
    model = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    with pytest.raises(JobError, match="Did you mean 'backbone'"):
        Freeze(patterns=["backbon"])(model, Rng(0))


def test_freezing_everything_is_refused() -> None:
    with pytest.raises(JobError, match="something left to train"):
        Freeze(patterns=["*"])(net(), Rng(0))


@pytest.mark.parametrize(
    "settings", [{"patterns": []}, {"patterns": "0"}, {"patterns": [1]}, {"patterns": ["0"], "norm_statistics": "no"}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(JobError, match="freeze"):
        Freeze(**settings)


def test_a_parameter_that_unfreezing_decides_about_is_refused_in_either_order() -> None:
    from stepwell.techniques import Unfreezing

    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    Freeze(patterns=["0"])(model, Rng(0))
    Unfreezing(modules=["2", "1"])(model, Rng(0))
    with pytest.raises(JobError, match=r"freeze and unfreezing both decide when 0\.weight is trained"):
        Unfreezing(modules=["2", "0"])(model, Rng(0))
    with pytest.raises(JobError, match=r"unfreezing and freeze both decide when 1\.weight is trained"):
        Freeze(patterns=["1"])(model, Rng(0))


def test_a_second_run_of_the_same_model_may_decide_anew() -> None:
    from stepwell.engine.train_step import TrainStep
    from stepwell.techniques import CrossEntropy, Sgd, Unfreezing

    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    for technique in (Freeze(patterns=["0"]), Unfreezing(modules=["1", "0"], every="2 steps")):
        TrainStep(model, objective=CrossEntropy(), optimizer=Sgd(), techniques=[technique])
