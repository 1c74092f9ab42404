"""What the finder works on: a training step and its batches, and, where it can be built anew, whole trainings."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from stepwell.core.batch import Batch
from stepwell.core.catalog import record_of
from stepwell.core.errors import JobError, TrainingStopped
from stepwell.data.examples import as_batch
from stepwell.data.sources import ShuffledSource
from stepwell.doctor.lr_sweep import Draw, factors
from stepwell.engine.train_step import TrainStep
from stepwell.recipe.fit import default_recipe, ingredients, refuse_unknown_settings
from stepwell.recipe.job import Job, Recipe, StopRules
from stepwell.recipe.preflight import preflight
from stepwell.recipe.run import Assembly, Ingredients
from stepwell.recipe.values.blame import blaming
from stepwell.recipe.verbs import ready

EVALUATED_BATCHES = 8  # where there is no validation data


class Subject(AbstractContextManager["Subject"]):
    """A step with its batches.

    Args:
        step: never trained itself; sweeps copy it.
        draw: batches by cursor.
        build: makes an assembly for (rate, num_steps, number of a repeat) on a copy of the model; None where that can't be.
        num_steps: of the whole training.
        close: what to do at the end.
    """

    def __init__(
        self,
        step: TrainStep,
        draw: Draw,
        *,
        build: Callable[[float | None, int | None, int], Assembly] | None = None,
        num_steps: int = 0,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.step, self.draw, self.num_steps = step, draw, num_steps
        self._build, self._close = build, close
        self.train: Callable[[float, int, int], float] | None = None if build is None else self._trained
        self.judged_by = "validation loss"

    def __exit__(self, *_: object) -> None:
        self._close()

    def _trained(self, rate: float, num_steps: int, repeat: int) -> float:
        """The loss that a training with this rate ends with; infinite where it diverges."""
        assert self._build is not None
        assembly = self._build(rate, None if num_steps == self.num_steps else num_steps, repeat)
        try:
            run = assembly.finish()
        except TrainingStopped:
            return math.inf
        loss = run.metrics.get("loss")
        if loss is None:
            loss = self._training_loss(assembly)
        return loss if math.isfinite(loss) else math.inf

    def untrained(self) -> float:
        """The same loss of the model as it is before the first step."""
        assert self._build is not None
        assembly = self._build(None, None, 0)
        validation = assembly.parts.validation
        return self._training_loss(assembly) if validation is None else assembly.evaluate(validation)["loss"]

    def _training_loss(self, assembly: Assembly) -> float:
        self.judged_by = "training loss (there is no validation data)"
        first = assembly.step.cursor
        batches = [assembly.source.next(first + place) for place in range(EVALUATED_BATCHES)]
        return assembly.evaluate(lambda: batches)["loss"]


def of_job(job: Job, base: str | Path | None) -> Subject:
    """What `stepwell train` would train."""
    parts = ready(job, base)
    with blaming(job, "recipe", "model", "data", "device"):
        return _of_parts(parts)


def of_module(
    model: nn.Module, data: Any, *, val: Any, recipe: Recipe | None, budget: str, seed: int, **settings: Any
) -> Subject:
    """What `stepwell.fit` would train."""
    how = {key: settings.pop(key) for key in ("weights", "sampling") if key in settings}
    refuse_unknown_settings(settings)
    job = Job(recipe=recipe or default_recipe(), budget=budget, seed=seed, **settings)
    if job.init_from is not None:
        raise JobError(
            "init_from is given beside a module",
            expected="a module that holds the weights it starts from",
            fix="Load them into it first, e.g. with stepwell.import_weights",
        )
    return _of_parts(ingredients(model, _own(data), _own(val), job, **how))


def _of_parts(parts: Ingredients) -> Subject:
    # The test part is nobody's business here, and a limit in time would end a trial where the machine is busy.
    parts = dataclasses.replace(parts, test=None, job=dataclasses.replace(parts.job, stop=StopRules()))

    def build(rate: float | None, num_steps: int | None, repeat: int) -> Assembly:
        job = parts.job if repeat == 0 else dataclasses.replace(parts.job, seed=parts.job.seed + repeat)
        if num_steps is not None:
            job = dataclasses.replace(job, budget=f"{num_steps} steps")
        if rate is not None:
            recipe = dataclasses.replace(job.recipe, optimizer=rated(job.recipe.optimizer, rate))
            job = dataclasses.replace(job, recipe=recipe)
        train = parts.train if hasattr(parts.train, "batch") else copy.deepcopy(parts.train)
        return Assembly(dataclasses.replace(parts, job=job, model=copied(parts.model), train=train, derived=[]))

    assembly = build(None, None, 0)
    preflight(assembly)
    source = assembly.source

    def close() -> None:
        if isinstance(source, ShuffledSource):
            source.close()

    total = assembly.resolved.horizon.total_steps
    return Subject(assembly.step, source.next, build=build, num_steps=total, close=close)


def of_step(step: TrainStep, data: Any) -> Subject:
    """A step of one's own; batches come from a copy of its source, or from the start of what can be iterated again."""
    driven = any(drive.target == "optimizer.lr" for drive in step.parts.values)
    if step.clock.steps and driven:
        raise JobError(
            f"the step has taken {step.clock.steps} steps under a schedule, which has changed its learning rate",
            expected="a step before its first batch, or one without a schedule of the rate",
            fix="Call find_lr on a freshly built TrainStep",
        )
    if hasattr(data, "next") and hasattr(data, "steps_per_epoch"):
        # A shuffled source keeps nothing but what it can compute again; others are copied whole.
        source = copy.copy(data) if isinstance(data, ShuffledSource) else copied(data)
        return Subject(step, source.next)
    if data is None or not hasattr(data, "__iter__") or hasattr(data, "__next__"):
        raise JobError(
            "the batches can be read only once" if hasattr(data, "__next__") else f"the batches are {type(data).__name__}",
            expected="batches that can be iterated again: a list, a DataLoader, a Source",
            fix="Give find_lr(step, [some dozen batches])",
        )
    return Subject(step, Replayed(data))


class Replayed:
    """Batches of an iterable by cursor, one pass after the other; its own generators stay where they are.

    Args:
        data: batches, or (inputs, targets) pairs of tensors.

    >>> draw = Replayed([Batch(torch.zeros(1)), Batch(torch.ones(1))])
    >>> [draw(cursor).inputs.item() for cursor in (5, 6, 7)]
    [0.0, 1.0, 0.0]
    """

    def __init__(self, data: Any) -> None:
        self._data = data
        self._batches: Iterator[Any] = iter(())

    def __call__(self, cursor: int) -> Batch:
        with _loader_kept(self._data):
            for _ in range(2):
                for item in self._batches:
                    return item if isinstance(item, Batch) else as_batch(item)
                self._batches = iter(self._data)
        raise JobError("there are no batches", expected="one batch at least", fix="Look at how the data is made")


@contextmanager
def _loader_kept(data: Any) -> Iterator[None]:
    """Put the generators back that a DataLoader and its samplers draw from."""
    samplers = [data, getattr(data, "sampler", None), getattr(getattr(data, "batch_sampler", None), "sampler", None)]
    found = {id(g): g for s in samplers if isinstance(g := getattr(s, "generator", None), torch.Generator)}
    states = [(generator, generator.get_state()) for generator in found.values()]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)


def rated(optimizer: Any, rate: float) -> Any:
    """An optimizer of a recipe with another learning rate; groups keep their factors on it."""
    if record_of(optimizer) is not None and hasattr(optimizer, "lr"):
        return dataclasses.replace(optimizer, lr=rate)

    def made(groups: Any) -> Any:
        built = optimizer(groups)
        for group, share in zip(built.param_groups, factors(built), strict=True):
            group["lr"] = rate * share
        built.defaults["lr"] = rate
        return built

    return made


def _own(data: Any) -> Any:
    """A stream is read from a copy: reading it may move it."""
    if isinstance(data, DataLoader) and isinstance(data.dataset, IterableDataset):
        data = data.dataset
    return copied(data) if isinstance(data, IterableDataset) else data


def copied(value: Any) -> Any:
    """A deep copy of a module, a source or a stream.

    Raises:
        JobError: it can't be copied.
    """
    try:
        return copy.deepcopy(value)
    except Exception as error:
        raise JobError(
            f"the {type(value).__name__} can't be copied: {type(error).__name__}: {str(error)[:200]}",
            expected="what copy.deepcopy can copy: everything is tried on copies, yours stays as it is",
            fix="Keep open files, generators and tensors that were computed from weights out of its attributes",
        ) from error
