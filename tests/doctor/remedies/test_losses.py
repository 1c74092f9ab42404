"""Remedies that change the loss."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from stepwell.doctor.remedies.losses import Between, Entropy, Given, Log, Negated, PerRow, Reshaped, Squares, YesOrNo


def test_reshaped_pairs_a_column_with_a_line() -> None:
    loss = Reshaped(nn.MSELoss())(torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0]))
    assert float(loss) == 2.5  # (1 + 4) / 2


def test_entropy_takes_columns_of_floats_places_and_shares() -> None:
    scores = torch.zeros(2, 4)
    assert float(Entropy()(scores, torch.tensor([[0.0], [3.0]]))) == pytest.approx(math.log(4))
    assert float(Entropy(1)(torch.zeros(2, 4, 5), torch.zeros(2, 5))) == pytest.approx(math.log(4))
    assert float(Entropy(one_hot=True)(scores, torch.eye(4)[:2])) == pytest.approx(math.log(4))


def test_yes_or_no_takes_whole_labels_as_scores_or_chances() -> None:
    labels = torch.tensor([1, 0])
    assert float(YesOrNo()(torch.zeros(2, 1), labels)) == pytest.approx(math.log(2))
    assert float(YesOrNo(chances=True)(torch.full((2, 1), 0.5), labels)) == pytest.approx(math.log(2))


def test_signs_sizes_and_bounds() -> None:
    outputs, targets = torch.tensor([[3.0], [5.0]]), torch.zeros(2, 1)
    assert float(Negated(nn.MSELoss())(outputs, targets)) == -17.0  # (9 + 25) / 2
    assert float(PerRow(nn.MSELoss(reduction="sum"), 1)(outputs, targets)) == 17.0
    assert float(Given(nn.MSELoss(), Between(-4.0, 4.0))(outputs, targets)) == 12.5  # (9 + 16) / 2
    assert float(Squares()(outputs, torch.tensor([3, 4]))) == 0.5


def test_the_logarithm_of_a_chance_of_0_is_finite() -> None:
    assert float(Log()(torch.tensor(0.0))) == pytest.approx(math.log(1.17549435e-38), rel=1e-4)


def test_all_of_them_can_be_copied() -> None:
    for loss in (Reshaped(nn.MSELoss()), Entropy(), YesOrNo(), Given(nn.MSELoss(), Log()), PerRow(nn.MSELoss(), 2)):
        copy.deepcopy(loss)
