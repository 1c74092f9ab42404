"""What simple methods reach on the same rows: below that a network has missed something, at it nothing is proven wrong.

Nearest neighbours, a ridge over the columns, and ridges over random rectified features (Rahimi & Recht, NeurIPS 2007) and over
what doesn't depend on place (counts of tokens, sizes of waves), all in closed form: a fraction of a second, and no training that
could itself go wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stepwell.doctor.rows import Rows, joined, tensors
from stepwell.doctor.task import Task, Weighting

MOST_COLUMNS = 1024
NUM_FEATURES = 384
NEIGHBOURS = 7
ABOUT = 0.9  # of the most common class's rows: classes dealt evenly on purpose
MOST_KINDS, MOST_PAIRED = 1024, 32  # kinds of tokens that are counted, and whose pairs are counted too
RIDGES = (1e-3, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class Reference:
    """Validation skill of each method: accuracy or R2, as `Task.skill`.

    Args:
        trivial: always the same answer, the best one.
        common: always the training rows' most common answer.
        linear, neighbours, features, placeless: of the methods, the last one over what doesn't depend on place; 0 where a method
            can't be applied.
    """

    trivial: float
    linear: float
    neighbours: float
    features: float
    common: float
    placeless: float = 0.0
    balanced: float = 0.0

    @property
    def best(self) -> float:
        """What training rows are known to tell; the best constant answer needn't be told, where they have other shares."""
        return max(self.common, *self.methods)

    @property
    def methods(self) -> tuple[float, ...]:
        """Skills of the methods, always in this order."""
        return self.linear, self.neighbours, self.features, self.placeless


def columns_of(inputs: Any) -> Tensor | None:
    """All inputs of a row as numbers in one line, (num_rows, num_columns); whole numbers of few kinds become indicators.

    None where there is nothing to look at, or too much.
    """
    parts = []
    for part in tensors(inputs):
        if part.dim() == 0:
            return None
        flat = part.reshape(len(part), -1)
        if not flat.is_floating_point() and flat.dtype != torch.bool:
            num_kinds = int(flat.max()) + 1 if flat.numel() else 0
            if int(flat.min()) < 0 or num_kinds > 512 or num_kinds * flat.shape[1] > 16 * MOST_COLUMNS:
                flat = flat.float()
            else:
                flat = torch.nn.functional.one_hot(flat.long(), num_kinds).reshape(len(flat), -1).float()
        parts.append(flat.float())
    if not parts:
        return None
    columns = torch.cat(parts, 1)
    columns = torch.where(torch.isfinite(columns), columns, torch.zeros(()))
    if columns.shape[1] > MOST_COLUMNS:
        draw = torch.Generator().manual_seed(0)
        columns = columns @ torch.randn(columns.shape[1], MOST_COLUMNS, generator=draw) / columns.shape[1] ** 0.5
    return columns


def free_of_place(inputs: Any) -> Tensor | None:
    """What doesn't depend on where something lies, (num_rows, num_columns): sizes of waves, counts of tokens and pairs."""
    parts = tensors(inputs)
    if len(parts) != 1 or parts[0].dim() < 2:
        return None
    part = parts[0]
    if part.is_floating_point():
        if part.dim() < 3:
            return None
        finite = torch.where(torch.isfinite(part), part, part.new_zeros(())).float()
        dims = (-2, -1) if part.dim() >= 4 else (1,)
        sizes = torch.fft.fftn(finite, dim=dims).abs().log1p().reshape(len(part), -1)
        return sizes if sizes.shape[1] <= 2048 else None
    if part.dim() != 2 or int(part.min()) < 0 or int(part.max()) >= MOST_KINDS:
        return None
    num_kinds = int(part.max()) + 1
    if num_kinds > MOST_PAIRED:
        return torch.zeros(len(part), num_kinds).scatter_add_(1, part.long(), torch.ones(part.shape))
    pairs = part[:, :-1] * num_kinds + part[:, 1:]
    counts = torch.zeros(len(part), num_kinds * (num_kinds + 1))
    counts.scatter_add_(1, part.long(), torch.ones(part.shape))
    return counts.scatter_add_(1, pairs.long() + num_kinds, torch.ones(pairs.shape))


def reference_of(train: Rows, val: Rows, task: Task) -> Reference | None:
    """Fit the methods on `train`, judge them on `val`; None where rows or targets have no such form."""
    if task.kind not in ("classes", "binary", "quantity") or not isinstance(train.targets, Tensor):
        return None
    try:
        both = joined([train.inputs, val.inputs])  # in one: as many kinds of tokens in either
    except (RuntimeError, LookupError, TypeError):  # rows of another form
        return None
    columns, free = columns_of(both), free_of_place(both)
    wanted, truth = _wanted(train.targets, task), val.targets
    if columns is None or len(wanted) + len(val) != len(columns):
        return None
    x, x_val = _standard(columns, len(wanted))
    one_output = Task("quantity") if task.kind == "quantity" else Task("classes", wanted.shape[1], -1, one_hot=task.one_hot)

    def judged(outputs: Tensor, weighting: Weighting = "rows") -> float:
        shaped = outputs.reshape(truth.shape) if task.kind == "quantity" else outputs
        return one_output.skill(shaped, truth, weighting=weighting) or 0.0

    near = torch.cdist(x_val, x).topk(min(NEIGHBOURS, len(x)), largest=False).indices
    lines, bends = _ridges(x, wanted, x_val), _ridges(_rectified(x), wanted, _rectified(x_val))
    counts: list[Tensor] = []
    if free is not None:
        x, x_val = _standard(free, len(wanted))
        counts = _ridges(x, wanted, x_val)
    means = wanted[near].mean(1)
    balanced = max(judged(outputs, "classes") for outputs in (*lines, *bends, *counts, means)) if task.categorical else 0.0
    return Reference(
        trivial=task.trivial(truth),
        linear=max(judged(outputs) for outputs in lines),
        neighbours=judged(means),
        features=max(judged(outputs) for outputs in bends),
        placeless=max((judged(outputs) for outputs in counts), default=0.0),
        common=_common(train.targets, truth, task),
        balanced=balanced,
    )


def _standard(columns: Tensor, num_train: int) -> tuple[Tensor, Tensor]:
    """Columns of training and of validation rows, by the training rows' means and spreads."""
    x, x_val = columns[:num_train], columns[num_train:]
    center, scale = x.mean(0), x.std(0, correction=0).clamp(min=1e-8)
    return (x - center) / scale, ((x_val - center) / scale).clamp(-20, 20)


def _common(targets: Tensor, truth: Any, task: Task) -> float:
    """Validation skill of always saying what is most common in training; the mean of several that are about as common."""
    if not task.categorical:
        return 0.0
    known, labels = task.labels(targets), task.labels(truth)
    known, labels = known[known >= 0], labels[labels >= 0]
    counts = torch.bincount(known)
    most = (counts >= ABOUT * counts.max()).nonzero().squeeze(1) if len(counts) else counts
    return float(torch.stack([(labels == one).double().mean() for one in most]).mean()) if len(most) and len(labels) else 0.0


def _wanted(targets: Tensor, task: Task) -> Tensor:
    """Targets as columns of numbers: indicators of classes, or the quantities."""
    if task.kind == "quantity":
        return targets.reshape(len(targets), -1).float()
    labels = task.labels(targets)
    return torch.nn.functional.one_hot(labels.clamp(min=0), max(task.num_classes, int(labels.max()) + 1)).float()


def _rectified(x: Tensor) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    weights = torch.randn(x.shape[1], NUM_FEATURES, generator=draw) / x.shape[1] ** 0.5
    return torch.cat([(x @ weights + torch.randn(NUM_FEATURES, generator=draw)).relu(), x], 1)


def _ridges(x: Tensor, wanted: Tensor, x_val: Tensor) -> list[Tensor]:
    """Outputs over `x_val` of ridges of several strengths."""
    mean = wanted.mean(0)
    center = x.mean(0)
    x, x_val = (x - center).double(), (x_val - center).double()
    wanted = (wanted - mean).double()
    found = []
    tall = x.shape[1] <= len(x)
    inner = x.T @ x if tall else x @ x.T
    unit = torch.eye(len(inner), dtype=torch.float64) * max(0.1 * float(inner.diagonal().mean()), 1e-9)
    for strength in RIDGES:
        damped = inner + strength * unit
        weights = torch.linalg.solve(damped, x.T @ wanted) if tall else x.T @ torch.linalg.solve(damped, wanted)
        found.append((x_val @ weights).float() + mean)
    return found
