"""Activation variance through depth: measured on any model, and the theory of rectifier networks within stated bounds."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from torch import nn

from stepwell.core.errors import JobError
from stepwell.core.modules.activation_variance import (
    ActivationMoments,
    activation_variance,
    plain_network,
    predicted_moments,
    relative_spread,
    weight_stds,
)


def test_the_first_experiment_of_the_textbooks_ends_at_1_5e_32() -> None:
    last = predicted_moments(depth=20, width=512, std=0.01)[-1]
    assert last.second_moment == pytest.approx((512 * 1e-4 / 2) ** 20, rel=1e-12)
    assert f"{last.second_moment:.1e}" == "1.5e-32"
    assert last.variance == pytest.approx(last.second_moment * (1 - 1 / math.pi))
    assert not 1e-20 < last.second_moment < 1e-16  # a printed 1.2e-18 is fourteen orders of magnitude off


@pytest.mark.parametrize(("depth", "std"), [(8, 0.01), (8, math.sqrt(2 / 64)), (4, 1.0)])
def test_the_mean_over_networks_is_the_predicted_second_moment(depth: int, std: float) -> None:
    width, num_networks = 64, 200
    inputs = torch.randn(1, width, generator=torch.Generator().manual_seed(0)) * 3
    ends = torch.tensor(
        [
            activation_variance(plain_network(depth=depth, width=width, std=std, seed=seed), inputs)[-1].second_moment
            for seed in range(num_networks)
        ],
        dtype=torch.float64,
    )
    start = inputs.double().square().mean().item()
    predicted = predicted_moments(depth=depth, width=width, std=std, second_moment=start)[-1].second_moment
    # Each network strays by `relative_spread`; the mean of 200 by a fourteenth of it. Four standard errors.
    tolerance = 4 * relative_spread(depth=depth, width=width) / math.sqrt(num_networks)
    assert tolerance < 0.3
    assert ends.mean().item() == pytest.approx(predicted, rel=tolerance)


def test_single_networks_stray_as_far_as_predicted() -> None:
    depth, width = 2, 50
    inputs = torch.randn(1, width, generator=torch.Generator().manual_seed(0))
    std = math.sqrt(2 / width)
    ends = torch.tensor(
        [
            activation_variance(plain_network(depth=depth, width=width, std=std, seed=seed), inputs)[-1].second_moment
            for seed in range(400)
        ]
    )
    spread = (ends.std() / ends.mean()).item()
    assert relative_spread(depth=depth, width=width) == pytest.approx(math.sqrt(1.1**2 - 1))
    # A standard deviation from 400 draws of a skewed product: within a fifth.
    assert spread == pytest.approx(relative_spread(depth=depth, width=width), rel=0.2)


@pytest.mark.parametrize("activation", ["relu", "tanh", "linear"])
def test_every_layer_of_a_wide_network_has_the_predicted_variance(activation: Any) -> None:
    depth, width = 4, 600
    inputs = torch.randn(300, width, generator=torch.Generator().manual_seed(0))
    std = math.sqrt(2 / width)
    measured = activation_variance(plain_network(depth=depth, width=width, std=std, activation=activation), inputs)
    predicted = predicted_moments(depth=depth, width=width, std=std, activation=activation)
    # Tanh needs modules of torch.nn.modules.activation; the linear network has none and its layers are measured.
    assert len(measured) == len(predicted) == depth + 1
    for seen, expected in zip(measured[1:], predicted[1:], strict=True):
        # 5 / 600 a layer for rectifiers, 2 / 600 for linear ones, less for tanh: four standard errors of four layers.
        assert seen.second_moment == pytest.approx(expected.second_moment, rel=4 * math.sqrt(4 * 5 / width))
        assert seen.variance == pytest.approx(expected.variance, rel=4 * math.sqrt(4 * 5 / width))
        assert seen.mean == pytest.approx(expected.mean, abs=0.1)


def test_a_saturating_layer_has_the_moment_of_its_integral() -> None:
    # E[tanh(z)^2] of a standard normal z, by an adaptive quadrature.
    expected, _ = quad(lambda z: math.tanh(z) ** 2 * NormalDist().pdf(z), -12, 12, epsabs=1e-13)
    assert predicted_moments(depth=1, width=100, std=0.1, activation="tanh")[1].second_moment == pytest.approx(
        expected, rel=1e-11
    )


def test_a_linear_network_multiplies_the_moment_by_width_times_variance() -> None:
    assert [row.second_moment for row in predicted_moments(depth=3, width=50, std=0.2, activation="linear")] == pytest.approx(
        [1, 2, 4, 8]
    )


def test_the_standard_deviations_compared_are_those_of_the_schemes() -> None:
    stds = weight_stds(300)
    torch.manual_seed(0)
    assert stds["torch's default"] == pytest.approx(nn.Linear(300, 300).weight.std().item(), rel=0.02)
    weight = torch.empty(300, 300)
    assert stds["He"] == pytest.approx(nn.init.kaiming_normal_(weight, nonlinearity="relu").std().item(), rel=0.02)
    assert stds["Xavier"] == pytest.approx(nn.init.xavier_normal_(weight).std().item(), rel=0.02)
    assert (stds["too small"], stds["too large"]) == (0.01, 1.0)


def test_moments_are_those_of_what_flows_and_places_are_named_in_order() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Sequential(nn.Tanh()))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
    rows = activation_variance(model, torch.tensor([[-3.0, 3.0], [1.0, 2.0]]))
    assert [row.name for row in rows] == ["inputs", "1", "2.0"]
    assert (rows[0].mean, rows[0].second_moment, rows[0].variance) == (0.75, 23 / 4, 23 / 4 - 0.5625)
    assert (rows[1].mean, rows[1].second_moment, rows[1].variance) == (1.5, 14 / 4, 14 / 4 - 2.25)


def test_without_activations_the_layers_are_measured() -> None:
    assert [row.name for row in activation_variance(nn.Sequential(nn.Linear(2, 2), nn.Flatten()), torch.ones(1, 2))] == [
        "inputs",
        "0",
    ]


def test_inputs_may_be_keywords_and_integers_have_no_size() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.act = nn.Embedding(3, 2), nn.ReLU()

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.act(self.embedding(tokens))

    tokens = torch.zeros(1, 2, dtype=torch.int64)
    assert [row.name for row in activation_variance(Tokens(), {"tokens": tokens})] == ["act"]
    assert [row.name for row in activation_variance(Tokens(), tokens)] == ["act"]


def test_measuring_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5)).train()
    before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    first, again = (activation_variance(model, torch.randn(8, 4, generator=torch.Generator().manual_seed(0))) for _ in range(2))
    assert first == again
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert not any(part._forward_hooks for part in model.modules())


def test_overflow_is_not_a_number_and_not_an_error() -> None:
    rows = activation_variance(plain_network(depth=60, width=64, std=10.0), torch.ones(2, 64))
    assert not math.isfinite(rows[-1].variance)


def test_a_network_is_a_function_of_its_seed_and_a_deeper_one_begins_with_the_same_layers() -> None:
    short, deep, other = (plain_network(depth=d, width=4, std=1.0, seed=s) for d, s in ((1, 0), (2, 0), (1, 1)))
    assert torch.equal(short[0].weight, deep[0].weight)
    assert not torch.equal(short[0].weight, other[0].weight)
    assert not torch.equal(deep[0].weight, deep[2].weight)


def test_variance_is_the_second_moment_less_the_mean_squared() -> None:
    assert ActivationMoments("x", 2.0, 5.0).variance == 1.0


def test_unknown_activations_empty_networks_and_models_without_modules_are_refused() -> None:
    with pytest.raises(JobError, match="activation is 'gelu'"):
        plain_network(depth=1, width=1, std=1.0, activation="gelu")
    with pytest.raises(JobError, match="activation is 'gelu'"):
        predicted_moments(depth=1, width=1, std=1.0, activation="gelu")
    for depth, width in ((0, 1), (1, 0)):
        with pytest.raises(JobError, match="depth, width is"):
            plain_network(depth=depth, width=width, std=1.0)
    with pytest.raises(JobError, match="no activation and no layer"):
        activation_variance(nn.Identity(), torch.ones(1))
