"""Dropout that a forward pass calls, as a module or as a function."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stepwell.core.modules.dropout import DropoutLayer
from stepwell.doctor.dropped import dropped_shares, with_less_dropout
from stepwell.doctor.rows import Rows
from stepwell.doctor.setup import Setup

ONES = torch.ones(1, 1000)


def _of(model: nn.Module) -> Setup:
    return Setup(model.train(), Rows(ONES, torch.zeros(1), 1), None, nn.MSELoss(), {"name": "sgd", "lr": 0.1}, 1, 1)


class _Called(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Dropout(0.3)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = functional.dropout(self.first(inputs), 0.8, self.training)
        inputs = functional.dropout(inputs, p=0.7, training=False)
        return functional.dropout1d(inputs[:, None], training=self.training)[:, 0]


def test_the_shares_of_modules_and_functions_are_seen_in_their_order() -> None:
    assert dropped_shares(_Called(), ONES) == [0.3, 0.8, 0.5]


def test_nothing_is_dropped_in_evaluation_mode() -> None:
    assert dropped_shares(_Called().eval(), ONES) == []


@pytest.mark.parametrize("how", ["by place", "by name"])
def test_no_dropout_drops_more_than_the_largest_share(how: str) -> None:
    class Heavy(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            if how == "by place":
                return functional.dropout(inputs, 0.9, self.training)
            return functional.dropout(inputs, training=self.training, p=0.9)

    lighter = with_less_dropout(_of(Heavy()), 0.2).model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outputs = lighter(ONES)
    # 800 of 1000 are kept, 4 standard deviations are 51; those that are, are divided by 0.8.
    assert 749 <= int((outputs > 0).sum()) <= 851
    assert outputs.max() == 1.25
    assert torch.equal(lighter.eval()(ONES), ONES)


def test_a_lighter_share_stays_as_it_is() -> None:
    assert dropped_shares(with_less_dropout(_of(nn.Dropout(0.1)), 0.2).model, ONES) == [0.1]


def test_layers_that_draw_their_own_masks_are_lowered_too_and_the_given_ones_stay() -> None:
    given = DropoutLayer(0.9)
    lighter = with_less_dropout(_of(given), 0.2).model
    assert (given.p, lighter.p) == (0.9, 0.2)
