"""Mean absolute error: hand numbers, torch and scikit-learn as oracles, shapes that must not broadcast."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import mean_absolute_error
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError
from stepwell.techniques.objective.mae import Mae, mae_sum


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_three_samples_worked_by_hand() -> None:
    outputs = torch.tensor([1.0, 2.0, -1.0])
    batch = Batch(outputs, torch.tensor([0.0, 4.0, -4.0]))
    term = Mae().terms(outputs, batch)["mae"]
    assert (term.sum.item(), term.unit, term.weight, Mae().counts(batch)) == (6.0, "values", 1.0, {"values": 3})


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 3)])
def test_the_mean_has_the_bits_of_torch(shape: tuple[int, ...]) -> None:
    batch = Batch(draws(*shape), draws(*shape, seed=1))
    assert torch.equal(Mae().terms(batch.inputs, batch)["mae"].sum, F.l1_loss(batch.inputs, batch.targets, reduction="sum"))
    assert Mae().counts(batch) == {"values": batch.inputs.numel()}


def test_the_weighted_mean_is_that_of_scikit_learn() -> None:
    batch = Batch(draws(7, 2), draws(7, 2, seed=1), draws(7, seed=2).abs())
    mean = Mae().terms(batch.inputs, batch)["mae"].sum / Mae().counts(batch)["values"]
    assert batch.weights is not None
    oracle = mean_absolute_error(batch.targets.numpy(), batch.inputs.numpy(), sample_weight=batch.weights.numpy())
    assert mean.item() == pytest.approx(oracle, rel=1e-12)


def test_an_outlier_pulls_as_hard_as_any_other_sample() -> None:
    outputs = torch.zeros(3, requires_grad=True)
    Mae().terms(outputs, Batch(outputs, torch.tensor([1.0, 1e6, -0.5])))["mae"].sum.backward()
    assert outputs.grad is not None
    assert outputs.grad.tolist() == [-1.0, -1.0, 1.0]


@pytest.mark.parametrize(("outputs", "targets"), [((6, 1), (6,)), ((6,), (6, 1))])
def test_one_value_per_sample_never_becomes_a_square(outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
    scores, goal = draws(6), draws(6, seed=1)
    term = Mae().terms(scores.reshape(outputs), Batch(scores, goal.reshape(targets)))["mae"]
    torch.testing.assert_close(term.sum, (scores - goal).abs().sum())


@pytest.mark.parametrize(("outputs", "targets"), [((4, 3), (4,)), ((4, 1), (4, 3)), ((4,), (1,))])
def test_shapes_that_would_broadcast_are_refused(outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"^mae got outputs"):
        Mae().terms(torch.zeros(outputs), Batch(torch.zeros(4, 2), torch.zeros(targets)))


def test_an_empty_batch_counts_nothing_and_costs_nothing() -> None:
    batch = Batch(torch.zeros(0, 2), torch.zeros(0, 2))
    assert Mae().counts(batch) == {"values": 0}
    assert Mae().terms(torch.zeros(0, 2), batch)["mae"].sum.item() == 0


def test_weights_of_the_function_multiply_samples() -> None:
    sum_ = mae_sum(torch.zeros(2, 2), torch.tensor([[1.0, 2.0], [3.0, 1.0]]), weights=torch.tensor([2.0, 0.5]))
    assert sum_.item() == 2 * 3 + 0.5 * 4
