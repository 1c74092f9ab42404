"""Frozen norm statistics: what batch norm has averaged stands still, everything else trains."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.clock import Clock
from stepwell.core.errors import JobError
from stepwell.core.modules.freezing import moves
from stepwell.core.randomness import Rng
from stepwell.techniques.model.freeze import Freeze
from stepwell.techniques.model.frozen_norm_statistics import FrozenNormStatistics, hold_statistics
from stepwell.techniques.model.unfreezing import Unfreezing


def net() -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))


def trained(model: nn.Module, steps: int = 2) -> nn.Module:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        model.train()
        optimizer.zero_grad()
        model(torch.randn(8, 3, generator=torch.Generator().manual_seed(step)) + 3).square().sum().backward()
        optimizer.step()
    return model


def statistics(model: nn.Module) -> dict[str, Any]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def moved(model: nn.Module, before: dict[str, Any]) -> list[str]:
    return [name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])]


def test_no_statistic_moves_and_every_weight_trains() -> None:
    model = FrozenNormStatistics()(net(), Rng(0))
    before, weights = statistics(model), copy.deepcopy(list(model.parameters()))
    trained(model)
    assert moved(model, before) == []
    assert not any(torch.equal(*pair) for pair in zip(weights, model.parameters(), strict=True))


def test_a_sample_does_not_see_the_others_of_its_batch() -> None:
    model = FrozenNormStatistics()(net(), Rng(0)).train()
    batch = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(batch)[:1], model(batch[:1]))


def test_patterns_choose_and_a_module_covers_what_is_inside() -> None:
    model = FrozenNormStatistics(patterns=["0"])(net(), Rng(0))
    before = statistics(model)
    trained(model)
    assert moved(model, before) == ["1.1.running_mean", "1.1.running_var", "1.1.num_batches_tracked"]


def test_every_pattern_of_a_list_counts() -> None:
    model = nn.Sequential(*net(), nn.BatchNorm1d(4))
    FrozenNormStatistics(patterns=["2", "0", "1.1"])(model, Rng(0))
    assert [moves(model[2]), moves(model[0][1]), moves(model[1][1])] == [False, False, False]


def test_thawing_lets_go_of_weights_but_not_of_these_statistics() -> None:
    model, thaw = net(), Unfreezing(modules=["1", "0"], every="1 steps")
    thaw(model, Rng(0))
    FrozenNormStatistics()(model, Rng(0))
    before = statistics(model)
    for step in range(4):
        model.train()
        thaw.at(model, Clock(step), None)
        model(torch.randn(8, 3) + 3)
    assert moved(model, before) == []


def test_it_goes_with_freeze_and_survives_a_copy() -> None:
    model = copy.deepcopy(FrozenNormStatistics()(Freeze(patterns=["0"], norm_statistics="updated")(net(), Rng(0)), Rng(0)))
    before = statistics(model)
    trained(model)
    assert moved(model, before) == []


def test_the_state_has_no_more_names_than_before_and_the_norm_says_what_it_is() -> None:
    model = FrozenNormStatistics()(net(), Rng(0))
    assert list(model.state_dict()) == list(net().state_dict())
    assert [moves(part) for part in model.modules() if isinstance(part, nn.BatchNorm1d)] == [False] * 2
    assert [moves(part) for part in net().modules() if isinstance(part, nn.BatchNorm1d)] == [True] * 2


def test_a_norm_is_held_once_however_often_it_is_asked_for() -> None:
    norm = nn.BatchNorm1d(2)
    hold_statistics([norm, norm])
    assert len(norm._forward_pre_hooks) == 1


def test_a_model_that_is_a_batch_norm_is_held_itself() -> None:
    norm = FrozenNormStatistics()(nn.BatchNorm1d(2), Rng(0)).train()
    norm(torch.full((4, 2), 5.0))
    assert norm.running_mean.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.LayerNorm(2), nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False))])
def test_a_model_without_running_statistics_is_refused(model: nn.Module) -> None:
    with pytest.raises(JobError, match="frozen_norm_statistics found no batch norm with running statistics"):
        FrozenNormStatistics()(model, Rng(0))


def test_a_pattern_that_covers_no_batch_norm_is_refused_with_the_nearest() -> None:
    with pytest.raises(JobError, match=r"frozen_norm_statistics\.patterns has '0\.2', which covers no batch norm") as raised:
        FrozenNormStatistics(patterns=["0.2"])(net(), Rng(0))
    assert raised.value.fix == "Did you mean '0.1'? Known: 0.1, 1.1"
    with pytest.raises(JobError, match=r"'1\.0'"):
        FrozenNormStatistics(patterns=["0", "1.0"])(net(), Rng(0))


@pytest.mark.parametrize("patterns", [[], "0", [1]])
def test_patterns_must_be_a_list_of_names(patterns: Any) -> None:
    with pytest.raises(JobError, match=r"frozen_norm_statistics\.patterns is"):
        FrozenNormStatistics(patterns=patterns)
