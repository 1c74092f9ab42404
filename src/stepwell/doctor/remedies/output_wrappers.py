"""Modules around a model, and losses, that mend what is compared with the targets; outputs stay in the targets' own units."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stepwell.doctor.setup import Loss

NEVER = -1e4  # a raw score whose class gets no probability, and no gradient


class ScaledOutputs(nn.Module):
    """A model whose outputs of mean 0 and spread 1 are brought to the targets' units.

    Args:
        inner: the model.
        mean, spread: of the training targets, to be broadcast over the outputs.
    """

    def __init__(self, inner: nn.Module, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)

    def forward(self, inputs: Any) -> Tensor:
        outputs: Tensor = self.inner(inputs) * self.spread + self.mean
        return outputs


class ScaledLoss:
    """A loss that is taken in units of the targets' spread.

    Args:
        loss: of outputs and targets of mean 0 and spread 1.
        mean, spread: of the training targets.
    """

    def __init__(self, loss: Loss, mean: Tensor, spread: Tensor) -> None:
        self.loss, self.mean, self.spread = loss, mean, spread

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        return self.loss((outputs - self.mean) / self.spread, (targets - self.mean) / self.spread)


class PlacedClasses(nn.Module):
    """A model whose outputs are put at the numbers that the labels really have; numbers that don't occur are never chosen.

    Args:
        inner: the model.
        labels: (num_labels,) the numbers that occur, ascending; as many as the model has outputs at most.
        class_dim: where the outputs have their classes.
    """

    def __init__(self, inner: nn.Module, labels: Tensor, class_dim: int) -> None:
        super().__init__()
        self.inner, self.class_dim = inner, class_dim
        self.register_buffer("labels", labels)

    def forward(self, inputs: Any) -> Tensor:
        found: Tensor = self.inner(inputs).movedim(self.class_dim, -1)
        labels: Tensor = self.get_buffer("labels")
        placed = found.new_full((*found.shape[:-1], int(labels.max()) + 1), NEVER)
        placed[..., labels] = found[..., : len(labels)]
        return placed.movedim(-1, self.class_dim)


class KnownOnly:
    """A loss over those places whose label a class stands for.

    Args:
        loss: of outputs (num_places, num_classes) and labels (num_places,).
        num_classes: labels from 0 to below it are known.
        class_dim: where the outputs have their classes.
    """

    def __init__(self, loss: Loss, num_classes: int, class_dim: int) -> None:
        self.loss, self.num_classes, self.class_dim = loss, num_classes, class_dim

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        labels = targets.reshape(-1)
        known = (labels >= 0) & (labels < self.num_classes)
        scores = outputs.movedim(self.class_dim, -1).reshape(-1, outputs.shape[self.class_dim])
        return self.loss(scores[known], labels[known])


class FlatEntropy:
    """Cross-entropy of class numbers that come as floats or as columns.

    Args:
        share: outputs are shares between 0 and 1 (a sigmoid lies before them), not scores.
    """

    def __init__(self, *, share: bool = False) -> None:
        self.share = share

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        scores = outputs.clamp(1e-6, 1 - 1e-6).logit() if self.share else outputs
        return nn.functional.cross_entropy(scores.reshape(-1, scores.shape[-1]), targets.reshape(-1).long())


class ClassWeighted:
    """A loss in which each class counts by its weight; the loss itself need not know weights.

    Args:
        loss: a mean over rows.
        weights: (num_classes,) of rows of each class.
        one_hot: targets are rows with a single 1.
        class_dim: of outputs with classes at each of several places; these count one by one then.
    """

    def __init__(self, loss: Loss, weights: Tensor, *, one_hot: bool = False, class_dim: int = -1) -> None:
        self.loss, self.weights, self.one_hot, self.class_dim = loss, weights, one_hot, class_dim

    def __call__(self, outputs: Any, targets: Tensor) -> Tensor:
        if outputs.dim() == 3 and targets.dim() == 2 and not self.one_hot:
            moved = outputs.movedim(self.class_dim, -1)
            known = targets.reshape(-1) >= 0  # a class below 0 marks what losses ignore
            outputs = moved.reshape(-1, 1, moved.shape[-1])[known].movedim(-1, self.class_dim)
            targets = targets.reshape(-1, 1)[known]
        labels = (targets.argmax(-1) if self.one_hot else targets.reshape(len(targets), -1)[:, 0]).long()
        total, mass = torch.zeros(()), 0.0
        for label in torch.unique(labels).tolist():
            rows = labels == label
            share = float(self.weights[label]) * int(rows.sum())
            total = total + share * self.loss(outputs[rows], targets[rows])
            mass += share
        return total / mass
