"""Calls of a forward pass, and how far outputs can be brought."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stepwell.doctor.calls import calls_of, reach_of


class _Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.act = nn.Linear(3, 4), nn.ReLU()
        self.matrix = nn.Parameter(torch.ones(4, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.sigmoid(self.act(self.first(inputs)) @ self.matrix).detach()


def test_modules_and_functions_are_seen_in_their_order_and_weights_are_told() -> None:
    _, calls = calls_of(_Mixed(), torch.randn(5, 3))
    assert [call.name for call in calls] == ["linear", "relu", "matmul", "sigmoid", "detach"]
    assert [call.weighted for call in calls] == [True, False, True, False, False]


def test_a_handler_changes_one_call_of_a_name_and_leaves_the_others() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Linear(2, 2), nn.ReLU())

    def second(key, func, args, kwargs):  # type: ignore[no-untyped-def]
        return args[0] - 100 if key == ("relu", 1) else func(*args, **kwargs)

    outputs, _ = calls_of(model, torch.randn(4, 2), handler=second)
    assert bool((outputs < 0).all())


@pytest.mark.parametrize(
    ("end", "low", "high"),
    [
        (nn.Identity(), -float("inf"), float("inf")),
        (nn.ReLU(), 0.0, float("inf")),
        (nn.Sigmoid(), 0.0, 1.0),
        (nn.Tanh(), -1.0, 1.0),
        (nn.Softmax(1), 0.0, 1.0),
        (nn.Hardtanh(-3.0, 2.0), -3.0, 2.0),
    ],
)
def test_the_reach_of_outputs_is_that_of_the_activation_at_the_end(end: nn.Module, low: float, high: float) -> None:
    found = reach_of(nn.Sequential(nn.Linear(3, 2), end), torch.randn(20, 3))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high))


def test_a_head_of_zeros_and_a_weight_after_a_tanh_dont_hold_outputs_back() -> None:
    head = nn.Linear(3, 1)
    nn.init.zeros_(head.weight)
    for model in (head, nn.Sequential(nn.Tanh(), nn.Linear(3, 1))):
        found = reach_of(model, torch.randn(20, 3))
        assert found is not None
        assert (found.low, found.high) == (-float("inf"), float("inf"))


def test_weights_stay_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    before = [part.detach().clone() for part in model.parameters()]
    reach_of(model, torch.randn(20, 3))
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
