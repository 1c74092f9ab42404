"""Class targets as mass over classes, so that mixup, label smoothing, class weights and distillation compose.

A position is one sample (N,) or one token (N, T). Its target is a class number, or a row of mass over the K classes:
probabilities, or probabilities times class weights, so a row need not add up to one. The loss of a position is
sum over k of mass_k * -log softmax(logits)_k, and the count that divides the step is the mass of all positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepwell.core.batch import Batch, Tree
from stepwell.core.errors import DataError
from stepwell.core.slots import Counts, Objective, Terms

__all__ = [
    "ClassObjective",
    "Modifier",
    "class_counts",
    "class_targets",
    "class_weights_at",
    "cross_entropy_sum",
    "position_mass",
    "soft_targets",
    "unit_of",
    "wide_dtype",
]

# A label that no target has: for targets of which nothing is ignored, so that torch refuses what is out of range.
_NEVER = -(2**62)


class ClassObjective(Objective):
    """An objective over per-class scores, classes in the last dimension."""

    @property
    def num_classes(self) -> int | None:
        """K, where the objective knows it before it sees outputs (it has one weight per class)."""
        return None

    def ignored_label(self, targets: Tensor) -> int | None:
        """The class number that means "not a target" in these targets, or None where every position counts."""
        return None


class Modifier(ClassObjective):
    """An objective around another: whatever it leaves alone is the inner one's."""

    def __init__(self, inner: Objective) -> None:
        self.inner = inner
        self.decomposable = inner.decomposable

    @property
    def num_classes(self) -> int | None:
        return self.inner.num_classes if isinstance(self.inner, ClassObjective) else None

    def ignored_label(self, targets: Tensor) -> int | None:
        return self.inner.ignored_label(targets) if isinstance(self.inner, ClassObjective) else None

    def forward(self, model: nn.Module, batch: Batch) -> Tree:
        return self.inner.forward(model, batch)

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        return self.inner.terms(outputs, batch)

    def counts(self, batch: Batch) -> Counts:
        return self.inner.counts(batch)


def class_targets(batch: Batch, name: str) -> Tensor:
    """The targets of a batch, which must be one tensor.

    Raises:
        DataError: none, or a tree of several.
    """
    targets = batch.targets
    if not isinstance(targets, Tensor):
        what = "has no targets" if targets is None else f"has targets in a {type(targets).__name__}"
        raise DataError(
            f"{name} got a batch that {what}",
            expected="one tensor of targets",
            fix="Give the data as (inputs, targets), or pass your own loss as a callable (outputs, targets)",
        )
    return targets


def unit_of(targets: Tensor) -> str:
    """What class targets count: "samples" for (N,) numbers and (N, K) mass, "tokens" for sequences.

    >>> unit_of(torch.zeros(4, dtype=torch.int64)), unit_of(torch.zeros(4, 10)), unit_of(torch.zeros(4, 7, 10))
    ('samples', 'samples', 'tokens')
    """
    return "samples" if targets.ndim == (2 if targets.is_floating_point() else 1) else "tokens"


def wide_dtype(device: torch.device) -> torch.dtype:
    """What counts are summed in, so that they don't depend on how a step was cut: fp64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def soft_targets(targets: Tensor, num_classes: int, *, ignored: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Targets as mass over classes.

    Args:
        targets: class numbers (N,) or (N, T), or mass (N, K) or (N, T, K), which is given back as it is.
        num_classes: K.
        ignored: class number whose positions get no mass at all.
        dtype: of the result, for class numbers; torch's default where None.

    Raises:
        DataError: a class number outside 0..K-1; mass over another number of classes.

    >>> soft_targets(torch.tensor([1, -100]), 2, ignored=-100).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    if targets.is_floating_point():
        if targets.shape[-1] != num_classes:
            raise _wrong_width(targets.shape[-1], num_classes)
        return targets
    labels = targets.long().unsqueeze(-1)
    mass = torch.zeros((*targets.shape, num_classes), dtype=dtype or torch.get_default_dtype(), device=targets.device)
    if ignored is None:
        try:
            return mass.scatter_(-1, labels, 1.0)
        except RuntimeError as error:
            raise _out_of_range(num_classes) from error
    kept = labels != ignored
    try:
        return mass.scatter_(-1, labels.where(kept, 0), kept.to(mass.dtype))
    except RuntimeError as error:
        raise _out_of_range(num_classes) from error


def cross_entropy_sum(logits: Tensor, targets: Tensor, *, weights: Tensor | None = None, ignored: int | None = None) -> Tensor:
    """Cross-entropy summed over positions, a scalar.

    Args:
        logits: (N, K) or (N, T, K), classes last.
        targets: class numbers (N,) or (N, T); or mass (N, K) or (N, T, K), which need not add up to one.
        weights: of samples (N,) or of positions (N, T); None for ones.
        ignored: class number whose positions count nothing.

    Raises:
        DataError: shapes that don't fit; a class number outside 0..K-1.

    >>> round(float(cross_entropy_sum(torch.zeros(3, 4), torch.tensor([0, 1, 3]))), 4)  # 3 log 4
    4.1589
    """
    _check_shapes(logits, targets)
    num_classes = logits.shape[-1]
    flat = logits if logits.ndim == 2 else logits.reshape(-1, num_classes)
    if targets.is_floating_point():
        mass = targets if weights is None else targets * _spread(weights, targets.ndim)
        mass = mass.to(flat.dtype)
        return F.cross_entropy(flat, mass if mass.ndim == 2 else mass.reshape(-1, num_classes), reduction="sum")
    labels = targets if targets.ndim == 1 else targets.reshape(-1)
    labels = labels if labels.dtype == torch.int64 else labels.long()
    skip = _NEVER if ignored is None else ignored
    try:
        if weights is None:
            return F.cross_entropy(flat, labels, reduction="sum", ignore_index=skip)
        losses = F.cross_entropy(flat, labels, reduction="none", ignore_index=skip)
    except IndexError as error:
        raise _out_of_range(num_classes) from error
    return (losses.reshape(targets.shape) * _spread(weights, targets.ndim).to(losses.dtype)).sum()


def position_mass(batch: Batch, *, ignored: int | None = None) -> Tensor | None:
    """How much each position of a batch counts, (N,) or (N, T); None where every one counts 1.

    The mass of its row, or 1 for a class number (0 for an ignored one), times the sample's weight.
    """
    targets, weights = class_targets(batch, "position_mass"), batch.weights
    if targets.is_floating_point():
        mass: Tensor | None = targets.sum(-1)
    else:
        mass = None if ignored is None else targets != ignored
    if weights is None:
        return mass
    wide = _spread(weights, targets.ndim - 1 if targets.is_floating_point() else targets.ndim)
    return wide.expand(targets.shape) if mass is None else mass * wide


def class_counts(batch: Batch, *, ignored: int | None = None) -> Counts:
    """{unit: mass of all positions}. A plain int, at no cost, for class numbers without weights or ignored ones."""
    targets = class_targets(batch, "class_counts")
    if targets.is_floating_point() and batch.weights is None:
        return {unit_of(targets): targets.sum()}
    mass = position_mass(batch, ignored=ignored)
    return {unit_of(targets): targets.numel() if mass is None else mass.sum()}


def class_weights_at(targets: Tensor, table: Tensor) -> Tensor:
    """The weight of each class number, (N,) or (N, T), from a table (K,); numbers outside it (ignored ones) get an end's."""
    return table[targets.long().clamp(0, table.shape[0] - 1)]


def _spread(weights: Tensor, ndim: int) -> Tensor:
    # (N,) or (N, T) against (N, T, K): each weight stands for everything behind it.
    return weights if weights.ndim == ndim else weights.reshape(weights.shape + (1,) * (ndim - weights.ndim))


def _check_shapes(logits: Tensor, targets: Tensor) -> None:
    fits = logits.shape if targets.is_floating_point() else logits.shape[:-1]
    if logits.ndim >= 2 and targets.shape == fits:
        return
    if targets.is_floating_point() and targets.ndim == logits.ndim - 1:
        fix = "Class numbers must be integers: convert the targets with .long()"
    elif logits.ndim == targets.ndim and not targets.is_floating_point() and targets.shape[-1] == 1:
        fix = "Drop the last dimension of the targets with .squeeze(-1)"
    elif logits.ndim > 2 and (logits.shape[0], *logits.shape[2:]) == targets.shape:
        fix = "Move the class dimension of the outputs to the end with .movedim(1, -1)"
    else:
        fix = "Check the model's last layer and the kind of task"
    raise DataError(
        f"cross-entropy got outputs {tuple(logits.shape)} and {targets.dtype} targets {tuple(targets.shape)}",
        expected="outputs (N, K) or (N, T, K), classes last, with integer targets (N,) or (N, T) or class mass shaped alike",
        fix=fix,
    )


def _out_of_range(num_classes: int) -> DataError:
    return DataError(
        f"a target is not one of the {num_classes} classes",
        expected=f"class numbers from 0 to {num_classes - 1}",
        fix="Give the model one output per class; to leave targets out, set cross_entropy's ignore_index and ignored: everywhere",
    )


def _wrong_width(width: int, num_classes: int) -> DataError:
    return DataError(
        f"targets hold mass over {width} classes, but there are {num_classes}",
        expected="one column per class",
        fix="Check num_classes, class weights and the model's last layer",
    )
