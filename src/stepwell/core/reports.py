"""What a step and an evaluation report. Tensors stay on their device; whoever reads a number pays for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor


class Term(NamedTuple):
    """One part of a loss: its sum over the units of a batch, the unit that divides it, and its weight.

    The step divides by the unit's count over the *whole* step (all micro-batches, all ranks), so a sum is all
    that an objective returns: loss = sum over terms of weight * sum / count.
    """

    sum: Tensor
    unit: str
    weight: float = 1.0


@dataclass(slots=True)
class StepReport:
    """One training step.

    Args:
        step: completed optimizer steps after it (unchanged where it was skipped).
        cursor: which draw of the source it used.
        terms: each term's sum over the step and ranks, detached, with its unit and weight.
        counts: each unit's count over the step and ranks.
        grad_norm: global L2 norm of the gradient before any clipping, a detached scalar.
        lr: learning rate of the first parameter group.
        measured: what the grad techniques measured, by "id.name".
        samples, tokens: of the step, over all ranks.
        skipped: why the weights were not updated, or None.
        layers: statistics of single layers, {name: {statistic: scalar}}, at the steps where something asked for them.
    """

    step: int
    cursor: int
    terms: dict[str, Term]
    counts: dict[str, Any]
    grad_norm: Tensor
    lr: float
    measured: dict[str, Tensor]
    samples: int
    tokens: int = 0
    skipped: str | None = None
    layers: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def loss(self) -> Tensor:
        """The objective as trained (with smoothing, mixing, dropout): sum over terms of weight * sum / count."""
        total: Tensor | None = None
        for term in self.terms.values():
            count = self.counts[term.unit]
            part = term.sum / (count.clamp(min=1e-30) if isinstance(count, Tensor) else count or 1)
            part = part if term.weight == 1.0 else part * term.weight
            total = part if total is None else total + part
        assert total is not None, "an objective returns at least one term"
        return total


@dataclass(slots=True)
class EvalReport:
    """One evaluation.

    Args:
        step: completed optimizer steps.
        epoch: completed epochs.
        metrics: name -> value, of clean data under the delivered weights (the average's, once it is ready).
        split: "validation", "test" or "train".
        weights: "trained", or the id of the average that was evaluated.
    """

    step: int
    epoch: float
    metrics: dict[str, float]
    split: str = "validation"
    weights: str = "trained"


@dataclass(frozen=True, slots=True)
class Stop:
    """An observer's wish to end training, with the reason that goes on record."""

    reason: str


@dataclass(slots=True)
class Event:
    """Something that happened at a step and is kept on record: skipped, stopped, resumed, saved, best, ..."""

    kind: str
    step: int
    detail: dict[str, Any] = field(default_factory=dict)
