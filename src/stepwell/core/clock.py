"""The clock counts completed optimizer steps; the horizon says how long the run is planned to be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stepwell.core.duration import Duration
from stepwell.core.errors import JobError


@dataclass(slots=True)
class Clock:
    """What has been completed so far. Skipped steps don't tick it; the cursor counts them.

    Args:
        steps: completed optimizer steps, over which schedules, averages, unfreezing and evaluation run.
        samples: samples in those steps, over all ranks.
        tokens: tokens in those steps, over all ranks (0 where the data has none).
    """

    steps: int = 0
    samples: int = 0
    tokens: int = 0

    def tick(self, *, samples: int, tokens: int = 0) -> None:
        """One optimizer step happened."""
        self.steps += 1
        self.samples += samples
        self.tokens += tokens

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps, "samples": self.samples, "tokens": self.tokens}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.steps, self.samples, self.tokens = state["steps"], state["samples"], state["tokens"]


@dataclass(frozen=True, slots=True)
class Horizon:
    """The planned length of a run, in the budget's own unit, and what a step is worth in it.

    Args:
        total: planned amount of `unit`.
        unit: steps (budgets in steps and epochs), samples or tokens.
        per_step: what one full step adds, in `unit`.
        steps_per_epoch: optimizer steps in an epoch, None where the data has no end.
        samples_per_step, tokens_per_step: of a full step over all ranks.

    >>> horizon = Horizon.of("10 epochs", steps_per_epoch=20)
    >>> horizon.total, horizon.amount("5%"), horizon.amount("3 epochs"), horizon.steps("50%")
    (200, 10.0, 60.0, 100)
    """

    total: float
    unit: str = "steps"
    per_step: float = 1.0
    steps_per_epoch: int | None = None
    samples_per_step: float = 1.0
    tokens_per_step: float = 0.0

    @staticmethod
    def of(
        budget: str | Duration,
        *,
        steps_per_epoch: int | None = None,
        samples_per_step: float = 1.0,
        tokens_per_step: float = 0.0,
    ) -> Horizon:
        """The horizon of a budget.

        Raises:
            JobError: a budget that can't be turned into progress (seconds, %, epochs of endless data).
        """
        budget = Duration.parse(budget, name="budget")
        if budget.unit in ("%", "seconds") or budget.amount <= 0:
            raise JobError(
                f"budget is {budget}",
                expected="a positive number of epochs, steps, samples or tokens",
                fix='Give the budget in work, e.g. "10 epochs"; a limit in time goes beside it: stop: {max_time: "10 minutes"}',
            )
        if budget.unit == "epochs":
            if steps_per_epoch is None:
                raise JobError(
                    f"budget is {budget} but the data has no known length",
                    expected="a budget in steps, samples or tokens",
                    fix='Write e.g. budget: "1000 steps"',
                )
            budget = Duration(math.ceil(budget.amount * steps_per_epoch), "steps")
        per_step = {"steps": 1.0, "samples": samples_per_step, "tokens": tokens_per_step}[budget.unit]
        if per_step <= 0:
            raise JobError(
                f"budget is {budget} but the data has no {budget.unit}",
                expected="a unit that the data has",
                fix='Write e.g. budget: "10 epochs"',
            )
        return Horizon(budget.amount, budget.unit, per_step, steps_per_epoch, samples_per_step, tokens_per_step)

    @property
    def total_steps(self) -> int:
        """Planned optimizer steps (a forecast where the budget is in samples or tokens)."""
        return math.ceil(self.total / self.per_step)

    def amount(self, duration: str | Duration, *, name: str = "duration") -> float:
        """A duration in the budget's unit. Where the unit differs, full steps convert it."""
        duration = Duration.parse(duration, name=name)
        if duration.unit == "%":
            if not math.isfinite(self.total):
                raise JobError(
                    f"{name} is {duration} but this run has no planned length",
                    expected="a planned length, or a duration in steps",
                    fix='Give horizon=Horizon.of("1000 steps"), or write e.g. "100 steps"',
                )
            return self.total * duration.amount / 100
        if duration.unit == self.unit:
            return duration.amount
        return self._as_steps(duration, name) * self.per_step

    def amount_within(self, duration: str | Duration, *, name: str, example: str = "5%") -> float:
        """`amount`, of something that must fit into the run.

        Args:
            name: the setting that it comes from, for the message.
            example: a duration that would fit.

        Raises:
            JobError: it is longer than the budget.

        >>> Horizon.of("100 steps").amount_within("30 steps", name="step.every")
        30.0
        """
        amount = self.amount(duration, name=name)
        if amount > self.total:
            raise JobError(
                f"{name} is {duration!r}",
                expected=f"at most the budget, {self.total:g} {self.unit}",
                fix=f'Write it in %, e.g. "{example}", or train longer',
            )
        return amount

    def steps(self, duration: str | Duration, *, name: str = "duration") -> int:
        """A duration in whole optimizer steps, at least 1 for any positive one."""
        duration = Duration.parse(duration, name=name)
        steps = self.amount(duration, name=name) / self.per_step if duration.unit == "%" else self._as_steps(duration, name)
        return max(round(steps), 1) if steps > 0 else 0

    def done(self, clock: Clock) -> float:
        """What is completed, in the budget's unit."""
        return float(clock.steps if self.unit == "steps" else clock.samples if self.unit == "samples" else clock.tokens)

    def epochs(self, clock: Clock) -> float:
        """Completed epochs; 0 where the data has no known length."""
        return clock.steps / self.steps_per_epoch if self.steps_per_epoch else 0.0

    def _as_steps(self, duration: Duration, name: str) -> float:
        if duration.unit == "steps":
            return duration.amount
        worth = {"epochs": self.steps_per_epoch, "samples": self.samples_per_step, "tokens": self.tokens_per_step}
        per = worth.get(duration.unit)
        if not per:
            raise JobError(
                f"{name} is {duration} but this run can't count {duration.unit}",
                expected="a unit that the run can count",
                fix=f'Write {name} in steps or in % of the budget, e.g. "5%"',
            )
        return duration.amount * per if duration.unit == "epochs" else duration.amount / per


def steps_of(duration: str | Duration, horizon: Horizon | None, *, name: str) -> int:
    """A duration in steps, where a horizon is only needed for units other than steps.

    Raises:
        JobError: a relative duration without a horizon.
    """
    duration = Duration.parse(duration, name=name)
    if horizon is not None:
        return horizon.steps(duration, name=name)
    if duration.unit != "steps":
        raise JobError(
            f"{name} is {duration} outside a planned run",
            expected="a number of steps",
            fix=f'Write {name}="{100} steps", or give the horizon',
        )
    return round(duration.amount)
