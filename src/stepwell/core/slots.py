"""The eight slots: what a technique of each kind is called with, what it may change, and when.

A technique is a frozen dataclass of settings. Calling it with its slot's runtime argument does its work (`Mixup`,
`ClipNorm`) or makes the object that does (`Ema`, `OneCycle`). See `stepwell.core.catalog.technique`.

| slot      | a technique is called as                         | may change              |
|-----------|--------------------------------------------------|-------------------------|
| model     | `(model, rng) -> Module`, once; optional `at`    | the model               |
| batch     | `(batch, rng) -> Batch`                          | nothing                 |
| objective | base: is an `Objective`; modifier: `(objective)` | nothing                 |
| grad      | `(gradients) -> {name: measured tensor}`         | gradients, in place     |
| optimizer | base: `(groups) -> Optimizer`; groups: `(model)` | weights                 |
| schedule  | `(horizon) -> Schedule`                          | nothing                 |
| average   | `(model, horizon) -> Average`                    | its own copy            |
| observer  | `(horizon) -> Observer`                          | nothing; it may say Stop|
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, final, runtime_checkable

from torch import Tensor, nn

from stepwell.core.batch import Batch, Tree
from stepwell.core.clock import Clock
from stepwell.core.reports import EvalReport, StepReport, Stop, Term

Slot = Literal["model", "batch", "objective", "grad", "optimizer", "schedule", "average", "observer"]
SLOTS: tuple[Slot, ...] = ("model", "batch", "objective", "grad", "optimizer", "schedule", "average", "observer")


Terms = dict[str, Term]  # name -> sum, unit, weight
Counts = dict[str, "float | Tensor"]


class Objective(ABC):
    """What is minimised: a forward pass, terms of its outputs, and the counts that divide them.

    `decomposable` is False where the terms of a batch are not the sum of the terms of its parts (a batch Dice, a
    contrastive loss over the batch): micro-batches and ranks are then refused.
    """

    decomposable: bool = True

    def forward(self, model: nn.Module, batch: Batch) -> Tree:
        """The model's outputs. Runs under the precision policy."""
        return call_model(model, batch.inputs)

    @abstractmethod
    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        """Sums over the batch, given outputs in fp32 (or fp64)."""

    @abstractmethod
    def counts(self, batch: Batch) -> Counts:
        """How much of each unit the batch holds. Must add up over the parts of a batch."""

    def __call__(self, model: nn.Module, batch: Batch) -> Terms:
        return self.terms(self.forward(model, batch), batch)


def call_model(model: nn.Module, inputs: Tree) -> Tree:
    """Call a model: a dict of inputs by keyword, a tuple or list by position, anything else as it is."""
    if isinstance(inputs, dict):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


@dataclass(frozen=True, slots=True)
class Drive:
    """One field moved by a schedule.

    Args:
        target: "optimizer.lr", "optimizer.momentum", or "ID.FIELD" of any technique in the recipe.
        value: what is completed, in the budget's unit -> a factor on the configured value ("scale") or the value
            itself ("set"). Called before each step with what is completed so far.
    """

    target: str
    value: Callable[[float], float]
    mode: Literal["scale", "set"] = "scale"


@runtime_checkable
class Stateful(Protocol):
    """Anything with memory that must survive a resume: tensors and JSON values in nested dicts."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Schedule(Protocol):
    """What a schedule technique returns. One that learns from reports (plateau) is an Observer and Stateful too."""

    @property
    def drives(self) -> tuple[Drive, ...]: ...


@final
@dataclass(frozen=True, slots=True)
class ClockSchedule:
    """A schedule that is a function of the clock and of nothing else: there is nothing to save."""

    drives: tuple[Drive, ...]


@runtime_checkable
class Observer(Protocol):
    """Reads reports at its own cadence: every StepReport, or every EvalReport."""

    @property
    def watches(self) -> Literal["steps", "evaluations"]: ...
    def __call__(self, report: StepReport | EvalReport) -> Stop | None: ...


@runtime_checkable
class Probe(Protocol):
    """An observer that looks into a step while it is taken, at the steps where it is due. It changes nothing."""

    def due(self, steps: int) -> bool: ...
    def begin(self, model: nn.Module) -> None: ...
    def gradients(self, model: nn.Module) -> None: ...
    def end(self, model: nn.Module) -> dict[str, dict[str, Tensor]]: ...
    def cancel(self) -> None: ...


class Average(ABC):
    """A second set of weights, kept beside the trained ones. It is what is evaluated and delivered once `ready`."""

    @abstractmethod
    def update(self, clock: Clock) -> None:
        """Called after each completed step, with the clock already ticked."""

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether it has averaged anything yet: a model is never evaluated with an average that was not updated."""

    @abstractmethod
    def swapped(self) -> AbstractContextManager[None]:
        """`with average.swapped():` the model holds the averaged weights; afterwards its own again."""

    def finalize(self, model: nn.Module, batches: Iterable[Batch]) -> None:  # noqa: B027
        """Re-estimate what averaging can't (batch-norm statistics), with the averaged weights in place."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]: ...

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Source(Protocol):
    """Where a step's batch comes from: a shuffled table, packed text, or rollouts of the model itself.

    `next` gives this rank's share of the step's batch at `cursor` (how many steps' batches were drawn before), a
    pure function of (seed, cursor) where it can be.
    """

    @property
    def steps_per_epoch(self) -> int | None: ...
    @property
    def batch_size(self) -> int: ...
    def next(self, cursor: int, model: nn.Module | None = None) -> Batch: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...
