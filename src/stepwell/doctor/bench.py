"""The workbench: what was measured of a setup so far, each thing once, and how much may still be spent."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.batch_fit import MOST_ROWS, MOST_STEPS, BatchFit, fit_one_batch
from stepwell.doctor.findings import Measure, Remedy, Tried
from stepwell.doctor.reference import Reference, reference_of
from stepwell.doctor.rows import Rows
from stepwell.doctor.setup import Setup
from stepwell.doctor.task import Task, task_of
from stepwell.doctor.trials import Course, detached, outputs_over, train, tried_of

SEEDS = (0, 1)
LONGEST = 3.0  # CPU seconds of one training; of longer ones only the beginning is run
OWN_LOOKS, TRIAL_LOOKS = 12, 2
BEYOND = 0.1  # of skill
WELL = 0.97  # of skill: there is nothing to gain that another seed wouldn't give
FEWEST = 60  # steps of a trial, however long they take, unless that is more than a long training's share
MANY = 150  # steps in which most trainings learn something
PROBE_STEPS = 8


@dataclass(frozen=True)
class Budget:
    """What a diagnosis may cost.

    Args:
        seconds: of the process on the CPU, for all trials together.
        share: of the steps of a long training that trials may take altogether. One is long from `long_steps` steps on, and where
            `seconds` are less than this share of its time.
    """

    seconds: float = 15.0
    share: float = 0.02
    long_steps: int = 100_000


class Bench:
    """Measurements of one setup, made when first asked for and kept.

    Args:
        setup: nobody trains its model; trials use copies.
        budget: for trials.
    """

    def __init__(self, setup: Setup, budget: Budget | None = None) -> None:
        self.setup, self.budget = setup, budget or Budget()
        self.spent_steps = 0
        self._started = time.process_time()
        self._courses: dict[Any, Course] = {}
        self._mended: dict[int, tuple[Remedy, Setup]] = {}
        self.rates: dict[float, Setup] = {}
        self._kept: list[Setup] = []

    @property
    def spent(self) -> float:
        """CPU seconds so far."""
        return time.process_time() - self._started

    @property
    def left(self) -> float:
        """CPU seconds that trials may still take; 0 too where a long training's share of steps is used up."""
        return 0.0 if self.spent_steps >= self.most_steps else max(0.0, self.budget.seconds - self.spent)

    @cached_property
    def most_steps(self) -> float:
        """Steps that all trials together may take: infinite unless the training is long."""
        planned, budget = self.setup.num_steps, self.budget
        long = planned >= budget.long_steps or planned * self._probe.step_seconds > budget.seconds / budget.share > 0
        return budget.share * planned if long else math.inf

    @cached_property
    def _probe(self) -> Course:
        """A few steps, which tell what one costs."""
        course = train(self.setup, min(self.setup.num_steps, PROBE_STEPS), task=self.task, num_looks=1)
        self.spent_steps += len(course.losses)
        return course

    @cached_property
    def val(self) -> Rows:
        """Rows to judge by: those of validation, else the training rows."""
        return self.setup.train if self.setup.val is None else self.setup.val

    @cached_property
    def some(self) -> Rows:
        """At most 256 training rows, spread evenly."""
        rows = self.setup.train
        return rows if len(rows) <= 256 else rows.take(torch.linspace(0, len(rows) - 1, 256).long())

    @cached_property
    def first_batch(self) -> Rows:
        """A batch as the first step would get it."""
        draw = torch.Generator().manual_seed(0)
        order = (
            torch.randperm(len(self.setup.train), generator=draw) if self.setup.shuffle else torch.arange(len(self.setup.train))
        )
        return self.setup.train.take(order[: self.setup.batch_size])

    @cached_property
    def outputs(self) -> Any:
        """Of the untrained model over `some`, in evaluation mode; None where the model fails on them."""
        try:
            with seeded_defaults(0):
                return detached(outputs_over(self.setup.copied().model, self.some))
        except Exception:
            return None

    @cached_property
    def task(self) -> Task:
        return task_of(self.outputs, self.setup.train.targets)

    @cached_property
    def reference(self) -> Reference | None:
        """What simple methods reach."""
        try:
            return reference_of(self.setup.train, self.val, self.task)
        except (RuntimeError, ValueError, IndexError):
            return None

    @cached_property
    def trial_steps(self) -> int:
        """How many steps a trial takes: the whole training where that is cheap."""
        planned, probe = self.setup.num_steps, self._probe
        if math.isfinite(self.most_steps):
            planned = max(int(self.most_steps / 12), min(FEWEST, int(self.most_steps / 4)), 1)
        if probe.failed or not probe.losses:
            return min(planned, 300)
        stepping = LONGEST - (OWN_LOOKS + 1) * probe.look_seconds
        return max(min(planned, FEWEST), min(planned, int(stepping / max(probe.step_seconds, 1e-6))))

    @cached_property
    def own(self) -> Course:
        """The setup's own training, or as much of it as a trial takes."""
        return self.course(self.setup, seed=SEEDS[0])

    @property
    def complete(self) -> bool:
        """Whether `own` is the whole training."""
        return self.trial_steps >= self.setup.num_steps

    def course(self, setup: Setup, *, seed: int = 0, num_steps: int | None = None) -> Course:
        """Train a copy for as long as a trial takes (or `num_steps`); the same question is answered from memory.

        A setup of other epochs or another batch size is trained over the same share of its own steps.
        """
        steps = self._steps_of(setup) if num_steps is None else num_steps
        key = (id(setup), seed, steps)
        if key not in self._courses:
            num_looks = OWN_LOOKS if setup is self.setup and seed == SEEDS[0] else TRIAL_LOOKS
            self._courses[key] = self.run(setup, steps, seed=seed, num_looks=num_looks)
            self._kept.append(setup)  # its id stays its own
        return self._courses[key]

    def trained(self, setup: Setup, *, seed: int = 0) -> Course | None:
        """The course of a setup where it was trained already; None where it wasn't."""
        return self._courses.get((id(setup), seed, self._steps_of(setup)))

    def run(self, setup: Setup, num_steps: int, *, seed: int = 0, num_looks: int = 1) -> Course:
        """Train a copy, for no more steps than are left, and count them; nothing is remembered."""
        num_steps = int(min(num_steps, max(0.0, self.most_steps - self.spent_steps)))
        course = train(setup, num_steps, task=self.task, seed=seed, num_looks=num_looks)
        self.spent_steps += len(course.losses)
        return course

    def _steps_of(self, setup: Setup) -> int:
        return max(1, round(self.trial_steps * setup.num_steps / self.setup.num_steps))

    def cost(self, setup: Setup, *, seeds: tuple[int, ...] = SEEDS) -> float:
        """CPU seconds that trying a setup beside the bench's own may take; what was trained already costs nothing."""
        looking = (TRIAL_LOOKS + 1) * self.own.look_seconds
        return sum(self._steps_of(one) * self.own.step_seconds + looking for one in self._missing(setup, seeds))

    def affords(self, setup: Setup, *, seeds: tuple[int, ...] = SEEDS) -> bool:
        """Whether a setup can be tried with what is left."""
        missing = self._missing(setup, seeds)
        if not missing:
            return True
        enough = self.spent_steps + sum(map(self._steps_of, missing)) <= self.most_steps
        return enough and self.left > 0 and self.cost(setup, seeds=seeds) <= self.left

    def _missing(self, setup: Setup, seeds: tuple[int, ...]) -> list[Setup]:
        """What has to be trained yet, a course each: of the setup, and of the bench's own beside it."""
        both = [self.setup] if setup is self.setup else [setup, self.setup]
        return [one for one in both for seed in seeds if self.trained(one, seed=seed) is None]

    def mended(self, remedy: Remedy) -> Setup:
        """The setup with a remedy applied; the same one each time."""
        assert remedy.change is not None, remedy.text
        if id(remedy) not in self._mended:
            self._mended[id(remedy)] = (remedy, remedy.change(self.setup))
        return self._mended[id(remedy)][1]

    def with_rate(self, factor: float) -> Setup:
        """The setup with so many times its learning rate; the same one each time."""
        if factor not in self.rates:
            self.rates[factor] = self.setup.with_rate(factor)
        return self.rates[factor]

    @cached_property
    def known(self) -> float | None:
        """Validation skill that is known to be attainable: that of simple methods.

        None where nothing is known: the setup's own training goes far beyond them, for the data aren't made for them.
        """
        if self.reference is None or self.own.skill() > self.reference.best + BEYOND:
            return None
        return self.reference.best

    @cached_property
    def room(self) -> float:
        """How much validation skill may be attainable beyond what the setup's own training reaches."""
        return (1.0 if self.known is None else self.known) - self.own.skill()

    @cached_property
    def unfit(self) -> bool:
        """Whether the training doesn't even learn its own rows: then the remedy isn't one against learning them by heart."""
        own = self.own
        if own.failed or not own.looks or own.last.train_skill is None:
            return True
        return own.last.train_skill < (min(WELL, self.known) if self.known else WELL)

    @cached_property
    def learns_nothing(self) -> bool:
        """Whether training rows that simple methods learn from teach the setup no more than their most common answer, in half of
        its steps, or in a quarter and `MANY`."""
        own, reference = self.own, self.reference
        if own.failed or reference is None or not own.looks or own.last.train_skill is None:
            return False
        trivial = self.task.trivial(self.setup.train.targets)
        long_enough = self.trial_steps >= self.setup.num_steps / (4 if self.trial_steps >= MANY else 2)
        return long_enough and own.last.train_skill < trivial + BEYOND / 2 and reference.best > reference.trivial + 2 * BEYOND

    @cached_property
    def one_batch(self) -> BatchFit:
        """Whether a few rows alone can be learnt by heart, spread over the training rows; in fewer steps where they are slow."""
        most_steps = max(FEWEST, min(MOST_STEPS, int(LONGEST / max(self.own.step_seconds, 1e-6))))
        most_steps = max(1, int(min(most_steps, self.most_steps / 6)))
        some = self.some.take(torch.linspace(0, len(self.some) - 1, min(len(self.some), MOST_ROWS)).long())
        fit = fit_one_batch(self.setup, some, self.task, most_steps=most_steps)
        self.spent_steps += fit.num_steps
        return fit

    @cached_property
    def pace(self) -> float:
        """How far a step moves the weights: the median over tensors and steps of the update's norm over the weights' norm."""
        ratios = sorted(ratio for values in self.own.update_ratios.values() for ratio in values if ratio > 0)
        return ratios[len(ratios) // 2] if ratios else 0.0

    def tried(
        self, mended: Setup, *, num_steps: int | None = None, seeds: tuple[int, ...] = SEEDS, measure: Measure = "skill"
    ) -> Tried:
        """Train this setup and a mended one side by side, seed by seed.

        A second seed is left out where the first shows no gain at all.
        """
        befores: list[Course] = []
        afters: list[Course] = []
        for seed in seeds:
            befores.append(self.course(self.setup, seed=seed, num_steps=num_steps))
            afters.append(self.course(mended, seed=seed, num_steps=num_steps))
            if afters[-1].skill(measure) <= befores[-1].skill(measure) and afters[-1].end_loss >= befores[-1].end_loss:
                break
        return tried_of(befores, afters, measure)
