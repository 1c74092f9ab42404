"""Clipping by value against torch's clip_grad_value_, bit for bit, and what it measures by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.updates.gradients import Gradients
from stepwell.techniques.grad.clip_value import ClipValue, clip_value_


def parameters(*gradients: list[float] | None) -> list[nn.Parameter]:
    made = []
    for gradient in gradients:
        parameter = nn.Parameter(torch.zeros(1 if gradient is None else len(gradient)))
        parameter.grad = None if gradient is None else torch.tensor(gradient)
        made.append(parameter)
    return made


def values(made: list[nn.Parameter]) -> list[list[float] | None]:
    return [None if parameter.grad is None else parameter.grad.tolist() for parameter in made]


def test_every_number_is_cut_on_both_sides_and_those_at_the_limit_are_inside() -> None:
    made = parameters([3.0, -0.5, 0.5], None, [-4.0, 0.25])
    measured = ClipValue(max_value=0.5)(made)
    assert values(made) == [[0.5, -0.5, 0.5], None, [-0.5, 0.25]]
    assert measured["clipped"].item() == pytest.approx(2 / 5)
    assert measured["grad_norm"].item() == pytest.approx(math.sqrt(9 + 0.25 + 0.25 + 16 + 0.0625))


@pytest.mark.parametrize("limit", [0.01, 0.5, 10.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradients_have_the_bits_of_torch(limit: float, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(3)
    sets: tuple[list[Tensor], list[Tensor]] = ([], [])
    for shape in [(7, 5), (5,), (3, 4, 2), ()]:
        gradient = torch.randn(shape, generator=draw).to(dtype)
        for one in sets:
            parameter = nn.Parameter(torch.zeros(shape, dtype=dtype))
            parameter.grad = gradient.clone()
            one.append(parameter)
    clip_value_(sets[0], max_value=limit)
    nn.utils.clip_grad_value_(sets[1], limit)
    assert all(torch.equal(mine.grad, other.grad) for mine, other in zip(*sets))  # type: ignore[arg-type]


def test_one_flat_span_is_cut_like_the_tensors_in_it() -> None:
    made = parameters([3.0, -0.1], [-2.0])
    flat = torch.tensor([3.0, -0.1, -2.0])
    made[0].grad, made[1].grad = flat[:2], flat[2:]
    gradients = Gradients(made, [flat])
    assert gradients.norm().item() > 3
    assert clip_value_(gradients, max_value=1.0).item() == pytest.approx(2 / 3)
    assert values(made) == [pytest.approx([1.0, -0.1]), [-1.0]]
    # The norm is measured anew: it was read before the cut.
    assert gradients.norm().item() == pytest.approx(math.sqrt(2.01))


def test_an_infinite_limit_only_measures() -> None:
    made = parameters([1e30, -1e30])
    assert ClipValue(max_value=math.inf)(made)["clipped"].item() == 0
    assert made[0].grad is not None
    assert made[0].grad.tolist() == torch.tensor([1e30, -1e30]).tolist()


def test_no_gradient_at_all_measures_zero() -> None:
    measured = ClipValue()(parameters(None))
    assert [measured["grad_norm"].item(), measured["clipped"].item()] == [0.0, 0.0]


def test_the_default_limit_is_one_half() -> None:
    assert ClipValue().max_value == 0.5


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan])
def test_a_limit_that_is_not_positive_is_refused(limit: float) -> None:
    with pytest.raises(JobError, match=r"^clip_value\.max_value is"):
        ClipValue(max_value=limit)


def test_any_positive_limit_is_taken() -> None:
    assert ClipValue(max_value=1e-30).max_value == 1e-30
