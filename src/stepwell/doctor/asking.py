"""Asking a loss: what it says of outputs that are right, wrong, always the same, or far out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.bench import Bench
from stepwell.doctor.calls import Reach, reach_of
from stepwell.doctor.setup import Loss
from stepwell.doctor.task import Task

HEIGHT = 8.0  # of the right score above the others: a chance of 0.999 among a few classes
Domain = Literal["scores", "probabilities", "log_probabilities"]


@dataclass(frozen=True)
class Asked:
    """A loss with outputs and targets of the same rows.

    Args:
        loss: as the setup has it.
        task: what is learnt.
        outputs: of the untrained model.
        targets: of the same rows.
        domain: what kind of number the outputs of a class are; "scores" for quantities.
        reach: how far outputs can be brought; None where it isn't known.
    """

    loss: Loss
    task: Task
    outputs: Tensor
    targets: Tensor
    domain: Domain
    reach: Reach | None

    def __call__(self, outputs: Tensor, targets: Tensor | None = None) -> float:
        """The loss, nan where it fails."""
        return value_of(self.loss, outputs, self.targets if targets is None else targets)

    @property
    def labels(self) -> Tensor:
        return self.task.labels(self.targets)

    @property
    def num_classes(self) -> int:
        """As the outputs have them."""
        return self.outputs.shape[self.task.class_dim] if self.task.kind == "classes" else 2

    def raised(self, labels: Tensor, height: float = HEIGHT) -> Tensor:
        """Outputs that stand for these classes, in the shape and the domain of the model's."""
        if self.task.kind == "classes":
            moved = self.outputs.movedim(self.task.class_dim, -1)
            flat = torch.zeros(moved.numel() // moved.shape[-1], moved.shape[-1])
            flat[torch.arange(len(flat)), labels] = height
            scores = flat.reshape(moved.shape).movedim(-1, self.task.class_dim)
        else:
            scores = (height * (2.0 * labels.float() - 1.0)).reshape(self.outputs.shape)
        return self.in_domain(scores)

    def in_domain(self, scores: Tensor) -> Tensor:
        """Scores as the kind of number that the model gives."""
        if self.domain == "scores":
            return scores
        if self.task.kind != "classes":
            return scores.sigmoid()
        chances = scores.softmax(self.task.class_dim)
        return chances if self.domain == "probabilities" else chances.log()

    def constant(self) -> Tensor:
        """The best answer that is the same for all rows."""
        if self.task.kind == "quantity":
            middle = self.targets.float().mean() if self.targets.dim() < 2 else self.targets.float().mean(0)
            return middle.expand(self.targets.shape).reshape(self.outputs.shape).clone()
        if self.task.kind == "classes":
            shares = torch.bincount(self.labels, minlength=self.num_classes).float() / len(self.labels)
            moved = self.outputs.movedim(self.task.class_dim, -1)
            return self.in_domain(shares.clamp(min=1e-4).log().expand(moved.shape).movedim(-1, self.task.class_dim).clone())
        share = self.targets.float().mean().clamp(1e-4, 1 - 1e-4)
        return self.in_domain(torch.full_like(self.outputs, float((share / (1 - share)).log())))


def value_of(loss: Loss, outputs: Tensor, targets: Any) -> float:
    """A loss without gradients; nan where it fails or gives no single number."""
    try:
        with torch.no_grad(), seeded_defaults(0):
            value = loss(outputs.clone(), targets)
        return float(value) if value.numel() == 1 else math.nan
    except Exception:
        return math.nan


def reach(bench: Bench) -> Reach | None:
    """How far the untrained model's outputs can be brought."""
    model = bench.setup.copied().model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return reach_of(model, bench.some.inputs)
    except Exception:
        return None


def asked(bench: Bench) -> Asked | None:
    """The loss of a setup over some rows; None where outputs and targets aren't single tensors that fit a known task."""
    outputs, targets, task = bench.outputs, bench.some.targets, bench.task
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or task.kind == "unknown":
        return None
    if task.kind == "quantity" and outputs.numel() != targets.numel():
        return None
    found = reach(bench)
    item = Asked(bench.setup.loss, task, outputs, targets, domain_of(outputs, task, found), found)
    if task.categorical:
        top = int(item.labels.max()) if len(item.labels) else 0
        if int(item.labels.min()) < 0 or top >= item.num_classes:
            return None  # labels that no output stands for are told elsewhere
    return item


def domain_of(outputs: Tensor, task: Task, found: Reach | None) -> Domain:
    """Chances sum to 1 along the classes; a single chance can't be brought out of 0 to 1."""
    if task.kind == "classes":
        if sums_to_one(outputs, task.class_dim) and outputs.shape[task.class_dim] > 1:
            return "probabilities"
        return "log_probabilities" if sums_to_one(outputs.exp(), task.class_dim) else "scores"
    if task.categorical and found is not None and found.low >= -1e-6 and found.high <= 1 + 1e-6:
        return "probabilities"
    return "scores"


def sums_to_one(outputs: Tensor, dim: int) -> bool:
    """Whether nothing is negative and all sums along a dimension are 1."""
    return bool((outputs >= 0).all()) and bool(((outputs.sum(dim) - 1).abs() < 1e-3).all())


def takes_scores(item: Asked) -> bool:
    """Whether the loss brings scores of classes to chances itself: a constant added to all scores of a row changes nothing."""
    if item.task.kind != "classes" or item.num_classes < 2:
        return False
    draw = torch.Generator().manual_seed(0)
    scores = 2 * torch.randn(item.outputs.shape, generator=draw)
    moved = scores + 3.0
    here, there = item(scores), item(moved)
    spread = abs(item(item.raised(item.labels)) - here) + abs(here)
    return math.isfinite(here) and spread > 0 and abs(here - there) <= 1e-4 * max(spread, 1e-3)
