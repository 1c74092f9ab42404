"""Orthogonal initialisation: torch's matrices, lengths kept, drawn evenly."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.errors import JobError
from stepwell.core.modules.orthogonal import orthogonal
from stepwell.core.randomness import Rng
from stepwell.techniques.model.orthogonal_init import OrthogonalInit, orthogonal_weight


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 2, 3, 3), (20, 2, 2), (1, 4)])
def test_from_the_same_normal_draws_come_torch_s_weights(shape: tuple[int, ...]) -> None:
    expected = nn.init.orthogonal_(torch.empty(shape, dtype=torch.float64), 1.5, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(orthogonal_weight(torch.Size(shape), 1.5, torch.Generator().manual_seed(3)), expected)


def test_directions_are_even_over_the_sphere_and_not_of_one_sign() -> None:
    # Without fixing the signs of R, LAPACK's first row would have a negative first entry far more often than not.
    draw = torch.Generator().manual_seed(0)
    entries = torch.stack([orthogonal(3, 3, draw)[0, 0] for _ in range(2000)])
    # A coordinate of a point on the sphere is uniform in (-1, 1): mean 0, variance 1/3; six standard errors.
    assert abs(entries.mean().item()) < 6 * math.sqrt(1 / 3 / 2000)
    assert entries.square().mean().item() == pytest.approx(1 / 3, abs=6 * math.sqrt(4 / 45 / 2000))


def test_the_length_of_every_vector_is_kept_through_fifty_layers() -> None:
    model = OrthogonalInit()(nn.Sequential(*(nn.Linear(16, 16).double() for _ in range(50))), Rng(0))
    vectors = torch.randn(8, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(model(vectors).norm(dim=1), vectors.norm(dim=1))


@pytest.mark.parametrize(
    ("settings", "gain"), [({}, 1.0), ({"nonlinearity": "relu"}, math.sqrt(2)), ({"nonlinearity": "tanh"}, 5 / 3)]
)
def test_the_activation_sets_the_gain(settings: dict[str, Any], gain: float) -> None:
    weight = OrthogonalInit(**settings)(nn.Linear(6, 6), Rng(0)).weight.detach()
    torch.testing.assert_close(weight @ weight.T, gain**2 * torch.eye(6), atol=1e-5, rtol=1e-5)


def test_the_negative_slope_counts_for_leaky_relu() -> None:
    weight = OrthogonalInit(nonlinearity="leaky_relu", negative_slope=1.0)(nn.Linear(6, 6), Rng(0)).weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(6), atol=1e-5, rtol=1e-5)


def test_convolutions_are_matrices_of_outputs_by_the_rest_and_16_bit_weights_can_be_drawn() -> None:
    layer = OrthogonalInit()(nn.Conv2d(2, 5, 3).bfloat16(), Rng(0))
    rows = layer.weight.detach().float().flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(5), atol=0.02, rtol=0)
    assert layer.weight.dtype == torch.bfloat16
    assert not layer.bias.any()


def test_draws_depend_on_the_seed() -> None:
    first, again, other = (OrthogonalInit()(nn.Linear(4, 4), Rng(seed)).weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("settings", [{"nonlinearity": "relu6"}, {"negative_slope": -0.1}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(JobError, match=f"orthogonal_init.{next(iter(settings))}"):
        OrthogonalInit(**settings)
