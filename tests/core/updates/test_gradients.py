"""Gradients as the grad slot sees them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.updates.gradients import Gradients


def parameters() -> list[Tensor]:
    first, second, frozen = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1, 2)), nn.Parameter(torch.zeros(3))
    first.grad, second.grad = torch.tensor([1.0, 2.0]), torch.tensor([[2.0, 4.0]])
    return [first, frozen, second]


def test_parameters_without_a_gradient_are_left_out() -> None:
    chosen = parameters()
    assert [id(p) for p in Gradients.of(chosen)] == [id(chosen[0]), id(chosen[2])]


def test_a_generator_is_taken_once_and_gradients_pass_through() -> None:
    gradients = Gradients.of(p for p in parameters())
    assert len(gradients.tensors) == 2
    assert Gradients.of(gradients) is gradients


def test_the_norm_of_one_two_two_four_is_five() -> None:
    assert Gradients.of(parameters()).norm().item() == 5.0
    assert Gradients.of([]).norm().item() == 0.0


def test_scaling_reaches_every_gradient_by_number_and_by_tensor() -> None:
    chosen = parameters()
    gradients = Gradients.of(chosen)
    gradients.scale_(0.5)
    gradients.scale_(torch.tensor(4.0))
    assert [p.grad.flatten().tolist() for p in gradients if p.grad is not None] == [[2.0, 4.0], [4.0, 8.0]]


def test_scaling_flat_memory_scales_the_tensors_that_view_it() -> None:
    flat = torch.tensor([1.0, 2.0, 2.0, 4.0])
    chosen = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))]
    chosen[0].grad, chosen[1].grad = flat[:2], flat[2:]
    gradients = Gradients(chosen, [flat])
    gradients.scale_(3.0)
    assert flat.tolist() == [3.0, 6.0, 6.0, 12.0]
    assert gradients.norm().item() == 15.0


def test_scaling_nothing_is_no_error() -> None:
    Gradients.of([]).scale_(2.0)


def test_writing_to_gradients_directly_needs_a_word_before_the_next_norm() -> None:
    gradients = Gradients.of(parameters())
    assert gradients.norm().item() == 5.0
    gradients.tensors[0].zero_()
    gradients.changed()
    assert gradients.norm().item() == pytest.approx(20**0.5)
    gradients.scale_(2.0)
    assert gradients.norm().item() == pytest.approx(2 * 20**0.5)


@pytest.mark.parametrize("scale", [1e-3, 0.1999999, 0.2, 0.2000001, 30.0])
def test_clipping_has_the_bits_of_torch_on_both_sides_of_the_limit(scale: float) -> None:
    ours, theirs = parameters(), parameters()
    for parameter in [*ours, *theirs]:
        if parameter.grad is not None:
            parameter.grad.mul_(scale)
    assert torch.equal(Gradients.of(ours).clip_(1.0), nn.utils.clip_grad_norm_(theirs, 1.0))
    for mine, other in zip(Gradients.of(ours), Gradients.of(theirs)):
        assert torch.equal(mine.grad, other.grad)  # type: ignore[arg-type]
