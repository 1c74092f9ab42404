"""Clipping against torch's clip_grad_norm_, bit for bit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.updates.gradients import Gradients
from stepwell.techniques.grad.clip_norm import ClipNorm, clip_norm_


def twins(scale: float, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], list[Tensor]]:
    """Two equal sets of parameters with equal gradients, and one parameter without."""
    draw = torch.Generator().manual_seed(3)
    sets: tuple[list[Tensor], list[Tensor]] = ([], [])
    for shape in [(7, 5), (5,), (3, 4, 2), (1,)]:
        gradient = torch.randn(shape, generator=draw, dtype=dtype) * scale
        for parameters in sets:
            parameter = nn.Parameter(torch.zeros(shape, dtype=dtype))
            parameter.grad = gradient.clone()
            parameters.append(parameter)
    for parameters in sets:
        parameters.append(nn.Parameter(torch.zeros(3, dtype=dtype)))
    return sets


@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 300.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_and_norm_have_the_bits_of_torch(scale: float, dtype: torch.dtype) -> None:
    ours, theirs = twins(scale, dtype)
    norm = clip_norm_(ours, max_norm=0.7)
    assert torch.equal(norm, nn.utils.clip_grad_norm_(theirs, 0.7))
    for mine, other in zip(ours[:-1], theirs[:-1]):
        assert torch.equal(mine.grad, other.grad)  # type: ignore[arg-type]
    assert ours[-1].grad is None


def test_one_flat_span_gives_the_bits_of_torch_on_one_flat_tensor() -> None:
    ours, _ = twins(5.0)
    flat = torch.cat([p.grad.flatten() for p in ours if p.grad is not None])
    oracle = nn.Parameter(torch.zeros_like(flat))
    oracle.grad = flat.clone()
    start = 0
    for parameter in ours[:-1]:
        parameter.grad = flat[start : start + parameter.numel()].view(parameter.shape)
        start += parameter.numel()
    measured = ClipNorm(max_norm=1.0)(Gradients(ours[:-1], [flat]))
    assert torch.equal(measured["grad_norm"], nn.utils.clip_grad_norm_([oracle], 1.0))
    assert torch.equal(torch.cat([p.grad.flatten() for p in ours if p.grad is not None]), oracle.grad)


def test_a_gradient_of_length_five_is_cut_to_one_as_by_hand() -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    measured = ClipNorm(max_norm=1.0)([weight])
    assert measured["grad_norm"].item() == 5.0
    assert measured["clipped"].item() == 1.0
    torch.testing.assert_close(weight.grad, torch.tensor([0.6, 0.8]), rtol=1e-6, atol=0)


def test_a_gradient_within_the_limit_keeps_its_bits() -> None:
    ours, theirs = twins(1e-3)
    measured = ClipNorm(max_norm=1.0)(ours)
    assert measured["clipped"].item() == 0.0
    for mine, other in zip(ours[:-1], theirs[:-1]):
        assert torch.equal(mine.grad, other.grad)  # type: ignore[arg-type]


def test_a_gradient_of_exactly_the_limit_is_not_counted_as_clipped() -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    assert ClipNorm(max_norm=5.0)([weight])["clipped"].item() == 0.0


def test_an_infinite_limit_only_measures() -> None:
    ours, theirs = twins(300.0)
    measured = ClipNorm(max_norm=math.inf)(ours)
    assert measured["clipped"].item() == 0.0
    assert torch.equal(ours[0].grad, theirs[0].grad)  # type: ignore[arg-type]


def test_no_gradient_at_all_measures_zero() -> None:
    measured = ClipNorm()([nn.Parameter(torch.zeros(2))])
    assert [measured["grad_norm"].item(), measured["clipped"].item()] == [0.0, 0.0]


def test_a_norm_measured_after_clipping_is_the_new_one() -> None:
    ours, _ = twins(5.0, torch.float64)
    gradients = Gradients.of(ours)
    clip_norm_(gradients, max_norm=0.25)
    assert gradients.norm().item() == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize("max_norm", [0.0, -1.0, math.nan])
def test_a_limit_that_is_not_positive_is_refused(max_norm: float) -> None:
    with pytest.raises(JobError, match=r"clip_norm\.max_norm"):
        ClipNorm(max_norm=max_norm)
