"""Remedies of rows, their scale, their labels and their batches."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from stepwell.doctor.remedies.input_wrappers import FilledInputs, MappedInputs, StandardInputs
from stepwell.doctor.remedies.output_wrappers import (
    ClassWeighted,
    KnownOnly,
    PlacedClasses,
    ScaledLoss,
    ScaledOutputs,
)
from stepwell.doctor.rows import Rows, tensors
from stepwell.doctor.scales import Scale, scale_of, scale_of_all
from stepwell.doctor.setup import Setup


def finite_rows(rows: Rows) -> Tensor:
    """Which rows have finite inputs only, (num_rows,)."""
    kept = torch.ones(len(rows), dtype=torch.bool)
    for part in tensors(rows.inputs):
        if part.is_floating_point() and part.dim() > 0:
            kept &= torch.isfinite(part.reshape(len(part), -1)).all(1)
    return kept


def without_rows(setup: Setup, dropped: Tensor) -> Setup:
    """Training rows without some of them; `dropped` is (num_rows,), true where a row goes."""
    return setup.change(train=setup.train.take(~dropped))


def filled(setup: Setup) -> Setup:
    """A cell that isn't finite becomes the mean of the training rows' same cell; in the model, so that validation works too."""
    fills: list[Tensor | None] = []
    for part in tensors(setup.train.inputs):
        if not part.is_floating_point() or part.dim() < 2:
            fills.append(None)
            continue
        finite = torch.isfinite(part)
        mean = torch.where(finite, part, part.new_zeros(())).sum(0) / finite.sum(0).clamp(min=1)
        fills.append(mean)
    copied = setup.copied()
    return copied.change(model=FilledInputs(copied.model, fills))


def standardised(setup: Setup, chosen: tuple[bool, ...], *, by: Literal["features", "all"] = "features") -> Setup:
    """Inputs of mean 0 and spread 1 by the training rows, in the model; `chosen` says which tensors of the inputs.

    Args:
        by: "all" takes one mean and one spread of all numbers of a tensor.
    """
    of = scale_of if by == "features" else scale_of_all
    scales = [of(part) if take else None for part, take in zip(tensors(setup.train.inputs), chosen, strict=True)]
    copied = setup.copied()
    means = [None if one is None else one.mean for one in scales]
    spreads = [None if one is None else one.safe_spread for one in scales]
    return copied.change(model=StandardInputs(copied.model, means, spreads))


def scaled_targets(setup: Setup, scale: Scale) -> Setup:
    """The model learns targets of mean 0 and spread 1, and answers in their units."""
    copied = setup.copied()
    mean, spread = scale.mean, scale.safe_spread
    return copied.change(model=ScaledOutputs(copied.model, mean, spread), loss=ScaledLoss(setup.loss, mean, spread))


def placed_labels(setup: Setup, labels: Tensor, class_dim: int) -> Setup:
    """Outputs stand for the label numbers that occur."""
    copied = setup.copied()
    return copied.change(model=PlacedClasses(copied.model, labels, class_dim))


def mapped_labels(setup: Setup, labels: Tensor) -> Setup:
    """Labels of both splits become their place among those that occur: negative ones can't be placed among outputs."""

    def mapped(rows: Rows) -> Rows:
        return rows.with_targets(torch.searchsorted(labels, rows.targets.contiguous()).clamp(max=len(labels) - 1))

    return setup.change(train=mapped(setup.train), val=None if setup.val is None else mapped(setup.val))


def known_only(setup: Setup, num_classes: int, class_dim: int) -> Setup:
    """Labels that no class stands for don't count; rows of nothing else go."""
    labels = setup.train.targets.reshape(len(setup.train), -1)
    known = (labels >= 0) & (labels < num_classes)
    kept = setup.change(train=setup.train.take(known.any(1)))
    return kept if bool(known.any(1).eq(known.all(1)).all()) else kept.change(loss=KnownOnly(setup.loss, num_classes, class_dim))


def class_weights(setup: Setup, counts: Tensor, *, one_hot: bool = False, class_dim: int = -1) -> Setup:
    """Every class counts the same altogether: weights are the inverse of the classes' counts, 1 on average over rows."""
    weights = counts.sum() / (counts.clamp(min=1) * (counts > 0).sum())
    return setup.change(loss=ClassWeighted(setup.loss, weights.float(), one_hot=one_hot, class_dim=class_dim))


def shifted(setup: Setup, shift: int, *, val: bool = False) -> Setup:
    """Row i of the training inputs gets the targets of row i + shift; rows without such a partner go.

    Args:
        shift: in rows, of either sign.
        val: whether validation rows are moved alike.
    """

    def moved(rows: Rows) -> Rows:
        size = len(rows) - abs(shift)
        inputs = rows.take(slice(max(-shift, 0), max(-shift, 0) + size))
        return inputs.with_targets(rows.take(slice(max(shift, 0), max(shift, 0) + size)).targets)

    return setup.change(train=moved(setup.train), val=moved(setup.val) if val and setup.val is not None else setup.val)


def shuffled(setup: Setup) -> Setup:
    """Rows in a new order each epoch."""
    return setup.change(shuffle=True)


def in_units_of_validation(setup: Setup, factor: Tensor, shift: Tensor) -> Setup:
    """Training rows are brought to the units that validation rows have, and the model maps both back: factor * val + shift is
    what the model was made for. Validation rows stay as they are."""
    copied = setup.copied()
    train = setup.train.with_inputs((setup.train.inputs - shift) / factor)
    return copied.change(train=train, model=MappedInputs(copied.model, factor, shift))


def larger_batches(setup: Setup, batch_size: int) -> Setup:
    """Larger batches, and more epochs so that steps stay as many; at most eight times as many epochs."""
    per_epoch = math.ceil(len(setup.train) / batch_size)
    epochs = min(math.ceil(setup.num_steps / per_epoch), 8 * setup.epochs)
    return setup.change(batch_size=batch_size, epochs=max(epochs, setup.epochs))


def fitting_batch_size(num_rows: int, batch_size: int) -> int:
    """The next smaller batch size that divides the rows or leaves more than half of a batch."""
    for size in range(batch_size - 1, 1, -1):
        if num_rows % size == 0 or num_rows % size > size // 2:
            return size
    return batch_size + 1


def fitting_batches(setup: Setup) -> Setup:
    """A batch size that leaves no last batch of one row."""
    return setup.change(batch_size=fitting_batch_size(setup.train.num_there, setup.batch_size))


def reordered(setup: Setup) -> Setup:
    """Training targets from last to first."""
    return setup.change(train=setup.train.with_targets(setup.train.targets.flip(0)))


def more_rows_a_batch(setup: Setup, batch_size: int) -> Setup:
    """Larger batches at as many epochs: fewer steps, each of less noise."""
    return setup.change(batch_size=batch_size)


def coded_as_shares(setup: Setup, labels: Tensor) -> Setup:
    """Two values become 0 and 1, of the targets' own type."""
    mended, dtype = mapped_labels(setup, labels), setup.train.targets.dtype
    val = None if mended.val is None else mended.val.with_targets(mended.val.targets.to(dtype))
    return mended.change(train=mended.train.with_targets(mended.train.targets.to(dtype)), val=val)
