"""Binary cross-entropy: hand numbers, torch as oracle, shapes that must not broadcast."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError
from stepwell.techniques.objective.bce import Bce, bce_sum


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_two_samples_worked_by_hand() -> None:
    # sigmoid(log 3) = 3/4: log 4/3 where the target is 1, log 4 where it is 0.
    outputs = torch.full((2,), math.log(3))
    term = Bce().terms(outputs, Batch(outputs, torch.tensor([1, 0])))["bce"]
    assert (term.sum.item(), term.unit) == (pytest.approx(math.log(4 / 3) + math.log(4), rel=1e-6), "samples")


@pytest.mark.parametrize("outputs", [(6,), (6, 1)])
@pytest.mark.parametrize("targets", [(6,), (6, 1)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float32])
def test_one_value_per_sample_is_the_same_loss_in_every_shape_and_type(
    outputs: tuple[int, ...], targets: tuple[int, ...], dtype: torch.dtype
) -> None:
    scores, truth = draws(6), torch.tensor([0, 1, 1, 0, 1, 0])
    batch = Batch(scores, truth.to(dtype).reshape(targets))
    term = Bce().terms(scores.reshape(outputs), batch)["bce"]
    expected = F.binary_cross_entropy_with_logits(scores, truth.double())
    torch.testing.assert_close(term.sum / Bce().counts(batch)[term.unit], expected)


def test_several_labels_are_averaged_over_labels() -> None:
    scores, truth = draws(6, 3), (draws(6, 3, seed=1) > 0).long()
    batch = Batch(scores, truth)
    assert Bce().counts(batch) == {"labels": 18}
    term = Bce().terms(scores, batch)["bce"]
    torch.testing.assert_close(term.sum / 18, F.binary_cross_entropy_with_logits(scores, truth.double()))


def test_sample_weights_multiply_every_label_of_their_sample() -> None:
    scores, truth, weights = draws(3, 2), torch.ones(3, 2), torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)
    batch = Batch(scores, truth, weights)
    each = F.softplus(-scores)
    term = Bce().terms(scores, batch)["bce"]
    torch.testing.assert_close(term.sum / Bce().counts(batch)["labels"], (each * weights[:, None]).sum() / 8)


@pytest.mark.parametrize(
    ("outputs", "targets"), [((4, 3), (4,)), ((4,), (4, 3)), ((4, 1), (4, 3)), ((4, 3), (4, 1)), ((4,), (1,))]
)
def test_shapes_that_would_broadcast_are_refused(outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="same shape"):
        Bce().terms(torch.zeros(outputs), Batch(torch.zeros(4, 2), torch.zeros(targets)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_of_ten_thousand_give_themselves(dtype: torch.dtype) -> None:
    outputs = torch.tensor([1e4, -1e4, 1e4, -1e4], dtype=dtype, requires_grad=True)
    term = Bce().terms(outputs, Batch(outputs, torch.tensor([0, 1, 1, 0])))["bce"]
    term.sum.backward()
    assert term.sum.item() == 2 * outputs[0].item()
    assert outputs.grad is not None
    assert outputs.grad.tolist() == [1, -1, 0, 0]


def test_gradcheck() -> None:
    targets, weights = draws(4, 3, seed=1).sigmoid(), draws(4, seed=2).abs()
    assert torch.autograd.gradcheck(lambda x: bce_sum(x, targets, weights=weights), (draws(4, 3).requires_grad_(),))


@pytest.mark.parametrize("shape", [(13,), (13, 1), (13, 4)])
def test_terms_and_counts_of_a_batch_are_those_of_its_parts(shape: tuple[int, ...]) -> None:
    batch = Batch(draws(*shape), draws(*shape, seed=1).sigmoid(), draws(13, seed=2).abs())
    (unit,) = Bce().counts(batch)
    parts = batch.split([5, 7, 1])
    whole = Bce().terms(batch.inputs, batch)["bce"]
    assert whole.unit == unit
    torch.testing.assert_close(sum(Bce().terms(part.inputs, part)["bce"].sum for part in parts), whole.sum, rtol=1e-12, atol=0)
    torch.testing.assert_close(sum(Bce().counts(part)[unit] for part in parts), Bce().counts(batch)[unit], rtol=1e-12, atol=0)
