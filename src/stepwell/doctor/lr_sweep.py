"""One sweep of the learning rate: a copy of a training step, taken over rates that grow by the same factor in every step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch.optim import Optimizer

from stepwell.core.batch import Batch
from stepwell.core.check import require
from stepwell.core.errors import JobError
from stepwell.core.updates.elementwise import ElementwiseOptimizer
from stepwell.engine.train_step import TrainStep

Draw = Callable[[int], Batch]  # the batch of a cursor
Ended = Literal["at the highest rate", "at a loss that is not finite", "at a loss far above the best"]
_SMOOTHING = 0.7  # of the running loss that may stop a sweep: one odd batch doesn't
_LAID_OUT: dict[str, Any] = {"layouts": [], "_layout_groups": [], "_buffers": [], "_lanes": None, "_outside": [], "_spans": []}
_LAID_OUT |= {"_value_spans": [], "_scratch": {}, "skip": None}


@dataclass(frozen=True)
class Sweep:
    """From which rate to which, in how many steps, and when a sweep ends before.

    Args:
        low, high: first and last learning rate, 0 < low < high. Every parameter group keeps its factor on it.
        num_steps: optimizer steps, >= 10.
        stop: a sweep ends where the running loss is above this many times the best one so far, > 1; math.inf never does.

    Raises:
        JobError: a value outside its range.

    The ranges of common recipes: 1e-7 to 10 (the default), to 1 (`high=1`), to 100 (`high=100`), each in 100 steps.

    Paper: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186, section 3.3.

    >>> [round(rate, 6) for rate in Sweep(low=1e-3, high=1.0, num_steps=10).rates[:3]]
    [0.001, 0.002154, 0.004642]
    """

    low: float = 1e-7
    high: float = 10.0
    num_steps: int = 100
    stop: float = 4.0

    def __post_init__(self) -> None:
        require(0 < self.low < math.inf, "low", self.low, "a rate above 0", "Try 1e-7")
        require(self.low < self.high < math.inf, "high", self.high, f"a finite rate above low, {self.low:g}", "Try 10")
        good = isinstance(self.num_steps, int) and self.num_steps >= 10
        require(good, "num_steps", self.num_steps, "a whole number of at least 10", "Try 100")
        require(self.stop > 1, "stop", self.stop, "a number above 1", "Try 4, or inf to go on to the highest rate")

    @property
    def rates(self) -> list[float]:
        """The rate of each step."""
        grow = (self.high / self.low) ** (1 / (self.num_steps - 1))
        return [self.low * grow**place for place in range(self.num_steps)]


@dataclass(frozen=True)
class Curve:
    """What one sweep saw, step by step.

    Args:
        rates: learning rates, increasing.
        losses: of the step that was taken at each rate, before its update; never one that isn't finite.
        still: the loss of the same batch with the same draws and the weights from before the sweep. The difference of the two
            is what training has gained, without the differences from batch to batch.
        grad_norms: of the same steps.
        ended: why there are no more.
        nonfinite_at: the rate of the first step whose loss or gradient wasn't finite, or None.
    """

    rates: list[float]
    losses: list[float]
    still: list[float]
    grad_norms: list[float]
    ended: Ended
    nonfinite_at: float | None = None


def twin_of(step: TrainStep) -> TrainStep:
    """A copy of a step that shares nothing with it that changes. Schedules, averages and observers are left out.

    What techniques do over time (unfreezing) stays as it is at this point of the clock.

    Raises:
        JobError: several processes train it, or something in it can't be copied.
    """
    if step.group is not None:
        raise JobError(
            "the step trains with other processes",
            expected="one process: the sweep is made on a copy",
            fix="Make the step without a process group, and search its learning rate before",
        )
    parts, held = step.parts, step.optimizer
    memo: dict[int, Any] = {id(step._defaults): step._defaults}  # torch's own generators: they are put back after each step
    for left_out in (parts.schedules, parts.averages, parts.observers):
        memo[id(left_out)] = {}
    for none in (parts.probes, parts.values, parts.drives):
        memo[id(none)] = []
    optimizer = held.__class__.__new__(held.__class__)
    memo[id(held)] = optimizer
    memo[id(step._gradients)] = None
    try:
        # torch copies an optimizer's groups and state alone, and only those.
        skipped = {*_LAID_OUT, "_host_counts", "step"} if isinstance(held, ElementwiseOptimizer) else {"step"}
        own = {key: value for key, value in vars(held).items() if key not in skipped}
        optimizer.__dict__.update({key: copy.deepcopy(value, memo) for key, value in own.items()})
        if isinstance(held, ElementwiseOptimizer):
            optimizer.__dict__.update({key: copy.copy(value) for key, value in _LAID_OUT.items()})
        twin = copy.deepcopy(step, memo)
    except Exception as error:
        raise JobError(
            f"the training step can't be copied: {type(error).__name__}: {str(error)[:200]}",
            expected="a model that copy.deepcopy can copy: the sweep is made on a copy, yours stays as it is",
            fix="Keep open files, generators and tensors that were computed from weights out of the module's attributes",
        ) from error
    for technique in twin.parts.moving.values():
        technique.at(twin.model, twin.clock, twin.horizon)
    twin.parts.moving.clear()
    if step._flat is not None:
        assert isinstance(optimizer, ElementwiseOptimizer)
        optimizer.lay_out()
    twin._gradients, twin._unread, twin._late = None, None, False
    return twin


def factors(optimizer: Optimizer) -> list[float]:
    """What each parameter group multiplies the learning rate by.

    >>> from torch import nn
    >>> from stepwell.techniques import Sgd
    >>> weight, bias = nn.Linear(1, 1).parameters()
    >>> factors(Sgd(lr=0.2)([{"params": [weight]}, {"params": [bias], "lr": 0.1}]))
    [1.0, 0.5]
    """
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    base = float(optimizer.defaults.get("lr") or 0.0) or rates[0]
    return [rate / base if base else 1.0 for rate in rates]


def swept(step: TrainStep, draw: Draw, sweep: Sweep, *, offset: int = 0) -> Curve:
    """Take a copy of a step through the rates, and another one that stays where it is through the same batches.

    Args:
        step: in whatever state; it is left as it is.
        draw: batches by cursor.
        offset: how many cursors after the step's own the sweep begins: sweeps with other offsets see other batches and draws.
    """
    moving, still = twin_of(step), twin_of(step)
    shares = factors(step.optimizer)
    _set_rate(still, [0.0] * len(shares))
    rates: list[float] = []
    losses: list[float] = []
    controls: list[float] = []
    grad_norms: list[float] = []
    running = best = first = math.nan
    for place, rate in enumerate(sweep.rates):
        cursor = step.cursor + offset + place
        batch = draw(cursor).to(step.device)
        moving.cursor = still.cursor = cursor
        _set_rate(moving, [rate * share for share in shares])
        report = moving(batch)
        if report.skipped is not None:
            return Curve(rates, losses, controls, grad_norms, "at a loss that is not finite", rate)
        loss, control = float(report.loss.sum()), float(still(batch).loss.sum())
        rates.append(rate)
        losses.append(loss)
        controls.append(control)
        grad_norms.append(float(report.grad_norm))
        running = loss if place == 0 else _SMOOTHING * running + (1 - _SMOOTHING) * loss
        first = loss if place == 0 else first
        best = running if place == 0 else min(best, running)
        # Of a loss that has almost gone to 0, four times is still nothing.
        if running - best > (sweep.stop - 1) * max(abs(best), 0.02 * abs(first)):
            return Curve(rates, losses, controls, grad_norms, "at a loss far above the best")
    return Curve(rates, losses, controls, grad_norms, "at the highest rate")


def _set_rate(step: TrainStep, rates: list[float]) -> None:
    for group, rate in zip(step.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
