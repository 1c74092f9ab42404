"""Distances and how a model is called on the members of a group."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.objectives.embeddings import distances, embed, embeddings


def test_a_distance_is_the_root_of_the_squares() -> None:
    left, right = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    torch.testing.assert_close(distances(left, right), torch.tensor([5.0, 1.0]))


def test_two_equal_rows_are_a_millionth_apart_with_a_gradient_of_zero() -> None:
    left = torch.ones(1, 3, requires_grad=True)
    distance = distances(left, torch.ones(1, 3))
    distance.sum().backward()
    assert distance.item() == pytest.approx(1e-6, rel=1e-5)
    assert left.grad is not None
    assert left.grad.abs().max() == 0


def test_half_precision_outputs_become_single() -> None:
    parts = embeddings((torch.ones(2, 3, dtype=torch.bfloat16),) * 2, ("left", "right"), "contrastive")
    assert [part.dtype for part in parts] == [torch.float32] * 2


def test_members_of_several_inputs_are_stacked_input_by_input() -> None:
    class Two(nn.Module):
        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return first * second

    inputs = ((torch.ones(2, 3), torch.full((2, 3), 2.0)), (torch.full((2, 3), 3.0), torch.ones(2, 3)))
    left, right = embed(Two(), inputs, ("left", "right"), takes="one", name="contrastive")
    assert (left.unique().item(), right.unique().item()) == (2.0, 3.0)
