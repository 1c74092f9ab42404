"""Gradients that no single row can dominate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stepwell.doctor.remedies.tamed import Tamed, tamed
from stepwell.doctor.rows import Rows
from stepwell.doctor.setup import Setup


def _gradient(weights: Tensor) -> Tensor:
    """Of a loss whose gradient is `weights`, tamed."""
    outputs = torch.zeros_like(weights, requires_grad=True)
    Tamed(lambda given, targets: (given * weights).sum())(outputs, None).backward()
    assert outputs.grad is not None
    return outputs.grad


def test_a_row_has_at_most_three_times_the_gradient_of_the_median_row() -> None:
    weights = torch.tensor([[1.0, 0.0], [0.0, -1.0], [1.0, 0.0], [60.0, 80.0], [0.0, 2.5]])
    expected = weights.clone()
    expected[3] = torch.tensor([1.8, 2.4])  # of norm 100 brought to 3
    torch.testing.assert_close(_gradient(weights), expected)


def test_rows_that_the_loss_lets_off_do_not_silence_the_others() -> None:
    weights = torch.tensor([[0.0], [0.0], [0.0], [2.0], [3.0]])
    torch.testing.assert_close(_gradient(weights), weights)
    assert _gradient(torch.zeros(3, 1)).eq(0).all()


def test_the_value_of_the_loss_and_the_given_setup_stay() -> None:
    rows = Rows(torch.zeros(4, 1), torch.zeros(4, 1), 4)
    setup = Setup(nn.Linear(1, 1), rows, None, nn.MSELoss(), {"name": "sgd", "lr": 0.1}, 4, 1)
    mended = tamed(setup)
    outputs = torch.tensor([[1.0], [3.0]], requires_grad=True)
    assert float(mended.loss(outputs, torch.zeros(2, 1)).detach()) == 5.0
    assert isinstance(setup.loss, nn.MSELoss)
    assert mended.model is setup.model
