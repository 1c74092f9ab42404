"""LeCun initialisation: variance 1 / fan_in, kept through linear layers and by SELU's fixed point."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.techniques.model.lecun_init import LecunInit, lecun_std


def test_the_variance_is_one_over_fan_in() -> None:
    assert lecun_std(200) ** 2 == pytest.approx(1 / 200)


@pytest.mark.parametrize("layer", [nn.Linear(300, 200), nn.Conv1d(30, 60, 5), nn.Conv2d(16, 40, 5, groups=2)])
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_weights_spread_as_torch_s_kaiming_of_a_linear_layer(layer: nn.Module, distribution: Any) -> None:
    reference = torch.empty_like(layer.weight)
    draw = nn.init.kaiming_normal_ if distribution == "normal" else nn.init.kaiming_uniform_
    draw(reference, nonlinearity="linear", generator=torch.Generator().manual_seed(0))
    weight = LecunInit(distribution=distribution)(layer, Rng(0)).weight.detach()
    # Two samples of several thousand: six standard errors of each standard deviation.
    assert weight.std().item() == pytest.approx(reference.std().item(), rel=12 / math.sqrt(2 * weight.numel()))
    assert not layer.bias.any()
    kurtosis = (weight / weight.std()).pow(4).mean().item()
    assert kurtosis == pytest.approx({"normal": 3.0, "uniform": 1.8}[distribution], abs=0.2)


def test_it_has_three_times_the_variance_of_torch_s_own_default() -> None:
    torch.manual_seed(0)
    default = nn.Linear(300, 300).weight.detach().var().item()
    assert LecunInit()(nn.Linear(300, 300), Rng(0)).weight.detach().var().item() == pytest.approx(3 * default, rel=0.05)


def test_thirty_selu_layers_keep_mean_0_and_variance_1() -> None:
    model = LecunInit()(nn.Sequential(*(part for _ in range(30) for part in (nn.Linear(400, 400), nn.SELU()))), Rng(0))
    with torch.no_grad():
        values = model(torch.randn(200, 400, generator=torch.Generator().manual_seed(0)))
    assert abs(values.mean().item()) < 0.1
    assert values.var().item() == pytest.approx(1.0, abs=0.2)


def test_the_default_is_normal_and_another_distribution_is_refused() -> None:
    assert LecunInit().distribution == "normal"
    with pytest.raises(JobError, match=r"lecun_init\.distribution is 'cauchy'"):
        LecunInit(distribution="cauchy")  # type: ignore[arg-type]
