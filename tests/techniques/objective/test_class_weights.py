"""Class weights: torch's weighted mean for labels, hand formulas for mixed and smoothed ones, exact in parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError, JobError
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng
from stepwell.core.slots import Objective
from stepwell.techniques.batch.mixup import Mixup
from stepwell.techniques.objective.class_weights import ClassWeights, balanced_weights
from stepwell.techniques.objective.cross_entropy import CrossEntropy
from stepwell.techniques.objective.label_smoothing import LabelSmoothing

WEIGHTS = [0.3, 1.0, 2.5, 0.7, 4.0]
TABLE = torch.tensor(WEIGHTS, dtype=torch.float64)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(5, shape, generator=torch.Generator().manual_seed(seed))


def loss(objective: Objective, outputs: Tensor, batch: Batch) -> Tensor:
    counts = objective.counts(batch)
    return sum(term.weight * term.sum / counts[term.unit] for term in objective.terms(outputs, batch).values())


def test_integer_labels_give_torch_s_weighted_mean() -> None:
    outputs, targets = draws(7, 5), labels(7)
    mine = loss(ClassWeights(CrossEntropy(), weights=WEIGHTS), outputs, Batch(outputs, targets))
    torch.testing.assert_close(mine, F.cross_entropy(outputs, targets, weight=TABLE), rtol=1e-12, atol=0)


def test_token_labels_give_torch_s_weighted_mean_over_those_not_ignored() -> None:
    outputs, targets = draws(3, 4, 5), labels(3, 4)
    targets[0, 1:] = -100
    mine = loss(ClassWeights(CrossEntropy(), weights=WEIGHTS), outputs, Batch(outputs, targets))
    torch.testing.assert_close(mine, F.cross_entropy(outputs.movedim(-1, 1), targets, weight=TABLE), rtol=1e-12, atol=0)


def test_mixed_targets_are_weighted_class_by_class() -> None:
    outputs = draws(8, 5)
    mixed = Mixup(alpha=0.4, num_classes=5)(Batch(outputs, labels(8)), Rng(3))
    mass = mixed.targets.double() * TABLE
    expected = -(mass * outputs.log_softmax(-1)).sum() / mass.sum()
    mine = loss(ClassWeights(CrossEntropy(), weights=WEIGHTS), outputs, mixed)
    torch.testing.assert_close(mine, expected, rtol=1e-12, atol=0)


def test_one_hot_mass_and_class_numbers_are_the_same_loss() -> None:
    outputs, targets = draws(7, 5), labels(7)
    objective = ClassWeights(CrossEntropy(), weights=WEIGHTS)
    torch.testing.assert_close(
        loss(objective, outputs, Batch(outputs, targets)),
        loss(objective, outputs, Batch(outputs, F.one_hot(targets, 5).double())),
    )


@pytest.mark.parametrize("soft", ["numbers", "mixed"])
def test_weights_inside_smoothing_weigh_the_spread_mass_class_by_class(soft: str) -> None:
    outputs, targets, epsilon = draws(8, 5), labels(8), 0.2
    batch = Batch(outputs, targets)
    if soft == "mixed":
        batch = Mixup(alpha=0.4, num_classes=5)(batch, Rng(3))
    start = F.one_hot(targets, 5).double() if soft == "numbers" else batch.targets.double()
    mass = ((1 - epsilon) * start + epsilon / 5) * TABLE
    expected = -(mass * outputs.log_softmax(-1)).sum() / mass.sum()
    objective = LabelSmoothing(epsilon=epsilon)(ClassWeights(weights=WEIGHTS)(CrossEntropy()))
    # Mixed targets arrive in single precision, so that mass is only as exact as that.
    tolerance = 1e-6 if soft == "mixed" else 1e-12
    torch.testing.assert_close(loss(objective, outputs, batch), expected, rtol=tolerance, atol=0)


def test_the_numerator_inside_smoothing_is_torch_s() -> None:
    outputs, targets = draws(8, 5), labels(8)
    objective = LabelSmoothing(epsilon=0.2)(ClassWeights(weights=WEIGHTS)(CrossEntropy()))
    theirs = F.cross_entropy(outputs, targets, weight=TABLE, label_smoothing=0.2, reduction="sum")
    torch.testing.assert_close(objective.terms(outputs, Batch(outputs, targets))["cross_entropy"].sum, theirs)


@pytest.mark.parametrize("soft", ["numbers", "mass"])
def test_weights_around_smoothing_keep_each_sample_s_own(soft: str) -> None:
    outputs, targets = draws(8, 5), labels(8)
    each = F.cross_entropy(outputs, targets, label_smoothing=0.2, reduction="none")
    expected = (each * TABLE[targets]).sum() / TABLE[targets].sum()
    objective = ClassWeights(weights=WEIGHTS)(LabelSmoothing(epsilon=0.2)(CrossEntropy()))
    given = targets if soft == "numbers" else F.one_hot(targets, 5).double()
    torch.testing.assert_close(loss(objective, outputs, Batch(outputs, given)), expected)


@pytest.mark.parametrize("order", ["inside", "around"])
def test_ignored_tokens_have_no_weight_beside_smoothing(order: str) -> None:
    outputs, targets = draws(2, 4, 5), labels(2, 4)
    targets[0, 2:] = -100
    kept = targets != -100
    hard = F.one_hot(targets.where(kept, 0), 5).double() * kept[..., None]
    smooth = (0.9 * hard + 0.1 / 5) * kept[..., None]
    weights, smoothing = ClassWeights(weights=WEIGHTS), LabelSmoothing(epsilon=0.1)
    if order == "inside":
        objective, mass = smoothing(weights(CrossEntropy())), smooth * TABLE
    else:
        objective, mass = weights(smoothing(CrossEntropy())), smooth * (hard * TABLE).sum(-1, keepdim=True)
    expected = -(mass * outputs.log_softmax(-1)).sum() / mass.sum()
    torch.testing.assert_close(loss(objective, outputs, Batch(outputs, targets)), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("soft", ["numbers", "mass"])
def test_sample_weights_and_class_weights_multiply(soft: str) -> None:
    outputs, targets, weights = draws(7, 5), labels(7), draws(7, seed=2).abs()
    both = weights * TABLE[targets]
    expected = (F.cross_entropy(outputs, targets, reduction="none") * both).sum() / both.sum()
    given = targets if soft == "numbers" else F.one_hot(targets, 5).double()
    mine = loss(ClassWeights(CrossEntropy(), weights=WEIGHTS), outputs, Batch(outputs, given, weights))
    torch.testing.assert_close(mine, expected, rtol=1e-12, atol=0)


def test_a_sequence_s_weight_is_that_of_each_of_its_tokens() -> None:
    outputs, targets, weights = draws(3, 4, 5), labels(3, 4), torch.tensor([1.0, 0.5, 3.0], dtype=torch.float64)
    both = weights[:, None] * TABLE[targets]
    expected = (F.cross_entropy(outputs.movedim(-1, 1), targets, reduction="none") * both).sum() / both.sum()
    mine = loss(ClassWeights(CrossEntropy(), weights=WEIGHTS), outputs, Batch(outputs, targets, weights))
    torch.testing.assert_close(mine, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("soft", ["numbers", "mixed"])
def test_micro_batches_give_the_gradient_of_the_whole(soft: str) -> None:
    inputs, targets = draws(32, 4), labels(32)
    batch = Batch(inputs, targets)
    if soft == "mixed":
        batch = Mixup(alpha=0.4, num_classes=5)(batch, Rng(3))
    weights = draws(4, 5, seed=5).requires_grad_()
    objective = ClassWeights(CrossEntropy(), weights=WEIGHTS)
    count = objective.counts(batch)["samples"]

    def gradient(parts: list[Batch]) -> Tensor:
        weights.grad = None
        for part in parts:
            (objective.terms(part.inputs @ weights, part)["cross_entropy"].sum / count).backward()
        assert weights.grad is not None
        return weights.grad

    torch.testing.assert_close(gradient(batch.split([5, 24, 3])), gradient([batch]), rtol=0, atol=1e-12)
    assert float(sum(objective.counts(part)["samples"] for part in batch.split([5, 24, 3]))) == pytest.approx(
        float(count), rel=1e-12
    )


def test_gradcheck() -> None:
    objective, targets = ClassWeights(CrossEntropy(), weights=WEIGHTS), labels(4)
    assert torch.autograd.gradcheck(lambda x: loss(objective, x, Batch(x, targets)), (draws(4, 5).requires_grad_(),))


def test_balanced_weights_are_scikit_learn_s() -> None:
    targets = torch.tensor([0] * 7 + [1] * 2 + [2] * 11)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=targets.numpy())
    assert balanced_weights(targets.bincount().tolist()) == pytest.approx(expected.tolist())


def test_a_class_without_samples_gets_no_weight() -> None:
    assert balanced_weights([2, 0, 2]) == [1.0, 0.0, 1.0]


def facts(class_counts: list[int] | None) -> DataFacts:
    return DataFacts(4, 1, Batch(torch.zeros(1, 1), torch.tensor([0])), class_counts=class_counts)


def test_balanced_weights_are_filled_in_from_the_classes_of_the_training_data() -> None:
    value, reason = ClassWeights().completed(facts([1, 3]))["weights"]
    assert value == [2.0, 2 / 3]
    assert reason
    assert ClassWeights(weights=[1.0, 5.0]).completed(facts([1, 3])) == {}


def test_balanced_weights_need_classes() -> None:
    with pytest.raises(JobError, match=r'class_weights\.weights is "balanced" but'):
        ClassWeights().completed(facts(None))


@pytest.mark.parametrize("weights", [[0.0, 1.0], [0.2, 0.3]])
def test_a_class_may_weigh_nothing_and_the_scale_is_free(weights: list[float]) -> None:
    assert ClassWeights(weights=weights).weights == weights


def test_balanced_must_be_filled_in_first() -> None:
    with pytest.raises(JobError, match="balanced_weights"):
        ClassWeights()(CrossEntropy())


def test_another_number_of_classes_is_refused() -> None:
    objective = ClassWeights(CrossEntropy(), weights=[1.0, 2.0])
    with pytest.raises(JobError, match="2 weights, but the model has 3"):
        objective.terms(torch.zeros(1, 3), Batch(torch.zeros(1, 1), torch.tensor([0])))
    with pytest.raises(DataError, match="3 classes, but there are 2"):
        objective.counts(Batch(torch.zeros(1, 1), torch.zeros(1, 3)))


@pytest.mark.parametrize("weights", [[], [1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("inf")], "even", [1.0, "x"], 3.0])
def test_weights_that_make_no_sense_are_refused(weights: object) -> None:
    with pytest.raises(JobError, match=r"class_weights.weights"):
        ClassWeights(weights=weights)  # type: ignore[arg-type]
