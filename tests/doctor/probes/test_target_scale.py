"""Quantities far from what an untrained model gives."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, law, mlp, said, signs
from torch import nn

from stepwell.doctor.judge import helps

MSE = nn.MSELoss()


def test_prices_are_told_and_learnt_in_units_of_their_spread() -> None:
    inputs, targets = law(300)
    prices = targets * 90_000 + 240_000
    bench = bench_of(mlp(4, 16, 1), (inputs[:200], prices[:200]), (inputs[200:], prices[200:]), loss=MSE)
    (found,) = said("target_scale", bench)
    assert found.id == "unscaled_targets"
    assert found.evidence["mean"] == pytest.approx(float(prices[:200].mean()), rel=1e-4)
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    spread = prices[:200].std(correction=0)
    outputs = mended.model(inputs)
    torch.testing.assert_close(outputs, bench.setup.model(inputs) * spread + prices[:200].mean())
    torch.testing.assert_close(mended.loss(outputs, prices), MSE(outputs / spread, prices / spread), rtol=1e-3, atol=0)
    assert mended.val is bench.setup.val
    assert helps(bench.tried(mended))


def test_targets_of_size_one_and_a_bias_that_starts_at_their_mean_are_no_matter() -> None:
    inputs, targets = law()
    assert ids("target_scale", bench_of(mlp(4, 8, 1), (inputs, targets), loss=MSE)) == []
    fitted = mlp(4, 8, 1)
    nn.init.constant_(list(fitted.parameters())[-1], 300.0)
    assert ids("target_scale", bench_of(fitted, (inputs, targets + 300), loss=MSE)) == []
    assert ids("target_scale", bench_of(mlp(4, 8, 1), (inputs, targets + 300), loss=MSE)) == ["unscaled_targets"]


def test_outputs_that_lie_far_off_by_themselves_are_another_matter() -> None:
    wild = mlp(4, 8, 1)
    nn.init.constant_(list(wild.parameters())[-1], 300.0)
    assert ids("target_scale", bench_of(wild, law(), loss=MSE)) == []


def test_classes_and_losses_that_are_no_distance_are_left_alone() -> None:
    inputs, targets = law()
    assert ids("target_scale", bench_of(mlp(4, 8, 2), signs())) == []
    counts = (targets * 100).round().clamp(min=0)
    assert ids("target_scale", bench_of(mlp(4, 8, 1), (inputs, counts), loss=nn.PoissonNLLLoss())) == []
