"""Kaiming initialisation: torch's formulas and statistics, kept variance, derived draws."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.errors import JobError
from stepwell.core.modules.initial_weights import gain_of
from stepwell.core.randomness import Rng, seeded_defaults
from stepwell.techniques.model.kaiming_init import KaimingInit, kaiming_std


def test_the_paper_s_rectifier_variance_is_two_over_fan_in() -> None:
    assert kaiming_std(200) ** 2 == pytest.approx(2 / 200)


@pytest.mark.parametrize("nonlinearity", ["linear", "sigmoid", "tanh", "relu", "selu"])
def test_gains_are_torch_s(nonlinearity: Any) -> None:
    assert gain_of(nonlinearity) == pytest.approx(nn.init.calculate_gain(nonlinearity))


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.3])
def test_the_gain_of_a_leaky_rectifier_is_torch_s(slope: float) -> None:
    assert gain_of("leaky_relu", slope) == pytest.approx(nn.init.calculate_gain("leaky_relu", slope))


def test_gains_of_smooth_rectifiers_keep_the_second_moment() -> None:
    normal, step = NormalDist(), 0.001
    grid = [place * step for place in range(-10_000, 10_001)]

    def gain(function: Any) -> float:
        return 1 / math.sqrt(step * sum(function(z) ** 2 * normal.pdf(z) for z in grid))

    assert gain_of("gelu") == pytest.approx(gain(lambda z: z * normal.cdf(z)), rel=1e-9)
    assert gain_of("silu") == pytest.approx(gain(lambda z: z / (1 + math.exp(-z))), rel=1e-9)


@pytest.mark.parametrize(
    "layer", [nn.Linear(300, 200), nn.Conv1d(30, 60, 5), nn.Conv2d(16, 40, 5, groups=2), nn.Conv3d(8, 16, 3)]
)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_weights_spread_as_torch_s_and_biases_are_zero(layer: nn.Module, mode: Any, distribution: Any) -> None:
    reference = torch.empty_like(layer.weight)
    draw = nn.init.kaiming_normal_ if distribution == "normal" else nn.init.kaiming_uniform_
    draw(reference, a=0.2, mode=mode, nonlinearity="leaky_relu", generator=torch.Generator().manual_seed(0))
    KaimingInit(mode=mode, distribution=distribution, nonlinearity="leaky_relu", negative_slope=0.2)(layer, Rng(0))
    weight = layer.weight.detach()
    # Both are samples of several thousand: six standard errors of a standard deviation, 6 / sqrt(2 n).
    assert weight.std().item() == pytest.approx(reference.std().item(), rel=12 / math.sqrt(2 * weight.numel()))
    assert abs(weight.mean().item()) < 6 * weight.std().item() / math.sqrt(weight.numel())
    if distribution == "uniform":
        fan = nn.init._calculate_correct_fan(weight, mode)
        assert weight.abs().max().item() <= math.sqrt(3) * math.sqrt(2 / 1.04) / math.sqrt(fan)
    assert not layer.bias.any()


def test_thirty_rectifier_layers_keep_the_second_moment_that_torch_s_default_loses() -> None:
    def moment(model: nn.Module) -> float:
        value = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return model(value).square().mean().item()

    with seeded_defaults(0):
        plain = nn.Sequential(*(layer for _ in range(30) for layer in (nn.Linear(256, 256), nn.ReLU())))
    # torch's default has variance 1 / (3 * 256) for weights and biases alike: m -> (m + 1 / 256) / 6 at every layer,
    # which forgets the input and settles where only the biases speak, at 1 / (5 * 256).
    assert moment(plain) == pytest.approx(1 / (5 * 256), rel=0.3)
    # After a rectifier half of the second moment 2 * 1 is left, times a random walk over 30 layers.
    assert 0.1 < moment(KaimingInit()(plain, Rng(0))) < 10


def test_draws_depend_on_the_seed_and_on_nothing_else() -> None:
    torch.manual_seed(0)
    first = KaimingInit()(nn.Linear(9, 9), Rng(3)).weight.detach().clone()
    state = torch.get_rng_state()
    torch.manual_seed(1)
    second = KaimingInit()(nn.Linear(9, 9), Rng(3)).weight
    other = KaimingInit()(nn.Linear(9, 9), Rng(4)).weight
    torch.set_rng_state(state)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_global_generators_are_left_alone() -> None:
    model = nn.Linear(9, 9)
    state = torch.get_rng_state()
    KaimingInit()(model, Rng(3))
    assert torch.equal(state, torch.get_rng_state())


def test_a_wider_first_layer_does_not_change_the_second_s_draws() -> None:
    small = KaimingInit()(nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 5)), Rng(0))
    large = KaimingInit()(nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 5)), Rng(0))
    assert torch.equal(small[1].weight, large[1].weight)
    assert not torch.equal(small[1].weight[:, :3], small[0].weight)


def test_norms_embeddings_and_weights_tied_to_an_embedding_are_left_alone() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(7, 4), "norm": nn.LayerNorm(4), "head": nn.Linear(4, 7)})
    model["head"].weight = model["embedding"].weight
    before = model["embedding"].weight.detach().clone()
    KaimingInit()(model, Rng(0))
    assert torch.equal(model["embedding"].weight, before)
    assert torch.equal(model["norm"].weight, torch.ones(4))
    assert not model["head"].bias.any()


def test_a_layer_without_its_size_is_refused() -> None:
    with pytest.raises(JobError, match="LazyLinear"):
        KaimingInit()(nn.LazyLinear(3), Rng(0))


@pytest.mark.parametrize(
    "settings", [{"mode": "fan"}, {"distribution": "cauchy"}, {"nonlinearity": "relu6"}, {"negative_slope": -0.1}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(JobError, match=f"kaiming_init.{next(iter(settings))}"):
        KaimingInit(**settings)
