"""Cross-entropy: hand numbers, torch as oracle, extreme logits, additivity and refusals."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError, JobError
from stepwell.core.objectives.soft_targets import cross_entropy_sum, soft_targets
from stepwell.techniques.objective.cross_entropy import CrossEntropy


def draws(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def labels(*shape: int, num_classes: int = 5, seed: int = 1) -> Tensor:
    return torch.randint(num_classes, shape, generator=torch.Generator().manual_seed(seed))


def loss(objective: CrossEntropy, outputs: Tensor, batch: Batch) -> Tensor:
    total = torch.zeros((), dtype=outputs.dtype)
    counts = objective.counts(batch)
    for term in objective.terms(outputs, batch).values():
        total = total + term.weight * term.sum / counts[term.unit]
    return total


def test_two_samples_worked_by_hand() -> None:
    # softmax of (log 1, log 2, log 5) is (1/8, 2/8, 5/8): the losses are log 8 and log 8/5.
    outputs = torch.tensor([[1.0, 2.0, 5.0]] * 2).log()
    term = CrossEntropy().terms(outputs, Batch(outputs, torch.tensor([0, 2])))["cross_entropy"]
    assert term.unit == "samples"
    assert term.sum.item() == pytest.approx(math.log(8) + math.log(8 / 5), rel=1e-6)


@pytest.mark.parametrize("size", [1, 7, 32, 33])
def test_loss_and_gradient_have_the_bits_of_torch_s_mean(size: int) -> None:
    ours, theirs = (draws(size, 5, dtype=torch.float32).requires_grad_() for _ in range(2))
    targets = labels(size)
    mine, reference = loss(CrossEntropy(), ours, Batch(ours, targets)), F.cross_entropy(theirs, targets)
    mine.backward()
    reference.backward()
    assert torch.equal(ours.grad, theirs.grad)
    assert mine.item() == pytest.approx(reference.item(), rel=1e-6)


def test_counting_one_label_per_sample_makes_no_tensor() -> None:
    assert CrossEntropy().counts(Batch(draws(4, 3), labels(4))) == {"samples": 4}


def test_token_targets_put_classes_last_and_leave_out_the_ignored() -> None:
    outputs, targets = draws(3, 4, 5), labels(3, 4)
    targets[0, 2:] = -100
    batch = Batch(outputs, targets)
    term = CrossEntropy().terms(outputs, batch)["cross_entropy"]
    assert term.unit == "tokens"
    assert int(CrossEntropy().counts(batch)["tokens"]) == 10
    torch.testing.assert_close(loss(CrossEntropy(), outputs, batch), F.cross_entropy(outputs.movedim(-1, 1), targets))


def test_another_ignore_index_is_honoured() -> None:
    outputs, targets = draws(2, 6, 5), labels(2, 6)
    targets[1, :3] = 0
    torch.testing.assert_close(
        loss(CrossEntropy(ignore_index=0), outputs, Batch(outputs, targets)),
        F.cross_entropy(outputs.movedim(-1, 1), targets, ignore_index=0),
    )


def test_single_labels_are_ignored_only_on_demand() -> None:
    outputs, targets = draws(6, 5), labels(6)
    targets[2] = -100
    batch = Batch(outputs, targets)
    torch.testing.assert_close(loss(CrossEntropy(ignored="everywhere"), outputs, batch), F.cross_entropy(outputs, targets))
    with pytest.raises(DataError, match="not one of the 5 classes"):
        CrossEntropy().terms(outputs, batch)


def test_class_probabilities_agree_with_torch() -> None:
    outputs, targets = draws(6, 5), draws(6, 5, seed=3).softmax(-1)
    torch.testing.assert_close(loss(CrossEntropy(), outputs, Batch(outputs, targets)), F.cross_entropy(outputs, targets))


def test_rows_of_mass_weigh_by_their_mass() -> None:
    # A one-hot row times 3 is a sample that counts three times.
    outputs, targets = draws(2, 3), torch.tensor([[0.0, 3.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    nll = -outputs.log_softmax(-1)
    expected = (3 * nll[0, 1] + nll[1, 0]) / 4
    torch.testing.assert_close(loss(CrossEntropy(), outputs, Batch(outputs, targets)), expected)


@pytest.mark.parametrize("soft", ["numbers", "mass"])
def test_sample_weights_multiply_loss_and_count(soft: str) -> None:
    outputs, targets = draws(3, 5), labels(3)
    weights = torch.tensor([1.0, 0.0, 2.5], dtype=torch.float64)
    nll = F.cross_entropy(outputs, targets, reduction="none")
    given = targets if soft == "numbers" else F.one_hot(targets, 5).double()
    batch = Batch(outputs, given, weights)
    torch.testing.assert_close(loss(CrossEntropy(), outputs, batch), (nll * weights).sum() / 3.5)


@pytest.mark.parametrize("soft", ["numbers", "mass"])
def test_sample_weights_reach_every_token_that_counts(soft: str) -> None:
    outputs, targets = draws(2, 3, 5), labels(2, 3)
    targets[1, 0] = -100
    weights = torch.tensor([1.0, 4.0], dtype=torch.float64)
    nll = F.cross_entropy(outputs.movedim(-1, 1), targets, reduction="none")
    given = targets if soft == "numbers" else soft_targets(targets, 5, ignored=-100, dtype=torch.float64)
    batch = Batch(outputs, given, weights)
    torch.testing.assert_close(loss(CrossEntropy(), outputs, batch), (nll[0].sum() + 4 * nll[1].sum()) / (3 + 2 * 4))


@pytest.mark.parametrize("shape", [(13, 5), (13, 4, 5)])
@pytest.mark.parametrize("soft", ["numbers", "mass"])
@pytest.mark.parametrize("weighted", ["weighted", "plain"])
def test_terms_and_counts_of_a_batch_are_those_of_its_parts(shape: tuple[int, ...], soft: str, weighted: str) -> None:
    outputs = draws(*shape)
    targets = labels(*shape[:-1]) if soft == "numbers" else draws(*shape, seed=2).abs()
    if soft == "numbers" and targets.ndim == 2:
        targets[3:7, 1:] = -100
    batch = Batch(outputs, targets, draws(13, seed=4).abs() if weighted == "weighted" else None)
    objective = CrossEntropy()
    whole, parts = objective.terms(outputs, batch), [objective.terms(part.inputs, part) for part in batch.split([5, 7, 1])]
    for name, term in whole.items():
        torch.testing.assert_close(sum(part[name].sum for part in parts), term.sum, rtol=1e-12, atol=0)
    for unit, count in objective.counts(batch).items():
        total = sum(objective.counts(part)[unit] for part in batch.split([5, 7, 1]))
        assert float(total) == pytest.approx(float(count), rel=1e-12)


@pytest.mark.parametrize("soft", ["numbers", "mass"])
def test_gradcheck(soft: str) -> None:
    outputs = draws(4, 5).requires_grad_()
    targets = labels(4) if soft == "numbers" else draws(4, 5, seed=2).abs()
    weights = draws(4, seed=3).abs()
    assert torch.autograd.gradcheck(lambda x: cross_entropy_sum(x, targets, weights=weights), (outputs,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("soft", ["numbers", "mass"])
def test_logits_of_ten_thousand_give_their_difference(dtype: torch.dtype, soft: str) -> None:
    outputs = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], dtype=dtype, requires_grad=True)
    targets = torch.tensor([1, 1])
    batch = Batch(outputs, targets if soft == "numbers" else F.one_hot(targets, 3).float())
    term = CrossEntropy().terms(outputs, batch)["cross_entropy"]
    term.sum.backward()
    span = outputs[0, 0].item() - outputs[0, 1].item()  # bf16 holds 9984 or the like instead of 10000
    assert term.sum.dtype == torch.float32
    assert term.sum.item() == span
    assert outputs.grad is not None
    assert outputs.grad.tolist() == [[1, -1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("outputs", "targets", "advice"),
    [
        ((4, 5), torch.zeros(4, 1, dtype=torch.int64), "squeeze"),
        ((4, 5), torch.zeros(4), "integers"),
        ((4, 5), torch.zeros(3, dtype=torch.int64), "last layer"),
        ((4, 5, 7), torch.zeros(4, 7, dtype=torch.int64), "movedim"),
        ((4, 5), torch.zeros(4, 6), "last layer"),
        ((4,), torch.zeros(4, dtype=torch.int64), "last layer"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_advice(outputs: tuple[int, ...], targets: Tensor, advice: str) -> None:
    with pytest.raises(DataError, match=advice):
        CrossEntropy().terms(torch.zeros(outputs), Batch(torch.zeros(4, 1), targets))


@pytest.mark.parametrize("label", [5, -1])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    with pytest.raises(DataError, match="not one of the 5 classes"):
        CrossEntropy().terms(torch.zeros(1, 5), Batch(torch.zeros(1, 1), torch.tensor([label])))


def test_missing_targets_and_outputs_that_are_no_tensor_are_refused() -> None:
    with pytest.raises(DataError, match="no targets"):
        CrossEntropy().terms(torch.zeros(1, 5), Batch(torch.zeros(1, 1)))
    with pytest.raises(DataError, match="a dict"):
        CrossEntropy().terms({"scores": torch.zeros(1, 5)}, Batch(torch.zeros(1, 1), torch.tensor([0])))
    with pytest.raises(JobError, match=r"cross_entropy\.ignored"):
        CrossEntropy(ignored="nowhere")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool])
def test_other_integers_are_class_numbers_too(dtype: torch.dtype) -> None:
    outputs, targets = draws(4, 2), torch.tensor([0, 1, 1, 0])
    torch.testing.assert_close(
        loss(CrossEntropy(), outputs, Batch(outputs, targets.to(dtype))), F.cross_entropy(outputs, targets)
    )
