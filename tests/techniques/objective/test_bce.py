"""Binary cross-entropy: hand numbers, torch as oracle, shapes that must not broadcast."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError, JobError
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


def test_a_positive_weight_of_three_worked_by_hand() -> None:
    # sigmoid(log 3) = 3/4: three times log 4/3 where the target is 1, log 4 where it is 0; still two samples.
    outputs = torch.full((2,), math.log(3))
    made, batch = Bce(positive_weight=3.0), Batch(outputs, torch.tensor([1, 0]))
    assert made.terms(outputs, batch)["bce"].sum.item() == pytest.approx(3 * math.log(4 / 3) + math.log(4), rel=1e-6)
    assert made.counts(batch) == {"samples": 2}


@pytest.mark.parametrize("weight", [0.5, [2.0, 1.0, 0.25]])
def test_positive_weights_are_those_of_torch(weight: Any) -> None:
    scores, truth, weights = draws(6, 3), draws(6, 3, seed=1).sigmoid(), draws(6, seed=2).abs()
    batch = Batch(scores, truth, weights)
    factors = torch.tensor(weight, dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(scores, truth, weight=weights[:, None], pos_weight=factors, reduction="sum")
    torch.testing.assert_close(Bce(positive_weight=weight).terms(scores, batch)["bce"].sum, expected)


@pytest.mark.parametrize("weight", [1.0, 1, [1.0, 1.0, 1.0]])
def test_a_positive_weight_of_one_has_the_bits_of_none(weight: Any) -> None:
    gradients = []
    for made in (Bce(), Bce(positive_weight=weight)):
        scores = draws(6, 3).float().requires_grad_()
        made.terms(scores, Batch(scores, draws(6, 3, seed=1).sigmoid()))["bce"].sum.backward()
        gradients.append(scores.grad)
    assert torch.equal(*gradients)  # type: ignore[arg-type]


def test_one_positive_weight_in_a_list_is_that_of_one_target_per_sample() -> None:
    scores, batch = draws(6), Batch(draws(6), torch.tensor([1, 0, 1, 1, 0, 1]))
    listed, plain = (Bce(positive_weight=weight).terms(scores, batch)["bce"].sum for weight in ([2.0], 2.0))
    assert torch.equal(listed, plain)


@pytest.mark.parametrize(("outputs", "weights"), [((4, 3), [1.0, 2.0]), ((4,), [1.0, 2.0]), ((4, 1), [1.0, 2.0])])
def test_another_number_of_positive_weights_than_labels_is_refused(outputs: tuple[int, ...], weights: list[float]) -> None:
    with pytest.raises(JobError, match=r"^bce\.positive_weight holds 2 weights, but the model has [31] outputs"):
        Bce(positive_weight=weights).terms(torch.zeros(outputs), Batch(torch.zeros(4), torch.zeros(outputs)))


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan, [], [1.0, 0.0], [1.0, math.nan], "2", ["2"]])
def test_a_positive_weight_out_of_range_is_refused(weight: Any) -> None:
    with pytest.raises(JobError, match=r"^bce\.positive_weight is"):
        Bce(positive_weight=weight)


def test_an_empty_batch_counts_nothing_and_costs_nothing() -> None:
    batch = Batch(torch.zeros(0, 2), torch.zeros(0))
    assert Bce().counts(batch) == {"samples": 0}
    assert Bce().terms(torch.zeros(0), batch)["bce"].sum.item() == 0
