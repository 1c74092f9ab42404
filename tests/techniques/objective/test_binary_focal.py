"""Binary focal loss: hand numbers, binary cross-entropy at gamma 0 to the bit, the formula of the paper as oracle."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError, JobError
from stepwell.techniques import Bce
from stepwell.techniques.objective.binary_focal import BinaryFocal, binary_focal_sum


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_formula(logits: Tensor, targets: Tensor, gamma: float, alpha: float | None) -> Tensor:
    """FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t), equation 5, for targets 0 and 1."""
    p = logits.sigmoid()
    right = torch.where(targets == 1, p, 1 - p)
    weight = torch.ones_like(p) if alpha is None else torch.where(targets == 1, alpha, 1 - alpha).to(p.dtype)
    return -weight * (1 - right) ** gamma * right.log()


def test_two_samples_worked_by_hand() -> None:
    # sigmoid(log 3) = 3/4: a positive costs 0.25 (1/4)^2 log(4/3), a negative 0.75 (3/4)^2 log 4.
    outputs = torch.full((2,), math.log(3), dtype=torch.float64)
    batch = Batch(outputs, torch.tensor([1, 0]))
    term = BinaryFocal().terms(outputs, batch)["binary_focal"]
    assert term.sum.item() == pytest.approx(0.25 / 16 * math.log(4 / 3) + 0.75 * 9 / 16 * math.log(4), rel=1e-12)
    assert (term.unit, term.weight, BinaryFocal().counts(batch)) == ("samples", 1.0, {"samples": 2})


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [None, 0.0, 0.25, 1.0])
@pytest.mark.parametrize("shape", [(8,), (8, 1), (8, 3)])
def test_the_sum_is_that_of_the_formula(gamma: float, alpha: float | None, shape: tuple[int, ...]) -> None:
    outputs, targets = draws(*shape) * 2, (draws(*shape, seed=1) > 0).long()
    term = BinaryFocal(gamma=gamma, alpha=alpha).terms(outputs, Batch(outputs, targets))["binary_focal"]
    torch.testing.assert_close(term.sum, by_formula(outputs, targets, gamma, alpha).sum(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("weighted", ["weighted", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gamma_zero_without_alpha_has_the_bits_of_bce(weighted: str, dtype: torch.dtype) -> None:
    results = []
    for objective in (BinaryFocal(gamma=0.0, alpha=None), Bce()):
        outputs = draws(7, 3).to(dtype).requires_grad_()
        weights = draws(7, seed=2).abs() if weighted == "weighted" else None
        batch = Batch(outputs, draws(7, 3, seed=1).sigmoid(), weights)
        (term,) = objective.terms(outputs, batch).values()
        term.sum.backward()
        results.append((term.sum, outputs.grad, term.unit, float(objective.counts(batch)["labels"])))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])  # type: ignore[arg-type]
    assert results[0][2:] == results[1][2:]


def test_a_target_in_between_weighs_the_two_losses() -> None:
    outputs = draws(6)
    mixed = binary_focal_sum(outputs, torch.full((6,), 0.3, dtype=torch.float64), gamma=2.0, alpha=0.25)
    one, zero = (by_formula(outputs, torch.full((6,), label), 2.0, 0.25).sum() for label in (1, 0))
    torch.testing.assert_close(mixed, 0.3 * one + 0.7 * zero, rtol=1e-10, atol=0)


def test_sample_weights_multiply_every_label_of_their_sample() -> None:
    outputs, targets = draws(3, 2), torch.tensor([[1, 0], [0, 0], [1, 1]])
    weights = torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)
    batch = Batch(outputs, targets, weights)
    expected = (by_formula(outputs, targets, 2.0, 0.25) * weights[:, None]).sum()
    torch.testing.assert_close(BinaryFocal().terms(outputs, batch)["binary_focal"].sum, expected, rtol=1e-10, atol=0)
    assert float(BinaryFocal().counts(batch)["labels"]) == 8.0


def test_the_defaults_are_the_paper_s() -> None:
    assert (BinaryFocal().gamma, BinaryFocal().alpha) == (2.0, 0.25)
    # Its function leaves alpha out, as `focal_sum` does.
    torch.testing.assert_close(
        binary_focal_sum(draws(4), torch.ones(4, dtype=torch.float64)), by_formula(draws(4), torch.ones(4), 2.0, None).sum()
    )


@pytest.mark.parametrize("gamma", [1e-3, 0.5, 1.0])
def test_a_sure_and_right_prediction_has_no_gradient_and_no_nan(gamma: float) -> None:
    outputs = torch.tensor([200.0, -200.0], requires_grad=True)
    binary_focal_sum(outputs, torch.tensor([1.0, 0.0]), gamma=gamma).backward()
    assert outputs.grad is not None
    assert outputs.grad.abs().max() < 1e-8


@pytest.mark.parametrize("gamma", [-0.1, math.inf, math.nan])
def test_a_gamma_out_of_range_is_refused(gamma: float) -> None:
    with pytest.raises(JobError, match=r"^binary_focal\.gamma is"):
        BinaryFocal(gamma=gamma)


@pytest.mark.parametrize("alpha", [-0.01, 1.01, math.nan])
def test_an_alpha_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(JobError, match=r"^binary_focal\.alpha is"):
        BinaryFocal(alpha=alpha)


@pytest.mark.parametrize("settings", [{"alpha": 0.0}, {"alpha": 1.0}, {"gamma": 0.0}, {"gamma": 100.0}])
def test_the_ends_of_the_ranges_are_taken(settings: dict[str, Any]) -> None:
    assert {name: getattr(BinaryFocal(**settings), name) for name in settings} == settings


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(DataError, match=r"^binary_focal got outputs"):
        BinaryFocal().terms(torch.zeros(4, 3), Batch(torch.zeros(4, 2), torch.zeros(4)))


def test_an_empty_batch_counts_nothing_and_costs_nothing() -> None:
    batch = Batch(torch.zeros(0, 2), torch.zeros(0))
    assert BinaryFocal().counts(batch) == {"samples": 0}
    assert BinaryFocal().terms(torch.zeros(0), batch)["binary_focal"].sum.item() == 0


def test_it_agrees_with_binary_cross_entropy_times_the_fading_factor() -> None:
    outputs, targets = draws(20), (draws(20, seed=1) > 0).double()
    plain = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
    faded = plain * (1 - (-plain).exp()) ** 3
    torch.testing.assert_close(binary_focal_sum(outputs, targets, gamma=3.0), faded.sum(), rtol=1e-10, atol=0)
