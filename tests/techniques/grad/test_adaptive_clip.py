"""Adaptive gradient clipping: hand numbers, a loop over units as oracle (equation 3 of the paper)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.updates.gradients import Gradients
from stepwell.techniques.grad.adaptive_clip import AdaptiveClip, adaptive_clip_

SHAPES = [(4, 3), (4,), (3, 2, 2, 2), (), (5, 1)]


def draws(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parameters(scale: float = 1.0) -> list[nn.Parameter]:
    made = []
    for seed, shape in enumerate(SHAPES):
        parameter = nn.Parameter(draws(shape, seed))
        parameter.grad = draws(shape, 100 + seed) * scale
        made.append(parameter)
    with torch.no_grad():
        made[0][1] = 0.0  # a unit of zeros: its norm counts as eps
    return [*made, nn.Parameter(torch.ones(3))]


def by_loop(weight: Tensor, gradient: Tensor, clipping: float, eps: float) -> tuple[Tensor, list[bool]]:
    """One unit at a time, in plain numbers: the gradient, and which units were cut."""
    if weight.ndim < 2:
        made, cut = by_loop(weight.reshape(1, -1), gradient.reshape(1, -1), clipping, eps)
        return made.reshape(gradient.shape), cut
    rows, cuts = [], []
    for unit in range(weight.shape[0]):
        length = math.sqrt(sum(value**2 for value in gradient[unit].flatten().tolist()))
        limit = clipping * max(math.sqrt(sum(value**2 for value in weight[unit].flatten().tolist())), eps)
        rows.append(gradient[unit] * (limit / length) if length > limit else gradient[unit])
        cuts.append(length > limit)
    return torch.stack(rows), cuts


def test_three_rows_worked_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0]]))
    weight.grad = torch.tensor([[0.0, 1.0], [0.3, 0.4], [0.0, 1.0]])
    # Limits 0.1 * 5, 0.1 * 5 and 0.1 * eps: the first is halved, the second exactly at the limit, the third cut to 0.02.
    measured = AdaptiveClip(clipping=0.1, eps=0.2)([weight])
    torch.testing.assert_close(weight.grad, torch.tensor([[0.0, 0.5], [0.3, 0.4], [0.0, 0.02]]))
    assert measured["clipped"].item() == pytest.approx(2 / 3)
    assert measured["grad_norm"].item() == pytest.approx(math.sqrt(1 + 0.25 + 1))


@pytest.mark.parametrize(("clipping", "eps"), [(0.01, 1e-3), (0.5, 1e-3), (1.0, 2.0), (100.0, 1e-3)])
def test_every_unit_is_cut_as_in_a_loop(clipping: float, eps: float) -> None:
    made = parameters()
    expected = [by_loop(p.detach(), p.grad, clipping, eps) for p in made if p.grad is not None]
    measured = AdaptiveClip(clipping=clipping, eps=eps)(made)
    for parameter, (gradient, _) in zip(made, expected):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=0)
    cuts = [cut for _, some in expected for cut in some]
    assert measured["clipped"].item() == pytest.approx(sum(cuts) / len(cuts))
    assert made[-1].grad is None


def test_a_bias_is_one_unit() -> None:
    bias = nn.Parameter(torch.tensor([3.0, 4.0]))
    bias.grad = torch.tensor([6.0, 8.0])
    assert adaptive_clip_([bias], clipping=0.5).item() == 1.0
    torch.testing.assert_close(bias.grad, torch.tensor([1.5, 2.0]))


def test_short_gradients_keep_their_bits() -> None:
    made, before = parameters(1e-9), parameters(1e-9)
    assert AdaptiveClip()(made)["clipped"].item() == 0
    assert all(torch.equal(mine.grad, other.grad) for mine, other in zip(made[:-1], before))  # type: ignore[arg-type]


def test_an_infinite_limit_only_measures() -> None:
    made, before = parameters(1e9), parameters(1e9)
    assert AdaptiveClip(clipping=math.inf)(made)["clipped"].item() == 0
    assert all(torch.equal(mine.grad, other.grad) for mine, other in zip(made[:-1], before))  # type: ignore[arg-type]


def test_gradients_of_zero_stay_zero() -> None:
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.zeros(2, 2)
    assert AdaptiveClip()([weight])["clipped"].item() == 0
    assert weight.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_the_norm_is_measured_anew_afterwards() -> None:
    gradients = Gradients.of(parameters())
    before = gradients.norm().item()
    adaptive_clip_(gradients)
    assert gradients.norm().item() < before / 10


def test_the_function_has_the_paper_s_defaults() -> None:
    one, other = parameters(), parameters()
    adaptive_clip_(one)
    AdaptiveClip()(other)
    assert AdaptiveClip() == AdaptiveClip(clipping=0.01, eps=1e-3)
    assert all(torch.equal(mine.grad, theirs.grad) for mine, theirs in zip(one[:-1], other))  # type: ignore[arg-type]


def test_no_gradient_at_all_measures_zero() -> None:
    measured = AdaptiveClip()([nn.Parameter(torch.zeros(2))])
    assert [measured["grad_norm"].item(), measured["clipped"].item()] == [0.0, 0.0]


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
@pytest.mark.parametrize("name", ["clipping", "eps"])
def test_a_setting_that_is_not_positive_is_refused(name: str, value: float) -> None:
    with pytest.raises(JobError, match=rf"^adaptive_clip\.{name} is"):
        AdaptiveClip(**{name: value})
