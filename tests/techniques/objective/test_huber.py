"""Huber's loss: hand numbers on both sides of delta, torch as oracle, the formula of the paper."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError, JobError
from stepwell.techniques.objective.huber import Huber, huber_sum


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_formula(errors: Tensor, delta: float) -> Tensor:
    size = errors.abs()
    return torch.where(size < delta, size * size / 2, delta * (size - delta / 2))


@pytest.mark.parametrize(("error", "loss"), [(1.0, 0.5), (2.0, 2.0), (2.5, 3.0), (-4.0, 6.0), (0.0, 0.0)])
def test_errors_inside_at_and_outside_of_delta_two_by_hand(error: float, loss: float) -> None:
    batch = Batch(torch.zeros(1), torch.zeros(1))
    term = Huber(delta=2.0).terms(torch.tensor([error]), batch)["huber"]
    assert (term.sum.item(), term.unit, term.weight) == (loss, "values", 1.0)


@pytest.mark.parametrize("delta", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("shape", [(9,), (9, 1), (9, 3)])
def test_the_sum_is_that_of_the_formula_and_of_torch(delta: float, shape: tuple[int, ...]) -> None:
    batch = Batch(draws(*shape) * 2, draws(*shape, seed=1))
    term = Huber(delta=delta).terms(batch.inputs, batch)["huber"]
    torch.testing.assert_close(term.sum, by_formula(batch.inputs - batch.targets, delta).sum(), rtol=1e-12, atol=0)
    assert torch.equal(term.sum, F.huber_loss(batch.inputs, batch.targets, delta=delta, reduction="sum"))
    assert Huber().counts(batch) == {"values": batch.inputs.numel()}


def test_sample_weights_multiply_every_value_of_their_sample() -> None:
    batch = Batch(draws(4, 2) * 2, draws(4, 2, seed=1), torch.tensor([1.0, 0.0, 2.0, 0.5], dtype=torch.float64))
    assert batch.weights is not None
    losses = by_formula(batch.inputs - batch.targets, 0.7) * batch.weights[:, None]
    torch.testing.assert_close(Huber(delta=0.7).terms(batch.inputs, batch)["huber"].sum, losses.sum(), rtol=1e-12, atol=0)
    assert float(Huber().counts(batch)["values"]) == 7.0


def test_the_pull_of_an_outlier_is_delta() -> None:
    outputs = torch.zeros(3, requires_grad=True)
    huber_sum(outputs, torch.tensor([0.25, 1e6, -3.0]), delta=2.0).backward()
    assert outputs.grad is not None
    assert outputs.grad.tolist() == [-0.25, -2.0, 2.0]


def test_the_default_delta_is_one() -> None:
    assert Huber() == Huber(delta=1.0)
    assert huber_sum(torch.tensor([3.0]), torch.zeros(1)).item() == 2.5


@pytest.mark.parametrize("delta", [0.0, -1.0, math.inf, math.nan])
def test_a_delta_out_of_range_is_refused(delta: float) -> None:
    with pytest.raises(JobError, match=r"^huber\.delta is"):
        Huber(delta=delta)


@pytest.mark.parametrize("delta", [1e-9, 1e9])
def test_any_positive_delta_is_taken(delta: float) -> None:
    assert Huber(delta=delta).delta == delta


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(DataError, match=r"^huber got outputs"):
        Huber().terms(torch.zeros(4, 3), Batch(torch.zeros(4, 2), torch.zeros(4)))


def test_an_empty_batch_counts_nothing_and_costs_nothing() -> None:
    batch = Batch(torch.zeros(0, 2), torch.zeros(0))
    assert Huber().counts(batch) == {"values": 0}
    assert Huber().terms(torch.zeros(0), batch)["huber"].sum.item() == 0
