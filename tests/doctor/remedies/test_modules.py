"""Remedies that change the model."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from stepwell.doctor.remedies.modules import Rewired, along, drawn_anew, straight_through, then, untouched
from stepwell.doctor.rows import Rows
from stepwell.doctor.setup import Setup


class _Ends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.softmax(self.inner(inputs).relu(), 0)


def _setup(model: nn.Module) -> Setup:
    rows = Rows(torch.ones(8, 3), torch.zeros(8), 8)
    return Setup(model, rows, None, nn.MSELoss(), {"name": "sgd", "lr": 0.1}, 4, 1)


def test_calls_are_left_out_turned_and_followed() -> None:
    model, inputs = _Ends(), torch.randn(5, 3)
    plain = model.inner(inputs)
    left = Rewired(model, {("softmax", None): untouched, ("relu", 0): untouched})
    torch.testing.assert_close(left(inputs), plain)
    torch.testing.assert_close(Rewired(model, {("softmax", 0): along(1)})(inputs), plain.relu().softmax(1))
    torch.testing.assert_close(Rewired(model, {("softmax", 0): then(torch.neg)})(inputs), -plain.relu().softmax(0))


def test_a_rewired_model_can_be_copied_and_its_copy_has_weights_of_its_own() -> None:
    model = Rewired(_Ends(), {("softmax", 0): along(1)})
    twin = copy.deepcopy(model)
    nn.init.zeros_(twin.inner.inner.weight)
    assert bool(model.inner.inner.weight.any())
    assert len(list(twin.parameters())) == 2


def test_rounding_straight_through_keeps_its_values_and_has_a_gradient_of_1() -> None:
    given = torch.tensor([0.2, 1.7], requires_grad=True)
    rounded = straight_through(torch.round, (given,), {})
    assert rounded.tolist() == [0.0, 2.0]
    rounded.sum().backward()
    assert given.grad is not None
    assert given.grad.tolist() == [1.0, 1.0]


def test_weights_drawn_anew_lie_within_their_layers_bounds_and_the_given_model_stays() -> None:
    model = nn.Linear(100, 50)
    nn.init.constant_(model.weight, 7.0)
    state = torch.random.get_rng_state()
    weight = drawn_anew()(_setup(model)).model.weight
    assert isinstance(weight, Tensor)
    assert 0.05 < float(weight.detach().abs().max()) <= 0.1  # uniform within 1 / sqrt(100)
    assert bool((model.weight == 7.0).all())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_hes_rule_draws_a_variance_of_2_over_the_inputs() -> None:
    weight = drawn_anew(spread="he")(_setup(nn.Linear(200, 200))).model.weight
    assert isinstance(weight, Tensor)
    assert abs(float(weight.detach().var()) * 200 / 2 - 1) < 0.05  # 40,000 draws: five standard errors are 0.035
