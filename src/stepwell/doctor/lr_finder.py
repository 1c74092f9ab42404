"""`stepwell.find_lr`: which learning rate a training should use, found on copies, or the reason for which there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

from torch import nn

from stepwell.core.check import require, require_one_of
from stepwell.core.errors import JobError
from stepwell.data.loading import host_state_kept
from stepwell.doctor.lr_subjects import Subject, of_job, of_module, of_step
from stepwell.doctor.lr_suggestion import LEAST_FALL, MINIMUM_SHARE, RULES, Reading, Refusal, reading_of, refusal, suggested
from stepwell.doctor.lr_sweep import Curve, Sweep, swept
from stepwell.doctor.lr_trials import Bounds, Trial, climbed, contested, longer, scouted, winner
from stepwell.engine.train_step import TrainStep
from stepwell.recipe.job import Job, Recipe

Choice = Literal["auto", "steepest", "valley", "divergence", "minimum"]
Confidence = Literal["high", "medium", "low", "none"]
# The rule of "auto" where no trials can be made: within 5 % of the best on 8 of the 16 development jobs, the others on 4 to 7.
_ALONE: Literal["divergence"] = "divergence"
_BELOW = 10**2.5  # trials look this far below the rate of a sweep's lowest loss


@dataclass(frozen=True)
class LrFound:
    """What the finder found.

    Args:
        rate: the learning rate to configure (`recipe.optimizer.lr`; under a schedule its peak), or None.
        reason: why there is none, or "".
        rule: what it was taken by: a rule of the sweep, or "trials".
        confidence: high where the repeats agree within a factor of 2, medium within 5, else low; none without a rate.
        agreement: what each repeat by itself would say.
        curves: one sweep a repeat.
        readings: of the curves; empty where there is no rate to read off.
        trials: trainings that were tried, in order.
        num_steps: optimizer steps that it cost in all.
        notes: what to know beside it.
    """

    rate: float | None
    reason: str
    rule: str
    confidence: Confidence
    agreement: list[float]
    curves: list[Curve]
    readings: list[Reading]
    trials: list[Trial] = field(default_factory=list)
    num_steps: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def factor(self) -> float:
        """How far the repeats lie apart: the largest rate of `agreement` over the smallest; infinite without any."""
        return max(self.agreement) / min(self.agreement) if self.agreement else math.inf

    def to_mapping(self) -> dict[str, Any]:
        """Plain values in dicts and lists; numbers may be infinite."""
        return {**asdict(self), "factor": self.factor}


def find_lr(
    subject: Job | nn.Module | TrainStep,
    data: Any = None,
    *,
    val: Any = None,
    recipe: Recipe | None = None,
    budget: str = "10 epochs",
    seed: int = 0,
    base: str | Path | None = None,
    rule: Choice = "auto",
    sweep: Sweep | None = None,
    repeats: int = 3,
    minimum_share: float = MINIMUM_SHARE,
    most_steps: int = 1000,
    **settings: Any,
) -> LrFound:
    """Find the learning rate for a job, for what `fit` would train, or for a training step of your own.

    A sweep raises the rate exponentially over some hundred steps, with the recipe's own optimizer, groups, precision,
    micro-batches and techniques; schedules and averages wait. All is done on copies: weights, buffers, optimizer, clock,
    gradients, the global generators and the order of the data are afterwards what they were.

    Args:
        subject: a Job; a module, with `data` and the arguments of `fit`; or a TrainStep, with `data` as its batches: a Source,
            a DataLoader, or anything that can be iterated more than once.
        data, val, recipe, budget, seed, settings: as of `fit`, for a module.
        base: of a Job: the folder that data paths start from.
        rule: "steepest", "valley", "divergence" or "minimum" read it off the sweeps; "auto" goes on from there with trial
            trainings, and takes the rate that ends best on the validation data (of a TrainStep there are none: "divergence").
        sweep: from where to where; None is 1e-7 to 10 in 100 steps.
        repeats: sweeps over other batches with other draws, and seeds of the best trials, >= 1; they make the confidence.
        minimum_share: of the rate of the lowest loss, for "minimum": 0.1 to 1/3.
        most_steps: of a trial, >= 20. A longer training is tried at this length, and its rate follows by a square root.

    Raises:
        JobError, DataError: what `check` would raise too; a model that can't be copied, several processes.

    Paper: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186.

    >>> import torch
    >>> x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0)); y = (x.sum(1) > 0).long()
    >>> found = find_lr(torch.nn.Linear(4, 2), (x, y), recipe=Recipe(optimizer="sgd"), rule="steepest", repeats=1)
    >>> 0.01 < found.rate < 10, found.rule
    (True, 'steepest')
    """
    require_one_of("rule", rule, ("auto", *RULES))
    require(isinstance(repeats, int) and repeats >= 1, "repeats", repeats, "a whole number of at least 1", "Try 3")
    good = isinstance(most_steps, int) and most_steps >= 20
    require(good, "most_steps", most_steps, "a whole number of at least 20", "Try 1000")
    given = {"val": val, "recipe": recipe, **settings}
    with host_state_kept(), _subject(subject, data, base, {"budget": budget, "seed": seed, **given}) as found:
        return _found(found, rule, sweep or Sweep(), repeats, minimum_share, most_steps)


def _subject(given: Any, data: Any, base: str | Path | None, how: dict[str, Any]) -> Subject:
    if isinstance(given, TrainStep):
        _refuse(how)
        return of_step(given, data)
    if isinstance(given, Job):
        _refuse({"data": data, **how})
        return of_job(given, base)
    if isinstance(given, nn.Module):
        return of_module(given, data, **how)
    raise JobError(
        f"there is no learning rate to find for a {type(given).__name__}",
        expected="a Job, a torch.nn.Module or a TrainStep",
        fix="Give one of them",
    )


def _refuse(how: dict[str, Any]) -> None:
    for name, value in how.items():
        if value is not None and name not in ("budget", "seed"):
            raise JobError(
                f"{name} is given beside a subject that has its own",
                expected="the arguments of fit with a module only",
                fix=f"Leave {name} out",
            )


def _found(subject: Subject, rule: Choice, sweep: Sweep, repeats: int, share: float, most_steps: int) -> LrFound:
    curves = [swept(subject.step, subject.draw, sweep, offset=place * sweep.num_steps) for place in range(repeats)]
    num_steps = 2 * sum(len(curve.rates) for curve in curves)  # of the copy that moves, and of the one that stays
    doubt = refusal(curves)
    if doubt is not None and (doubt.final or rule != "auto" or subject.train is None):
        return LrFound(None, doubt.reason, rule, "none", [], curves, [], num_steps=num_steps)
    readings = [reading_of(curve) for curve in curves if len(curve.rates) >= 3]
    trials: list[Trial] = []
    notes = _notes(readings, curves)
    if rule == "auto":
        trials, note = _trials(subject, readings, sweep, most_steps, repeats)
        notes += [note] if note else []
        num_steps += sum(trial.num_steps for trial in trials)
    if trials:
        return _from_trials(subject, curves, readings, trials, num_steps, notes, doubt)
    if doubt is not None:
        return LrFound(None, doubt.reason, rule, "none", [], curves, [], num_steps=num_steps, notes=notes)
    by = _ALONE if rule == "auto" else rule
    rates = [suggested(reading, by, minimum_share=share) for reading in readings]
    return LrFound(median(rates), "", by, confidence_of(rates), rates, curves, readings, [], num_steps, notes)


def confidence_of(rates: Sequence[float]) -> Confidence:
    """How far to trust a rate that several repeats have found; of a single one nothing is known.

    >>> confidence_of([0.1, 0.15, 0.2]), confidence_of([0.1, 0.3]), confidence_of([0.1, 1.0]), confidence_of([0.1])
    ('high', 'medium', 'low', 'low')
    """
    spread = max(rates) / min(rates)
    if len(rates) < 2 or spread > 5:
        return "low"
    return "high" if spread <= 2.0 + 1e-9 else "medium"


def _notes(readings: Sequence[Reading], curves: Sequence[Curve]) -> list[str]:
    notes = []
    if all(reading.bottom == curve.rates[-1] for reading, curve in zip(readings, curves, strict=False)):
        notes.append("the loss was still falling at the highest rate of the sweep: look further up")
    return notes


def _trials(
    subject: Subject, readings: Sequence[Reading], sweep: Sweep, most_steps: int, repeats: int
) -> tuple[list[Trial], str]:
    """Scouts, trials and contests; or none, and why."""
    if subject.train is None:
        return [], "a TrainStep can't be built anew for trials: the rate is read off the sweeps, give or take a factor of 5"
    whole = subject.num_steps
    num_steps = min(whole, most_steps)
    top = median(reading.rates[-1] for reading in readings)
    bottom = median(reading.bottom for reading in readings)
    bounds = Bounds(bottom / _BELOW, top, max(sweep.high, top), num_steps)
    try:
        scouts = scouted(subject.train, bounds)
        best = min(scouts, key=lambda trial: trial.loss)
        start = longer(best.rate, before=best.num_steps, now=num_steps)
    except JobError as error:  # a schedule that doesn't fit a shorter budget
        if num_steps < whole:
            return [], f"trials of {num_steps} steps can't be made ({error.what}): the rate is read off the sweeps"
        scouts, start = [], median(suggested(reading, _ALONE) for reading in readings)
    trials = climbed(subject.train, start, bounds)
    return [*scouts, *trials, *contested(subject.train, trials, repeats=repeats)], ""


def _from_trials(
    subject: Subject,
    curves: list[Curve],
    readings: list[Reading],
    trials: list[Trial],
    num_steps: int,
    notes: list[str],
    doubt: Refusal | None,
) -> LrFound:
    full = [trial for trial in trials if trial.kind == "trial"]
    longest = full[0].num_steps
    rate = winner(full)
    before = subject.untrained()
    lowest = min(trial.loss for trial in full)
    # Where the sweeps were in doubt, trials have to do better than chance; nine of them are always a little better or worse.
    needed = before if doubt is None else before - LEAST_FALL * abs(before)
    if rate is None or not lowest < needed:
        reason = "every trial training diverged"
        if rate is not None:
            clearly = "" if doubt is None else "clearly "
            reason = f"no trial training ends with a {clearly}lower {subject.judged_by} than the untrained model's {before:.4g}"
        return LrFound(None, reason, "trials", "none", [], curves, readings, trials, num_steps, notes)
    own = _winners(full, rate)
    if longest < subject.num_steps:
        notes.append(
            f"trials took {longest} of {subject.num_steps} steps; the best rate there, {rate:.3g}, is lowered by the square root "
            f"of the two lengths"
        )
        rate = longer(rate, before=longest, now=subject.num_steps)
    return LrFound(rate, "", "trials", confidence_of(own), own, curves, readings, trials, num_steps, notes)


def _winners(trials: Sequence[Trial], rate: float) -> list[float]:
    """The best rate by each seed alone, among those that every seed has tried."""
    seeds = sorted({trial.seed for trial in trials})
    tried = {seed: {trial.rate: trial.loss for trial in trials if trial.seed == seed} for seed in seeds}
    common = set.intersection(*(set(rates) for rates in tried.values())) or {rate}
    return [min(common, key=lambda one: tried[seed][one]) for seed in seeds]
