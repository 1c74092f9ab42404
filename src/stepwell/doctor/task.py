"""What is to be learnt, read off the outputs, the targets and their shapes; and how well it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Weighting = Literal["rows", "classes"]
FEW = 20  # distinct whole numbers: more are taken for counts or quantities, not for classes


@dataclass(frozen=True)
class Task:
    """The kind of targets.

    Args:
        kind: "classes": one of several, as numbers or one-hot rows; "binary": yes or no, one output each; "multi_label": several
            of them per row; "quantity": real numbers; "unknown": outputs and targets that fit in no known way.
        num_classes: of "classes", as the targets have them (largest + 1); 2 for yes or no.
        class_dim: the dimension of the outputs along which classes lie.
        one_hot: targets are rows with a single 1.
    """

    kind: Literal["classes", "binary", "multi_label", "quantity", "unknown"]
    num_classes: int = 0
    class_dim: int = -1
    one_hot: bool = False

    @property
    def categorical(self) -> bool:
        return self.kind in ("classes", "binary", "multi_label")

    def labels(self, targets: Tensor) -> Tensor:
        """Class numbers, flat."""
        return (targets.argmax(-1) if self.one_hot else targets).reshape(-1).long()

    def guesses(self, outputs: Tensor) -> Tensor:
        """The classes that outputs stand for, flat; of yes-or-no outputs within 0 and 1 the border is one half, else 0."""
        if self.kind == "classes":
            return outputs.movedim(self.class_dim, -1).reshape(-1, outputs.shape[self.class_dim]).argmax(1)
        flat = outputs.reshape(-1)
        return (flat > (0.5 if _probabilities(flat) else 0.0)).long()

    def skill(self, outputs: Any, targets: Any, *, weighting: Weighting = "rows") -> float | None:
        """Accuracy of classes, R2 (at least 0) of quantities; None where it can't be told.

        Args:
            weighting: "classes" takes the mean over classes, so that rare ones count as much.
        """
        if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or self.kind == "unknown":
            return None
        if not bool(torch.isfinite(outputs).all()):
            return 0.0
        if self.kind == "quantity":
            if outputs.numel() != targets.numel():
                return None
            error = (outputs.reshape(-1).double() - targets.reshape(-1).double()).square().mean()
            spread = targets.double().var(correction=0)
            return max(0.0, 1.0 - float(error / spread)) if float(spread) > 0 else None
        guesses, labels = self.guesses(outputs), self.labels(targets)
        if len(guesses) != len(labels):
            return None
        known = labels >= 0  # a class below 0 marks what losses ignore
        guesses, labels = guesses[known], labels[known]
        if not len(labels):
            return None
        right = (guesses == labels).double()
        if weighting == "rows":
            return float(right.mean())
        return float(torch.stack([right[labels == label].mean() for label in torch.unique(labels).tolist()]).mean())

    def trivial(self, targets: Tensor) -> float:
        """The skill of always saying the same."""
        if self.kind == "quantity" or self.kind == "unknown":
            return 0.0
        labels = self.labels(targets)
        counts = torch.bincount(labels[labels >= 0])
        return float(counts.max() / counts.sum()) if len(counts) else 0.0


def _probabilities(flat: Tensor) -> bool:
    return bool(((flat >= 0) & (flat <= 1)).all())


def task_of(outputs: Any, targets: Any) -> Task:
    """The task that outputs (of a forward pass) and targets belong to, both with rows first."""
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or len(outputs) == 0:
        return Task("unknown")
    values = torch.unique(targets[:4096])
    whole = not targets.is_floating_point() or bool((values == values.round()).all())
    one_each = outputs.numel() == targets[: len(outputs)].numel()
    yes_or_no = whole and len(values) <= 2 and bool(((values == 0) | (values == 1)).all())
    if whole and not targets.is_floating_point() and not one_each:
        dim = class_dim_of(outputs, targets)
        if dim is not None:
            return Task("classes", max(int(targets.max()) + 1, 2), dim)
    if yes_or_no and one_each and outputs.dim() >= 2 and outputs.shape[-1] > 1:
        one_hot = targets.dim() == outputs.dim() and bool((targets.sum(-1) == 1).all())
        return Task("classes", outputs.shape[-1], -1, one_hot=True) if one_hot else Task("multi_label", 2)
    if yes_or_no and one_each:
        return Task("binary", 2)
    if targets.is_floating_point() and one_each and outputs.dim() >= 2 and outputs.shape[-1] > 1 and _shares(targets):
        return Task("classes", outputs.shape[-1], -1, one_hot=True)
    if one_each:
        return Task("quantity")
    if whole and len(values) <= FEW and (dim := class_dim_of(outputs, targets)) is not None:
        return Task("classes", max(int(targets.max()) + 1, 2), dim)
    return Task("quantity") if targets.is_floating_point() and len(outputs) <= len(targets) else Task("unknown")


def class_dim_of(outputs: Tensor, targets: Tensor) -> int | None:
    """Where classes lie: (N, C) and (N, T, C) have them last, (N, C, T) in the middle."""
    inner = tuple(targets.shape[1:])
    if inner == (1,) and outputs.dim() == 2:
        inner = ()
    if outputs.dim() != len(inner) + 2:
        return None
    if tuple(outputs.shape[1:-1]) == inner:
        return -1
    return 1 if tuple(outputs.shape[2:]) == inner else None


def _shares(targets: Tensor) -> bool:
    return bool((targets >= 0).all()) and bool(((targets.sum(-1) - 1).abs() < 1e-4).all())
