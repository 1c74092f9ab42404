"""Losses of torch.nn keep torch's own mean, whatever their reduction, and add up over parts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError
from stepwell.core.objectives.callable_loss import as_objective
from stepwell.core.objectives.torch_losses import TorchClassLoss, TorchElementLoss
from stepwell.core.slots import Objective
from stepwell.techniques.objective.class_weights import ClassWeights
from stepwell.techniques.objective.label_smoothing import LabelSmoothing

TABLE = torch.tensor([0.3, 1.0, 2.5, 0.7, 4.0], dtype=torch.float64)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(*shape: int) -> Tensor:
    return torch.randint(5, shape, generator=torch.Generator().manual_seed(1))


def loss(objective: Objective, outputs: Tensor, batch: Batch) -> Tensor:
    counts = objective.counts(batch)
    return sum(term.weight * term.sum / counts[term.unit] for term in objective.terms(outputs, batch).values())


CLASSES: list[dict[str, Any]] = [{}, {"weight": TABLE}, {"ignore_index": 2}, {"label_smoothing": 0.1}]
CLASSES.append({"weight": TABLE, "ignore_index": 0, "label_smoothing": 0.2})


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("settings", CLASSES)
@pytest.mark.parametrize("shape", [(9,), (9, 4)])
def test_cross_entropy_is_torch_s_mean(reduction: str, settings: dict[str, Any], shape: tuple[int, ...]) -> None:
    outputs, targets = draws(9, 5, *shape[1:]), labels(*shape)
    mine = loss(as_objective(nn.CrossEntropyLoss(reduction=reduction, **settings)), outputs, Batch(outputs, targets))
    torch.testing.assert_close(mine, nn.CrossEntropyLoss(**settings)(outputs, targets), rtol=1e-12, atol=0)


@pytest.mark.parametrize("settings", [{}, {"weight": TABLE}, {"label_smoothing": 0.1}])
def test_cross_entropy_over_probabilities_is_torch_s_mean(settings: dict[str, Any]) -> None:
    outputs, targets = draws(9, 5), draws(9, 5, seed=1).softmax(-1)
    mine = loss(as_objective(nn.CrossEntropyLoss(**settings)), outputs, Batch(outputs, targets))
    torch.testing.assert_close(mine, nn.CrossEntropyLoss(**settings)(outputs, targets))


@pytest.mark.parametrize("settings", [{}, {"weight": TABLE, "ignore_index": 1}])
def test_nll_is_torch_s_mean(settings: dict[str, Any]) -> None:
    outputs, targets = draws(9, 5).log_softmax(-1), labels(9)
    mine = loss(as_objective(nn.NLLLoss(**settings)), outputs, Batch(outputs, targets))
    torch.testing.assert_close(mine, nn.NLLLoss(**settings)(outputs, targets), rtol=1e-12, atol=0)


ELEMENTS: list[Callable[..., nn.Module]] = [
    nn.MSELoss,
    nn.L1Loss,
    lambda **more: nn.SmoothL1Loss(beta=0.3, **more),
    lambda **more: nn.HuberLoss(delta=0.5, **more),
    nn.BCEWithLogitsLoss,
    lambda **more: nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64), **more),
    lambda **more: nn.BCEWithLogitsLoss(weight=torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64), **more),
    lambda **more: nn.PoissonNLLLoss(**more),
    nn.SoftMarginLoss,
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("make", ELEMENTS)
def test_losses_of_elements_are_torch_s_mean(make: Callable[..., nn.Module], reduction: str) -> None:
    outputs, targets = draws(9, 3), draws(9, 3, seed=1).sigmoid()
    mine = loss(as_objective(make(reduction=reduction)), outputs, Batch(outputs, targets))
    torch.testing.assert_close(mine, make()(outputs, targets), rtol=1e-12, atol=0)


def test_bce_on_probabilities_is_torch_s_mean() -> None:
    outputs, targets = draws(9).sigmoid(), (draws(9, seed=1) > 0).long()
    mine = loss(as_objective(nn.BCELoss()), outputs, Batch(outputs, targets))
    torch.testing.assert_close(mine, nn.BCELoss()(outputs, targets.double()))


@pytest.mark.parametrize(
    ("function", "kind"),
    [(F.cross_entropy, TorchClassLoss), (F.mse_loss, TorchElementLoss), (F.binary_cross_entropy_with_logits, TorchElementLoss)],
)
def test_torch_s_functions_are_recognised_too(function: Any, kind: type) -> None:
    assert isinstance(as_objective(function), kind)


@pytest.mark.parametrize(
    "made",
    [nn.CrossEntropyLoss(weight=TABLE, label_smoothing=0.1), nn.NLLLoss(weight=TABLE), nn.CrossEntropyLoss(ignore_index=2)],
)
@pytest.mark.parametrize("weighted", ["weighted", "plain"])
def test_class_losses_add_up_over_parts(made: nn.Module, weighted: str) -> None:
    batch = Batch(draws(13, 5).log_softmax(-1), labels(13), draws(13, seed=4).abs() if weighted == "weighted" else None)
    objective, parts = as_objective(made), batch.split([5, 7, 1])
    whole = objective.terms(batch.inputs, batch)["loss"].sum
    torch.testing.assert_close(sum(objective.terms(part.inputs, part)["loss"].sum for part in parts), whole, rtol=1e-12, atol=0)
    count = float(objective.counts(batch)["samples"])
    assert sum(float(objective.counts(part)["samples"]) for part in parts) == pytest.approx(count, rel=1e-12)


def test_sample_weights_multiply_class_weights_in_loss_and_count() -> None:
    outputs, targets, weights = draws(9, 5), labels(9), draws(9, seed=3).abs()
    both = weights * TABLE[targets]
    expected = (F.cross_entropy(outputs, targets, reduction="none") * both).sum() / both.sum()
    mine = loss(as_objective(nn.CrossEntropyLoss(weight=TABLE)), outputs, Batch(outputs, targets, weights))
    torch.testing.assert_close(mine, expected)


def test_sample_weights_reach_every_element() -> None:
    outputs, targets, weights = draws(3, 2), draws(3, 2, seed=1), torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)
    mine = loss(as_objective(nn.L1Loss()), outputs, Batch(outputs, targets, weights))
    torch.testing.assert_close(mine, ((outputs - targets).abs() * weights[:, None]).sum() / 8)


def test_the_user_s_own_loss_keeps_its_reduction() -> None:
    made = nn.MSELoss()
    as_objective(made)
    assert made.reduction == "mean"


@pytest.mark.parametrize("made", [nn.MSELoss(), nn.HuberLoss(), nn.BCEWithLogitsLoss()])
def test_one_column_against_one_value_never_becomes_a_square(made: nn.Module) -> None:
    outputs, targets = draws(6), draws(6, seed=1).sigmoid()
    mine = loss(as_objective(copy.copy(made)), outputs.unsqueeze(1), Batch(outputs, targets))
    torch.testing.assert_close(mine, made(outputs, targets))
    with pytest.raises(DataError, match="same shape"):
        as_objective(made).terms(draws(6, 2), Batch(outputs, targets))


@pytest.mark.parametrize(
    ("made", "outputs", "targets"),
    [
        (nn.CrossEntropyLoss(), (4, 7, 5), torch.zeros(4, 7, dtype=torch.int64)),
        (nn.CrossEntropyLoss(), (4, 5), torch.zeros(4)),
        (nn.NLLLoss(), (4, 5), torch.zeros(4)),
        (nn.NLLLoss(), (4, 5), torch.zeros(4, 5)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(made: nn.Module, outputs: tuple[int, ...], targets: Tensor) -> None:
    with pytest.raises(DataError, match="as in torch"):
        as_objective(made).terms(torch.zeros(outputs), Batch(torch.zeros(4, 1), targets))


def test_a_label_that_is_no_class_is_refused() -> None:
    with pytest.raises(DataError, match="not one of the 5 classes"):
        as_objective(nn.CrossEntropyLoss()).terms(torch.zeros(1, 5), Batch(torch.zeros(1, 1), torch.tensor([5])))


def test_modifiers_work_on_torch_s_cross_entropy() -> None:
    outputs, targets = draws(9, 5), labels(9)
    base = as_objective(nn.CrossEntropyLoss())
    smoothed = loss(LabelSmoothing(base, epsilon=0.1), outputs, Batch(outputs, targets))
    torch.testing.assert_close(smoothed, F.cross_entropy(outputs, targets, label_smoothing=0.1))
    weighted = loss(ClassWeights(base, weights=TABLE.tolist()), outputs, Batch(outputs, targets))
    torch.testing.assert_close(weighted, F.cross_entropy(outputs, targets, weight=TABLE))
