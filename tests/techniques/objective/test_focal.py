"""Focal loss over classes: hand numbers, cross-entropy at gamma 0 to the bit, the formula of the paper as oracle."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError, JobError
from stepwell.techniques import ClassWeights, CrossEntropy, LabelSmoothing
from stepwell.techniques.objective.focal import Focal, focal_sum


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_formula(logits: Tensor, mass: Tensor, gamma: float, alpha: Any = 1.0) -> Tensor:
    """(...,): as written in the paper, on probabilities."""
    p = logits.softmax(-1)
    return (mass * alpha * (1 - p) ** gamma * -p.log()).sum(-1)


def test_a_sample_at_three_quarters_worked_by_hand() -> None:
    # softmax(log 3, 0) = (3/4, 1/4): the right class costs (1/4)^2 log(4/3), the wrong one (3/4)^2 log 4.
    outputs = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]], dtype=torch.float64)
    batch = Batch(outputs, torch.tensor([0, 1]))
    term = Focal().terms(outputs, batch)["focal"]
    assert term.sum.item() == pytest.approx(math.log(4 / 3) / 16 + 9 / 16 * math.log(4), rel=1e-12)
    assert (term.unit, term.weight, Focal().counts(batch)) == ("samples", 1.0, {"samples": 2})


@pytest.mark.parametrize(("p", "ratio"), [(0.9, 100.0), (0.5, 4.0)])
def test_an_example_at_p_counts_as_many_times_less_as_the_paper_says(p: float, ratio: float) -> None:
    # Section 3.2: with gamma 2, an example at 0.9 has a loss 100 times lower than cross-entropy, one at 0.5 4 times at most.
    outputs = torch.tensor([[math.log(p), math.log(1 - p)]], dtype=torch.float64)
    batch = Batch(outputs, torch.tensor([0]))
    focal, plain = Focal(gamma=2.0).terms(outputs, batch)["focal"].sum, F.cross_entropy(outputs, batch.targets)
    assert (plain / focal).item() == pytest.approx(ratio, rel=1e-9)


CLASS_TARGETS = {
    "labels": ((6, 4), torch.tensor([0, 3, 1, 1, 2, 0])),
    "mass": ((6, 4), draws(6, 4, seed=5).softmax(-1) * 0.5),
    "tokens": ((2, 3, 4), torch.tensor([[0, -100, 1], [3, 2, -100]])),
}


@pytest.mark.parametrize("kind", CLASS_TARGETS)
@pytest.mark.parametrize("weighted", ["weighted", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gamma_zero_has_the_bits_of_cross_entropy(kind: str, weighted: str, dtype: torch.dtype) -> None:
    shape, targets = CLASS_TARGETS[kind]
    weights = draws(shape[0], seed=2).abs() if weighted == "weighted" else None
    gradients = []
    sums = []
    for objective in (Focal(gamma=0.0), CrossEntropy()):
        outputs = draws(*shape).to(dtype).requires_grad_()
        batch = Batch(outputs, targets, weights)
        (term,) = objective.terms(outputs, batch).values()
        term.sum.backward()
        sums.append(term.sum)
        gradients.append(outputs.grad)
        assert {unit: float(count) for unit, count in objective.counts(batch).items()} == {
            unit: float(count) for unit, count in CrossEntropy().counts(batch).items()
        }
    assert torch.equal(sums[0], sums[1])
    assert torch.equal(gradients[0], gradients[1])  # type: ignore[arg-type]


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [None, 0.25, [0.1, 0.2, 0.3, 0.4]])
@pytest.mark.parametrize("kind", CLASS_TARGETS)
def test_the_sum_is_that_of_the_formula(gamma: float, alpha: Any, kind: str) -> None:
    shape, targets = CLASS_TARGETS[kind]
    outputs, weights = draws(*shape) * 2, draws(shape[0], seed=2).abs()
    kept = torch.ones(shape[:-1], dtype=torch.float64) if targets.is_floating_point() else (targets >= 0).double()
    mass = targets if targets.is_floating_point() else F.one_hot(targets.clamp(min=0), 4).double()
    factors = 1.0 if alpha is None else torch.tensor(alpha, dtype=torch.float64)
    losses = by_formula(outputs, mass, gamma, factors) * kept
    plain = Focal(gamma=gamma, alpha=alpha).terms(outputs, Batch(outputs, targets))["focal"]
    torch.testing.assert_close(plain.sum, losses.sum(), rtol=1e-10, atol=0)
    heavy = Focal(gamma=gamma, alpha=alpha).terms(outputs, Batch(outputs, targets, weights))["focal"]
    torch.testing.assert_close(heavy.sum, (losses.flatten(1).sum(1) if losses.ndim > 1 else losses).mul(weights).sum())


@pytest.mark.parametrize("alpha", [0.25, [0.1, 0.2, 0.3, 0.4]])
def test_gamma_zero_with_alpha_is_cross_entropy_times_alpha(alpha: Any) -> None:
    outputs, targets = draws(6, 4), CLASS_TARGETS["labels"][1]
    factors = torch.tensor(alpha, dtype=torch.float64).expand(4)
    expected = F.cross_entropy(outputs, targets, weight=factors, reduction="sum")
    torch.testing.assert_close(Focal(gamma=0.0, alpha=alpha).terms(outputs, Batch(outputs, targets))["focal"].sum, expected)


def test_the_default_gamma_is_the_paper_s() -> None:
    outputs, targets = draws(6, 4), CLASS_TARGETS["labels"][1]
    expected = by_formula(outputs, F.one_hot(targets, 4).double(), 2.0).sum()
    torch.testing.assert_close(focal_sum(outputs, targets), expected)
    assert (Focal().gamma, Focal().alpha, Focal().ignore_index, Focal().ignored) == (2.0, None, -100, "tokens")


def test_alpha_changes_the_sum_but_not_the_count() -> None:
    outputs, batch = torch.zeros(2, 2), Batch(torch.zeros(2, 1), torch.tensor([0, 1]))
    made = Focal(gamma=0.0, alpha=[1.0, 3.0])
    assert made.terms(outputs, batch)["focal"].sum.item() == pytest.approx(4 * math.log(2), rel=1e-6)
    assert made.counts(batch) == {"samples": 2}


def test_class_weights_around_it_divide_by_the_weights() -> None:
    outputs, batch = draws(5, 3), Batch(draws(5, 1), torch.tensor([0, 1, 2, 2, 1]))
    objective = ClassWeights(weights=[1.0, 2.0, 0.5])(Focal(gamma=2.0))
    factors = torch.tensor([1.0, 2.0, 0.5, 0.5, 2.0], dtype=torch.float64)
    losses = by_formula(outputs, F.one_hot(batch.targets, 3).double(), 2.0)
    torch.testing.assert_close(objective.terms(outputs, batch)["focal"].sum, (losses * factors).sum())
    assert float(objective.counts(batch)["samples"]) == 6.0


def test_smoothed_targets_weigh_every_class_s_own_term() -> None:
    outputs, batch = draws(5, 3), Batch(draws(5, 1), torch.tensor([0, 1, 2, 2, 1]))
    mass = F.one_hot(batch.targets, 3) * 0.9 + 0.1 / 3
    smoothed = LabelSmoothing(epsilon=0.1)(Focal(gamma=2.0)).terms(outputs, batch)["focal"]
    torch.testing.assert_close(smoothed.sum, by_formula(outputs, mass.double(), 2.0).sum())


def test_ignored_tokens_count_nothing_and_get_no_gradient() -> None:
    outputs = draws(2, 3, 4).requires_grad_()
    batch = Batch(outputs, torch.tensor([[0, -100, 1], [-100, 2, -100]]))
    term = Focal().terms(outputs, batch)["focal"]
    term.sum.backward()
    assert (term.unit, int(Focal().counts(batch)["tokens"])) == ("tokens", 3)
    assert outputs.grad is not None
    assert outputs.grad.abs().sum(-1).ne(0).tolist() == [[True, False, True], [False, True, False]]


def test_a_label_of_a_single_sample_is_ignored_only_where_asked_for() -> None:
    outputs, batch = draws(2, 4), Batch(draws(2, 1), torch.tensor([0, 7]))
    with pytest.raises(DataError, match=r"^a target is not one of the 4 classes"):
        Focal(ignore_index=7).terms(outputs, batch)
    everywhere = Focal(ignore_index=7, ignored="everywhere")
    alone = Focal().terms(outputs[:1], Batch(draws(1, 1), torch.tensor([0])))["focal"].sum
    torch.testing.assert_close(everywhere.terms(outputs, batch)["focal"].sum, alone)
    assert int(everywhere.counts(batch)["samples"]) == 1


def test_ignored_tokens_cost_nothing_beside_a_single_class_either() -> None:
    assert focal_sum(torch.zeros(1, 2, 1), torch.tensor([[0, -100]]), ignored=-100).item() == 0


@pytest.mark.parametrize("gamma", [1e-3, 0.5, 1.0, 3.0])
def test_a_sure_and_right_prediction_has_no_gradient_and_no_nan(gamma: float) -> None:
    outputs = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    focal_sum(outputs, torch.tensor([0]), gamma=gamma).backward()
    assert outputs.grad is not None
    assert outputs.grad.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("gamma", [-0.1, math.inf, math.nan])
def test_a_gamma_out_of_range_is_refused(gamma: float) -> None:
    with pytest.raises(JobError, match=r"^focal\.gamma is"):
        Focal(gamma=gamma)


@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf, 0.0, [], [0.0, 0.0], [1.0, -1.0], [1.0, math.nan], "a", ["a"]])
def test_an_alpha_out_of_range_is_refused(alpha: Any) -> None:
    with pytest.raises(JobError, match=r"^focal\.alpha is"):
        Focal(alpha=alpha)


@pytest.mark.parametrize("alpha", [1e-9, 7.0, [0.0, 1.0], (0.5, 2.0)])
def test_any_other_alpha_is_taken(alpha: Any) -> None:
    assert Focal(alpha=alpha).alpha == (list(alpha) if isinstance(alpha, tuple) else alpha)


def test_another_number_of_alphas_than_classes_is_refused() -> None:
    with pytest.raises(JobError, match=r"^focal\.alpha holds 2 numbers, but the model has 3 outputs"):
        Focal(alpha=[1.0, 2.0]).terms(torch.zeros(2, 3), Batch(torch.zeros(2), torch.tensor([0, 1])))


def test_an_unknown_choice_of_what_is_ignored_is_refused() -> None:
    with pytest.raises(JobError, match=r"^focal\.ignored is 'never'"):
        Focal(ignored="never")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        ((4, 3), torch.zeros(4, 1, dtype=torch.int64)),
        ((4, 3), torch.zeros(3, dtype=torch.int64)),
        ((4, 3), torch.zeros(4)),
        ((4,), torch.zeros(4, dtype=torch.int64)),
        ((2, 3, 5), torch.zeros(2, 5, dtype=torch.int64)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(outputs: tuple[int, ...], targets: Tensor) -> None:
    with pytest.raises(DataError, match=r"^focal got outputs"):
        Focal().terms(torch.zeros(outputs), Batch(torch.zeros(4), targets))


@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_class_number_out_of_range_is_refused(wrong: int) -> None:
    with pytest.raises(DataError, match=r"^a target is not one of the 3 classes") as raised:
        Focal().terms(torch.zeros(2, 3), Batch(torch.zeros(2), torch.tensor([0, wrong])))
    assert raised.value.expected == "class numbers from 0 to 2"


def test_an_empty_batch_counts_nothing_and_costs_nothing() -> None:
    batch = Batch(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    assert Focal().counts(batch) == {"samples": 0}
    assert Focal().terms(torch.zeros(0, 3), batch)["focal"].sum.item() == 0


def test_terms_and_counts_of_a_batch_are_those_of_its_parts() -> None:
    batch = Batch(draws(13, 4), torch.arange(13) % 4, draws(13, seed=2).abs())
    parts = batch.split([5, 7, 1])
    made = Focal(alpha=[0.1, 0.2, 0.3, 0.4])
    total = sum(made.terms(part.inputs, part)["focal"].sum for part in parts)
    torch.testing.assert_close(total, made.terms(batch.inputs, batch)["focal"].sum, rtol=1e-12, atol=0)
