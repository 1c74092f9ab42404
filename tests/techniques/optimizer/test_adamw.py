"""AdamW against its algorithm by hand, and against torch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from stepwell.core.errors import JobError
from stepwell.techniques import AdamW, adamw_


def test_two_steps_follow_algorithm_2_of_the_paper() -> None:
    weight = torch.tensor([1.0], dtype=torch.float64)
    mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
    by_hand, m, v = 1.0, 0.0, 0.0
    for count, gradient in enumerate((0.5, -0.25), start=1):
        step = torch.tensor(float(count))
        adamw_(
            [weight],
            [torch.tensor([gradient], dtype=torch.float64)],
            [mean],
            [square],
            [step],
            lr=0.1,
            betas=(0.9, 0.99),
            eps=1e-8,
            weight_decay=0.1,
        )
        m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient**2
        corrected = (m / (1 - 0.9**count)) / (math.sqrt(v / (1 - 0.99**count)) + 1e-8)
        by_hand = by_hand * (1 - 0.1 * 0.1) - 0.1 * corrected
    assert float(weight) == pytest.approx(by_hand, abs=1e-14)
    assert (float(mean), float(square)) == pytest.approx((m, v), abs=1e-15)


def test_first_step_moves_each_weight_by_the_rate_whatever_the_gradient() -> None:
    layer = nn.Linear(2, 1, bias=False).double()
    before = layer.weight.detach().clone()
    optimizer = AdamW(layer.parameters(), lr=0.01, weight_decay=0.0)
    layer.weight.grad = torch.tensor([[1e-3, 400.0]], dtype=torch.float64)
    optimizer.step()
    torch.testing.assert_close(before - layer.weight.detach(), torch.full_like(before, 0.01), rtol=1e-4, atol=0.0)


def test_a_parameter_without_gradient_is_left_alone() -> None:
    layer = nn.Linear(2, 2)
    before = layer.bias.detach().clone()
    optimizer = AdamW(layer.parameters(), lr=0.1, weight_decay=0.5)
    layer.weight.grad = torch.ones_like(layer.weight)
    optimizer.step()
    assert torch.equal(before, layer.bias.detach())


@pytest.mark.parametrize(
    "settings", [{"lr": -1.0}, {"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"eps": 0.0}, {"weight_decay": -0.1}]
)
def test_values_outside_their_range_are_refused_by_name(settings: dict[str, object]) -> None:
    with pytest.raises(JobError, match=rf"adamw\.{next(iter(settings))}"):
        AdamW(**settings)  # type: ignore[arg-type]


def test_a_rate_of_0_leaves_the_weights_and_none_of_the_limits_is_refused() -> None:
    layer = nn.Linear(2, 1)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.ones_like(layer.weight)
    AdamW(layer.parameters(), lr=0.0, betas=(0.0, 0.0), weight_decay=0.0).step()
    assert torch.equal(before, layer.weight.detach())
