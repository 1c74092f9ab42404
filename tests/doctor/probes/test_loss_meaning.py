"""Losses that want something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from small_setups import bench_of, ids, law, mlp, said, signs
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


def _flags() -> tuple[Tensor, Tensor]:
    inputs, labels = signs()
    return inputs, labels.float().unsqueeze(1)


def _likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.log_softmax(outputs, 1).gather(1, targets.unsqueeze(1)).mean()


def _overlap(outputs: Tensor, targets: Tensor) -> Tensor:
    chances = outputs.sigmoid()
    return 2 * (chances * targets).sum() / (chances + targets).sum()


def _correlation(outputs: Tensor, targets: Tensor) -> Tensor:
    a, b = outputs - outputs.mean(), targets - targets.mean()
    return (a * b).mean() / (a.square().mean().sqrt() * b.square().mean().sqrt() + 1e-6)


@pytest.mark.parametrize(
    ("width", "train", "loss"),
    [
        (2, signs(), _likelihood),
        (1, law(), lambda outputs, targets: -F.mse_loss(outputs, targets)),
        (1, law(), _correlation),
        (2, signs(), lambda outputs, targets: outputs.log_softmax(1)[torch.arange(len(targets)), targets].mean()),
        (1, _flags(), _overlap),
        (1, _flags(), lambda outputs, targets: -F.binary_cross_entropy_with_logits(outputs, targets)),
    ],
)
def test_what_should_grow_is_a_flipped_sign_and_its_negative_is_silent(
    width: int, train: tuple[Tensor, Tensor], loss: Loss
) -> None:
    bench = bench_of(mlp(4, 8, width), train, loss=loss)
    (found,) = said("loss_meaning", bench)
    assert (found.id, found.proof) == ("loss_sign_flipped", "certain")
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup).loss
    assert ids("loss_meaning", bench_of(mlp(4, 8, width), train, loss=mended)) == []


@pytest.mark.parametrize(
    ("width", "train", "loss"),
    [
        (2, signs(), lambda outputs, targets: -F.log_softmax(outputs, 1).mean()),
        (2, signs(), lambda outputs, targets: (outputs - targets.float().unsqueeze(1)).square().mean()),
        (1, _flags(), nn.CrossEntropyLoss()),
        (1, law(), nn.CrossEntropyLoss()),
    ],
)
def test_a_loss_blind_to_the_targets_is_certainly_wrong(width: int, train: tuple[Tensor, Tensor], loss: Loss) -> None:
    (found,) = said("loss_meaning", bench_of(mlp(4, 8, width), train, loss=loss))
    assert (found.id, found.proof) == ("wrong_loss", "certain")
    assert found.evidence["loss_right"] == pytest.approx(found.evidence["loss_wrong"])  # type: ignore[arg-type]


def test_class_zero_that_costs_nothing_is_a_mechanism() -> None:
    def margin(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.softplus(-targets * outputs).mean()  # made for -1 and 1: rows of target 0 always add log 2

    (found,) = said("loss_meaning", bench_of(mlp(4, 8, 1), _flags(), loss=margin))
    assert (found.id, found.proof, found.evidence["class"]) == ("wrong_loss", "mechanism", 1)


def _gaussian(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.gaussian_nll_loss(outputs, targets, torch.full_like(targets, 1e-3))


@pytest.mark.parametrize(
    ("width", "train", "loss"),
    [
        (2, signs(), nn.CrossEntropyLoss()),
        (2, signs(), nn.CrossEntropyLoss(label_smoothing=0.3)),
        (2, signs(), nn.CrossEntropyLoss(weight=torch.tensor([0.1, 5.0]))),
        (2, signs(), nn.MultiMarginLoss()),
        (2, signs(), lambda outputs, targets: F.mse_loss(outputs, F.one_hot(targets, 2).float())),
        (1, _flags(), nn.BCEWithLogitsLoss()),
        (1, _flags(), nn.MSELoss()),
        (1, _flags(), lambda outputs, targets: 1 - _overlap(outputs, targets)),
        (1, law(), nn.MSELoss()),
        (1, law(), nn.HuberLoss()),
        (1, law(), _gaussian),
        (1, (law()[0], law()[1].exp()), nn.PoissonNLLLoss()),
        (1, (law()[0], law()[1].exp()), lambda outputs, targets: F.mse_loss(outputs, targets.log())),
    ],
)
def test_losses_that_want_the_targets_are_healthy_links_and_negative_values_included(
    width: int, train: tuple[Tensor, Tensor], loss: Loss
) -> None:
    assert ids("loss_meaning", bench_of(mlp(4, 8, width), train, loss=loss)) == []


def _bare_overlap(outputs: Tensor, targets: Tensor) -> Tensor:
    return 1 - (2 * (outputs * targets).sum() + 1) / (outputs.sum() + targets.sum() + 1)


def test_an_overlap_of_raw_scores_misses_a_sigmoid_and_has_the_right_sign() -> None:
    inputs = law(400)[0]
    few = inputs, (inputs[:, :1] > 1.8).float()
    bench = bench_of(mlp(4, 8, 1), few, loss=_bare_overlap)
    (found,) = said("loss_meaning", bench)
    assert (found.id, found.proof) == ("missing_output_activation", "certain")
    assert found.remedy.change is not None
    assert ids("loss_meaning", bench_of(mlp(4, 8, 1), few, loss=found.remedy.change(bench.setup).loss)) == []
