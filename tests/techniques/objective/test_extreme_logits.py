"""Scores of plus and minus ten thousand: every loss stays finite with finite gradients, and is what it is by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from loss_cases import Case, every_case
from torch import Tensor, nn

from stepwell.core.batch import Batch, Tree, tree_leaves, tree_map
from stepwell.core.catalog import lookup
from stepwell.core.slots import Objective
from stepwell.techniques import ClassWeights, Distillation, LabelSmoothing

CASES = every_case()
HALF_OR_FULL = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


def extreme(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """Ten thousand with the sign of each score, as a leaf."""
    return torch.where(scores > 0, 1e4, -1e4).to(dtype).requires_grad_()


def single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


@HALF_OR_FULL
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_loss_and_gradients_stay_finite(case: Case, dtype: torch.dtype) -> None:
    outputs = tree_map(lambda leaf: extreme(leaf, dtype), case.outputs)
    weights = None if case.batch.weights is None else case.batch.weights.float()
    # Inputs stay as they are: a teacher, where there is one, gives ordinary scores.
    batch = Batch(case.batch.inputs, tree_map(single, case.batch.targets), weights)
    for name, term in case.objective.terms(outputs, batch).items():
        assert term.sum.dtype == torch.float32
        assert math.isfinite(term.sum.item()), name
        gradients = torch.autograd.grad(term.sum, tree_leaves(outputs), retain_graph=True, allow_unused=True)
        assert any(gradient is not None for gradient in gradients), name
        assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None), name


def made(name: str, **settings: Any) -> Objective:
    objective: Objective = lookup(name).factory(**settings)
    return objective


def scores(rows: list[Any], dtype: torch.dtype) -> Tensor:
    return torch.tensor(rows, dtype=dtype).mul(torch.tensor(1e4, dtype=dtype))


# Sure of class 0: labels 0 (right) and 1 (wrong by 2 * 10 000). x is ten thousand as the dtype holds it.
SURE = [[1.0, -1.0, -1.0], [1.0, -1.0, -1.0]]
RIGHT_AND_WRONG = torch.tensor([0, 1])
UNDECIDED = nn.Linear(2, 3)
nn.init.zeros_(UNDECIDED.weight)
nn.init.zeros_(UNDECIDED.bias)

CLASSES = {
    "cross_entropy": (made("cross_entropy"), lambda x: 2 * x),
    "focal": (made("focal", gamma=2.0), lambda x: 2 * x),
    "focal with alpha": (made("focal", gamma=0.5, alpha=[1.0, 0.25, 1.0]), lambda x: 0.5 * x),
    # Mass on classes that cost 2x: of label 0 the 0.2 / 3 spread to the others, of label 1 its own 0.9 and the same 0.2 / 3.
    "label_smoothing": (LabelSmoothing(epsilon=0.1)(made("cross_entropy")), lambda x: (0.2 / 3 + 0.9 + 0.2 / 3) * 2 * x),
    "class_weights": (ClassWeights(weights=[1.0, 3.0, 1.0])(made("cross_entropy")), lambda x: 6 * x),
}


@HALF_OR_FULL
@pytest.mark.parametrize("name", CLASSES)
def test_sure_mistakes_among_classes_cost_what_they_cost_by_hand(name: str, dtype: torch.dtype) -> None:
    objective, by_hand = CLASSES[name]
    outputs = scores(SURE, dtype)
    (term,) = objective.terms(outputs, Batch(torch.zeros(2, 2), RIGHT_AND_WRONG)).values()
    assert term.sum.item() == pytest.approx(by_hand(outputs[0, 0].item()), rel=1e-6)


@HALF_OR_FULL
def test_an_undecided_teacher_of_a_sure_student_by_hand(dtype: torch.dtype) -> None:
    outputs = scores(SURE, dtype)
    objective = Distillation(teacher=UNDECIDED, temperature=4.0, weight=0.5)(made("cross_entropy"))
    term = objective.terms(outputs, Batch(torch.zeros(2, 2), RIGHT_AND_WRONG))["distillation"]
    # 4^2 * (mean of -log q over the classes - log 3), each of two samples; -log q is 0 and twice 2x / 4.
    by_hand = 2 * 16 * (2 / 3 * 2 * outputs[0, 0].item() / 4 - math.log(3))
    assert term.sum.item() == pytest.approx(by_hand, rel=1e-6)


# Scores x, x, -x, -x with targets 1, 0, 0, 1: right, wrong, right, wrong.
ELEMENTS = {
    "bce": ({}, lambda x: 2 * x),
    "binary_focal": ({"gamma": 2.0, "alpha": 0.25}, lambda x: 0.75 * x + 0.25 * x),
    "mse": ({}, lambda x: (x - 1) ** 2 + x**2 + x**2 + (x + 1) ** 2),
    "mae": ({}, lambda x: (x - 1) + x + x + (x + 1)),
    "huber": ({"delta": 1.0}, lambda x: (x - 1) + x + x + (x + 1) - 4 * 0.5),
}


@HALF_OR_FULL
@pytest.mark.parametrize("name", ELEMENTS)
def test_sure_values_cost_what_they_cost_by_hand(name: str, dtype: torch.dtype) -> None:
    settings, by_hand = ELEMENTS[name]
    outputs = scores([1.0, 1.0, -1.0, -1.0], dtype)
    (term,) = made(name, **settings).terms(outputs, Batch(outputs, torch.tensor([1, 0, 0, 1]))).values()
    assert term.sum.item() == pytest.approx(by_hand(outputs[0].item()), rel=1e-6)


@HALF_OR_FULL
def test_sure_masks_cost_what_they_cost_by_hand(dtype: torch.dtype) -> None:
    # Two pixels of foreground found, one missed, one of background taken for it: 1 - (2 * 2 + 1) / (3 + 3 + 1).
    outputs = scores([[[1.0, 1.0, -1.0, 1.0, -1.0]]], dtype)
    batch = Batch(outputs, torch.tensor([[[1, 1, 1, 0, 0]]]))
    assert made("dice").terms(outputs, batch)["dice"].sum.item() == pytest.approx(2 / 7, rel=1e-6)
    terms = made("bce_dice").terms(outputs, batch)
    assert terms["bce"].sum.item() == pytest.approx(2 * outputs[0, 0, 0].item(), rel=1e-6)
    assert terms["dice"].sum.item() == pytest.approx(2 / 7, rel=1e-6)


@HALF_OR_FULL
def test_sure_masks_of_several_classes_cost_what_they_cost_by_hand(dtype: torch.dtype) -> None:
    # One row of three pixels, classes 0, 1, 1; the model says 0, 1, 0.
    outputs = scores([[[[1.0, -1.0, 1.0]], [[-1.0, 1.0, -1.0]]]], dtype)
    batch = Batch(outputs, torch.tensor([[[0, 1, 1]]]))
    by_hand = 1 - ((2 * 1 + 1) / (2 + 1 + 1) + (2 * 1 + 1) / (1 + 2 + 1)) / 2
    terms = made("bce_dice").terms(outputs, batch)
    assert terms["dice"].sum.item() == pytest.approx(by_hand, rel=1e-6)
    assert terms["cross_entropy"].sum.item() == pytest.approx(2 * outputs[0, 0, 0, 0].item(), rel=1e-6)


@HALF_OR_FULL
def test_embeddings_far_apart_cost_what_they_cost_by_hand(dtype: torch.dtype) -> None:
    left, right = scores([[1.0], [1.0]], dtype), scores([[-1.0], [-1.0]], dtype)
    x = left[0, 0].item()
    pairs = made("contrastive").terms((left, right), Batch((left, right), torch.tensor([1, 0])))
    assert pairs["contrastive"].sum.item() == pytest.approx((2 * x) ** 2, rel=1e-6)
    wrong: Tree = (left, right, left)
    assert made("triplet").terms(wrong, Batch(wrong))["triplet"].sum.item() == pytest.approx(2 * (2 * x + 0.3), rel=1e-6)
    right_way: Tree = (left, left, right)
    assert made("triplet").terms(right_way, Batch(right_way))["triplet"].sum.item() == 0
