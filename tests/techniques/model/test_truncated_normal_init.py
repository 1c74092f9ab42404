"""Truncated normal initialisation: the distribution of torch's trunc_normal_ and of the textbook."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.techniques.model.truncated_normal_init import TruncatedNormalInit, truncated_normal_

NUM = 40_000


def draws(std: float, cut: float) -> torch.Tensor:
    return truncated_normal_(torch.empty(NUM, dtype=torch.float64), std, cut, torch.Generator().manual_seed(0))


def furthest(left: torch.Tensor, right: torch.Tensor) -> float:
    """Kolmogorov and Smirnov's distance of two samples."""
    every = torch.cat([left, right]).sort().values
    shares = [torch.searchsorted(sample.sort().values, every, right=True) / len(sample) for sample in (left, right)]
    return (shares[0] - shares[1]).abs().max().item()


@pytest.mark.parametrize(("std", "cut"), [(0.02, 2.0), (1.0, 1.0), (3.0, 0.5), (0.5, 4.0)])
def test_it_is_distributed_as_torch_s(std: float, cut: float) -> None:
    reference = torch.empty(NUM, dtype=torch.float64)
    nn.init.trunc_normal_(reference, 0.0, std, -cut * std, cut * std, generator=torch.Generator().manual_seed(1))
    # The distance of two samples of n has 99.9 % quantile 1.95 sqrt(2 / n).
    assert furthest(draws(std, cut), reference) < 1.95 * math.sqrt(2 / NUM)


@pytest.mark.parametrize("cut", [0.5, 1.0, 2.0, 3.0])
def test_its_variance_is_the_textbook_s(cut: float) -> None:
    # Var = 1 - 2 c phi(c) / (2 Phi(c) - 1); at the usual cut the standard deviation is 0.8796 of what was asked for.
    normal = NormalDist()
    variance = 1 - 2 * cut * normal.pdf(cut) / (2 * normal.cdf(cut) - 1)
    assert draws(1.0, cut).var().item() == pytest.approx(variance, rel=6 * math.sqrt(2 / NUM))
    if cut == 2.0:
        assert math.sqrt(variance) == pytest.approx(0.8796, abs=1e-4)


def test_nothing_lies_beyond_the_cut_and_something_close_to_it() -> None:
    values = draws(0.02, 2.0)
    assert 0.0399 < values.max().item() <= 0.04
    assert -0.04 <= values.min().item() < -0.0399


def test_a_wide_cut_is_a_normal_distribution() -> None:
    values = draws(1.0, 8.0)
    assert values.isfinite().all()
    assert values.pow(4).mean().item() == pytest.approx(3.0, rel=6 * math.sqrt(96 / 9 / NUM))


def test_the_defaults_are_a_deviation_of_0_02_cut_at_twice_that() -> None:
    weight = TruncatedNormalInit()(nn.Linear(200, 200), Rng(0)).weight.detach()
    assert weight.abs().max().item() == pytest.approx(0.04, rel=1e-2)
    assert weight.abs().max().item() <= 0.04
    assert weight.std().item() == pytest.approx(0.8796 * 0.02, rel=6 / math.sqrt(2 * 40_000))


def test_settings_reach_the_weights_and_biases_are_zero() -> None:
    layer = TruncatedNormalInit(std=1.0, cut=0.5)(nn.Conv2d(8, 16, 3), Rng(0))
    assert 0.49 < layer.weight.abs().max().item() <= 0.5
    assert not layer.bias.any()


@pytest.mark.parametrize("settings", [{"std": 0.0}, {"std": -1.0}, {"std": math.inf}, {"cut": 0.0}, {"cut": 8.1}, {"cut": -2.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(JobError, match=f"truncated_normal_init.{next(iter(settings))} is"):
        TruncatedNormalInit(**settings)


def test_a_cut_at_eight_deviations_is_allowed() -> None:
    assert TruncatedNormalInit(cut=8.0).cut == 8.0
