"""The mathematics of every objective runs over a leading replica dimension with torch.vmap, each replica as on its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stepwell.techniques import (
    batch_dice_loss,
    bce_sum,
    binary_focal_sum,
    contrastive_losses,
    cross_entropy_sum,
    dice_losses,
    distillation_losses,
    focal_sum,
    huber_sum,
    mae_sum,
    mse_sum,
    pixel_losses,
    smooth_targets,
    triplet_losses,
)

REPLICAS = 3


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([0, 2, 1, -100, 2])
MASS, GOAL, MASKS = draws(5, 3, seed=1).softmax(-1), draws(5, 3, seed=2).sigmoid(), draws(5, 2, 6, seed=3).softmax(1)
WEIGHTS, SAME, KEPT = draws(5, seed=4).abs(), torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0]), draws(5, 1, 6, seed=5).sigmoid()

# name -> (function of outputs alone, shape of one replica's outputs)
LOSSES: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "mae": (lambda x: mae_sum(x, GOAL, weights=WEIGHTS), (5, 3)),
    "mse": (lambda x: mse_sum(x, GOAL, weights=WEIGHTS), (5, 3)),
    "huber": (lambda x: huber_sum(x, GOAL, delta=0.5, weights=WEIGHTS), (5, 3)),
    "bce": (lambda x: bce_sum(x, GOAL, weights=WEIGHTS, positive_weight=torch.tensor([1.0, 2.0, 3.0])), (5, 3)),
    "binary_focal": (lambda x: binary_focal_sum(x, GOAL, alpha=0.25, weights=WEIGHTS), (5, 3)),
    "cross_entropy labels": (lambda x: cross_entropy_sum(x, LABELS, weights=WEIGHTS, ignored=-100), (5, 3)),
    "cross_entropy mass": (lambda x: cross_entropy_sum(x, MASS, weights=WEIGHTS), (5, 3)),
    "focal labels": (lambda x: focal_sum(x, LABELS, weights=WEIGHTS, ignored=-100), (5, 3)),
    "focal mass": (lambda x: focal_sum(x, MASS, gamma=0.5, alpha=torch.tensor([0.1, 0.2, 0.7])), (5, 3)),
    "dice": (lambda x: dice_losses(x, MASKS), (5, 2, 6)),
    "dice of one score": (lambda x: dice_losses(x, MASKS[:, :1], kept=KEPT), (5, 1, 6)),
    "dice of a batch": (lambda x: batch_dice_loss(x, MASKS, weights=WEIGHTS), (5, 2, 6)),
    "pixels": (lambda x: pixel_losses(x, MASKS), (5, 2, 6)),
    "pixels of one score": (lambda x: pixel_losses(x, MASKS[:, :1], kept=KEPT), (5, 1, 6)),
    "contrastive": (lambda x: contrastive_losses(x[:, 0], x[:, 1], SAME), (5, 2, 3)),
    "triplet": (lambda x: triplet_losses(x[:, 0], x[:, 1], x[:, 2]), (5, 3, 3)),
    "label_smoothing": (lambda x: cross_entropy_sum(x, smooth_targets(MASS, 0.1)), (5, 3)),
    "distillation": (lambda x: distillation_losses(x, GOAL, 4.0), (5, 3)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_of_replicas_at_once_are_those_of_each_alone(name: str) -> None:
    loss, shape = LOSSES[name]
    together = draws(REPLICAS, *shape, seed=9).requires_grad_()
    alone = draws(REPLICAS, *shape, seed=9).requires_grad_()
    at_once = torch.vmap(loss)(together)
    one_by_one = torch.stack([loss(outputs) for outputs in alone])
    torch.testing.assert_close(at_once, one_by_one, rtol=1e-12, atol=1e-14)
    at_once.sum().backward()
    one_by_one.sum().backward()
    torch.testing.assert_close(together.grad, alone.grad, rtol=1e-12, atol=1e-14)
