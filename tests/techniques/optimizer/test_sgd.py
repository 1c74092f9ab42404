"""SGD against its formula by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stepwell.core.errors import JobError
from stepwell.techniques import Sgd, sgd_


@pytest.mark.parametrize("nesterov", [False, True])
def test_three_steps_follow_the_formula(nesterov: bool) -> None:
    weight, buffer = torch.tensor([1.0], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    w, b = 1.0, 0.0
    for count, gradient in enumerate((0.5, -0.2, 0.1)):
        sgd_(
            [weight],
            [torch.tensor([gradient], dtype=torch.float64)],
            [buffer],
            lr=0.1,
            momentum=0.9,
            weight_decay=0.01,
            nesterov=nesterov,
            first=count == 0,
        )
        g = gradient + 0.01 * w
        b = g if count == 0 else 0.9 * b + g
        w -= 0.1 * (g + 0.9 * b if nesterov else b)
    assert (float(weight), float(buffer)) == pytest.approx((w, b), abs=1e-15)


def test_dampening_gives_the_averaging_form_of_momentum_after_its_first_step() -> None:
    layer = nn.Linear(1, 1, bias=False).double()
    optimizer = Sgd(layer.parameters(), lr=0.1, momentum=0.9, dampening=0.9)
    average, weight = 0.0, float(layer.weight.detach())
    for count, gradient in enumerate((0.5, -0.2, 0.1)):
        layer.weight.grad = torch.tensor([[gradient]], dtype=torch.float64)
        optimizer.step()
        # torch starts the buffer with the whole first gradient; from then on v = 0.9 v + 0.1 g.
        average = gradient if count == 0 else 0.9 * average + 0.1 * gradient
        weight -= 0.1 * average
    assert float(layer.weight.detach()) == pytest.approx(weight, abs=1e-15)


def test_without_momentum_a_step_is_the_rate_times_the_gradient() -> None:
    layer = nn.Linear(1, 1, bias=False).double()
    before = float(layer.weight.detach())
    layer.weight.grad = torch.full((1, 1), 2.0, dtype=torch.float64)
    Sgd(layer.parameters(), lr=0.25, momentum=0.0).step()
    assert float(layer.weight.detach()) == pytest.approx(before - 0.5, abs=1e-15)


@pytest.mark.parametrize("settings", [{"lr": -0.1}, {"momentum": 1.0}, {"dampening": 1.5}, {"weight_decay": -1.0}])
def test_values_outside_their_range_are_refused_by_name(settings: dict[str, float]) -> None:
    with pytest.raises(JobError, match=rf"sgd\.{next(iter(settings))}"):
        Sgd(**settings)  # type: ignore[arg-type]


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(JobError, match=r"sgd\.nesterov"):
        Sgd(momentum=0.0, nesterov=True)


def test_a_rate_of_0_leaves_the_weights_and_none_of_the_limits_is_refused() -> None:
    layer = nn.Linear(2, 1)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.ones_like(layer.weight)
    Sgd(layer.parameters(), lr=0.0, momentum=0.0, dampening=1.0, weight_decay=0.0).step()
    assert torch.equal(before, layer.weight.detach())


def test_nesterov_with_dampening_is_refused_and_without_it_is_not() -> None:
    with pytest.raises(JobError, match=r"sgd\.nesterov"):
        Sgd(momentum=0.9, dampening=0.5, nesterov=True)
    assert Sgd(momentum=0.5, nesterov=True).nesterov
