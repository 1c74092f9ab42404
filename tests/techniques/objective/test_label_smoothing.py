"""Label smoothing: the epsilon / K convention, torch as oracle, ignored tokens, bad arguments."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError, JobError
from stepwell.core.slots import Objective
from stepwell.techniques.objective.cross_entropy import CrossEntropy
from stepwell.techniques.objective.label_smoothing import LabelSmoothing, smooth_targets


def draws(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def labels(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(5, shape, generator=torch.Generator().manual_seed(seed))


def loss(objective: Objective, outputs: Tensor, batch: Batch) -> Tensor:
    counts = objective.counts(batch)
    return sum(term.weight * term.sum / counts[term.unit] for term in objective.terms(outputs, batch).values())


def test_ten_classes_and_a_tenth_give_the_paper_s_numbers() -> None:
    # (1 - 0.1) + 0.1 / 10 = 0.91 on the right class and 0.01 elsewhere.
    smooth = smooth_targets(F.one_hot(torch.tensor(3), 10).double(), 0.1)
    assert smooth.tolist() == pytest.approx([0.01] * 3 + [0.91] + [0.01] * 6)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.6])
def test_the_loss_is_torch_s_smoothed_cross_entropy(epsilon: float) -> None:
    outputs, targets = draws(7, 5), labels(7)
    objective = LabelSmoothing(CrossEntropy(), epsilon=epsilon)
    assert objective.counts(Batch(outputs, targets)) == {"samples": 7}
    torch.testing.assert_close(
        loss(objective, outputs, Batch(outputs, targets)), F.cross_entropy(outputs, targets, label_smoothing=epsilon)
    )


def test_ignored_tokens_get_no_mass() -> None:
    outputs, targets = draws(2, 4, 5), labels(2, 4)
    targets[1, 1:] = -100
    torch.testing.assert_close(
        loss(LabelSmoothing(CrossEntropy(), epsilon=0.2), outputs, Batch(outputs, targets)),
        F.cross_entropy(outputs.movedim(-1, 1), targets, label_smoothing=0.2),
    )


def test_soft_targets_are_smoothed_as_torch_does() -> None:
    outputs, targets = draws(7, 5), draws(7, 5, seed=2).softmax(-1)
    torch.testing.assert_close(
        loss(LabelSmoothing(CrossEntropy(), epsilon=0.3), outputs, Batch(outputs, targets)),
        F.cross_entropy(outputs, targets, label_smoothing=0.3),
    )


def test_sample_weights_weigh_smoothed_samples() -> None:
    outputs, targets, weights = draws(3, 5), labels(3), torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    each = F.cross_entropy(outputs, targets, label_smoothing=0.1, reduction="none")
    mine = loss(LabelSmoothing(CrossEntropy(), epsilon=0.1), outputs, Batch(outputs, targets, weights))
    torch.testing.assert_close(mine, (each * weights).sum() / 1.5)


def test_gradcheck() -> None:
    objective, targets = LabelSmoothing(CrossEntropy(), epsilon=0.1), labels(4)
    assert torch.autograd.gradcheck(lambda x: loss(objective, x, Batch(x, targets)), (draws(4, 5).requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_of_ten_thousand_stay_finite(dtype: torch.dtype) -> None:
    outputs = torch.tensor([[1e4, -1e4]], dtype=dtype)
    # 0.95 * 0 on the right class, 0.05 of the distance on the other.
    term = LabelSmoothing(CrossEntropy(), epsilon=0.1).terms(outputs, Batch(outputs, torch.tensor([0])))["cross_entropy"]
    assert term.sum.item() == pytest.approx(0.05 * 2 * outputs[0, 0].item(), rel=1e-6)


def test_parts_add_up_to_the_whole() -> None:
    batch = Batch(draws(13, 5), labels(13), draws(13, seed=4).abs())
    objective = LabelSmoothing(CrossEntropy(), epsilon=0.1)
    parts = [objective.terms(part.inputs, part)["cross_entropy"].sum for part in batch.split([5, 7, 1])]
    torch.testing.assert_close(sum(parts), objective.terms(batch.inputs, batch)["cross_entropy"].sum, rtol=1e-12, atol=0)


def test_a_label_that_is_no_class_is_refused() -> None:
    with pytest.raises(DataError, match="not one of the 5 classes"):
        LabelSmoothing(CrossEntropy()).terms(torch.zeros(1, 5), Batch(torch.zeros(1, 1), torch.tensor([-100])))
    with pytest.raises(DataError, match="not one of the 5 classes"):
        LabelSmoothing(CrossEntropy()).terms(torch.zeros(1, 1, 5), Batch(torch.zeros(1, 1), torch.tensor([[7]])))


@pytest.mark.parametrize("epsilon", [-0.1, 1.0, float("nan")])
def test_an_epsilon_outside_its_range_is_refused(epsilon: float) -> None:
    with pytest.raises(JobError, match=r"label_smoothing\.epsilon"):
        LabelSmoothing(epsilon=epsilon)


def test_with_nothing_to_spread_the_objective_is_the_same() -> None:
    objective = CrossEntropy()
    assert LabelSmoothing(epsilon=0.0)(objective) is objective
