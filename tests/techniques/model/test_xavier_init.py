"""Xavier initialisation: the paper's bound, torch's statistics, derived draws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.techniques.model.xavier_init import XavierInit, xavier_std


def test_the_paper_s_variance_is_two_over_both_fans() -> None:
    assert xavier_std(300, 100) ** 2 == pytest.approx(2 / 400)


@pytest.mark.parametrize("layer", [nn.Linear(300, 200), nn.Conv2d(16, 40, 5)])
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("nonlinearity", ["linear", "tanh"])
def test_weights_spread_as_torch_s_and_biases_are_zero(layer: nn.Module, distribution: Any, nonlinearity: Any) -> None:
    reference = torch.empty_like(layer.weight)
    draw = nn.init.xavier_normal_ if distribution == "normal" else nn.init.xavier_uniform_
    draw(reference, gain=nn.init.calculate_gain(nonlinearity), generator=torch.Generator().manual_seed(0))
    XavierInit(distribution=distribution, nonlinearity=nonlinearity)(layer, Rng(0))
    weight = layer.weight.detach()
    # Twelve standard errors of a standard deviation over two samples of this size.
    assert weight.std().item() == pytest.approx(reference.std().item(), rel=12 / math.sqrt(2 * weight.numel()))
    assert not layer.bias.any()


def test_uniform_draws_fill_the_paper_s_interval_and_stay_in_it() -> None:
    weight = XavierInit()(nn.Linear(300, 200), Rng(0)).weight.detach()
    bound = math.sqrt(6 / 500)
    assert 0.999 * bound < weight.abs().max().item() <= bound


def test_the_same_seed_gives_the_same_weights_and_another_gives_others() -> None:
    first, second, other = (XavierInit()(nn.Linear(9, 9), Rng(seed)).weight for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("settings", [{"distribution": "cauchy"}, {"nonlinearity": "relu6"}, {"negative_slope": -0.1}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(JobError, match=f"xavier_init.{next(iter(settings))}"):
        XavierInit(**settings)
