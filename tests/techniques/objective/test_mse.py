"""Mean squared error: hand numbers, torch as oracle, shapes that must not broadcast."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError
from stepwell.techniques.objective.mse import Mse, mse_sum


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_three_samples_worked_by_hand() -> None:
    outputs = torch.tensor([1.0, 2.0, -1.0])
    batch = Batch(outputs, torch.tensor([0.0, 4.0, -4.0]))
    term = Mse().terms(outputs, batch)["mse"]
    assert (term.sum.item(), term.unit, Mse().counts(batch)) == (14.0, "values", {"values": 3})


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 3)])
def test_the_mean_is_torch_s(shape: tuple[int, ...]) -> None:
    batch = Batch(draws(*shape), draws(*shape, seed=1))
    term = Mse().terms(batch.inputs, batch)["mse"]
    torch.testing.assert_close(term.sum / Mse().counts(batch)["values"], F.mse_loss(batch.inputs, batch.targets))


@pytest.mark.parametrize(("outputs", "targets"), [((6, 1), (6,)), ((6,), (6, 1))])
def test_one_value_per_sample_never_becomes_a_square(outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
    scores, goal = draws(6), draws(6, seed=1)
    term = Mse().terms(scores.reshape(outputs), Batch(scores, goal.reshape(targets)))["mse"]
    torch.testing.assert_close(term.sum, (scores - goal).square().sum())


@pytest.mark.parametrize(
    ("outputs", "targets"), [((4, 3), (4,)), ((4, 3), (4, 1)), ((4, 1), (4, 3)), ((4,), (1,)), ((4, 3), (3,))]
)
def test_shapes_that_would_broadcast_are_refused(outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="same shape"):
        Mse().terms(torch.zeros(outputs), Batch(torch.zeros(4, 2), torch.zeros(targets)))


def test_sample_weights_multiply_every_value_of_their_sample() -> None:
    batch = Batch(torch.tensor([[2.0, 1.0], [4.0, 3.0]]), torch.tensor([[3.0, 3.0], [1.0, 4.0]]), torch.tensor([2.0, 0.5]))
    term = Mse().terms(batch.inputs, batch)["mse"]
    assert term.sum.item() == 2 * 5 + 0.5 * 10
    assert float(Mse().counts(batch)["values"]) == 5.0


def test_bfloat16_outputs_are_squared_in_single_precision() -> None:
    outputs = torch.full((300,), 1e4, dtype=torch.bfloat16)
    term = Mse().terms(outputs, Batch(outputs, torch.full((300,), -1e4)))["mse"]
    assert term.sum.dtype == torch.float32
    assert term.sum.item() == pytest.approx(300 * (outputs[0].item() + 1e4) ** 2, rel=1e-6)


def test_targets_in_integers_are_values() -> None:
    batch = Batch(torch.zeros(2), torch.tensor([1, 3]))
    assert Mse().terms(torch.zeros(2), batch)["mse"].sum.item() == 10.0


def test_gradcheck() -> None:
    targets, weights = draws(4, 3, seed=1), draws(4, seed=2).abs()
    assert torch.autograd.gradcheck(lambda x: mse_sum(x, targets), (draws(4, 3).requires_grad_(),))
    assert torch.autograd.gradcheck(lambda x: mse_sum(x, targets, weights=weights), (draws(4, 3).requires_grad_(),))


@pytest.mark.parametrize("shape", [(13,), (13, 4)])
def test_terms_and_counts_of_a_batch_are_those_of_its_parts(shape: tuple[int, ...]) -> None:
    batch = Batch(draws(*shape), draws(*shape, seed=1), draws(13, seed=2).abs())
    parts = batch.split([5, 7, 1])
    whole = Mse().terms(batch.inputs, batch)["mse"].sum
    torch.testing.assert_close(sum(Mse().terms(part.inputs, part)["mse"].sum for part in parts), whole, rtol=1e-12, atol=0)
    count = Mse().counts(batch)["values"]
    torch.testing.assert_close(sum(Mse().counts(part)["values"] for part in parts), count, rtol=1e-12, atol=0)


def test_missing_targets_are_refused() -> None:
    with pytest.raises(DataError, match="NoneType"):
        Mse().terms(torch.zeros(2), Batch(torch.zeros(2)))
