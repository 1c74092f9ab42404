"""Samples that cost work each: fetched in order by worker processes or here, with the same random draws."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stepwell.core.batch import Batch, Tree, tree_map
from stepwell.core.errors import StepwellError
from stepwell.core.randomness import derive
from stepwell.data.examples import Subset, WorkExamples
from stepwell.data.failures import Failure
from stepwell.data.workers import NO_SAMPLE, Crew, Watch, unshared

__all__ = ["Key", "Watch", "host_state_kept", "number_in_dataset", "seed_host_", "work_batches"]

Key = tuple[int, int]
"""One sample of one epoch: (epoch, index)."""
Found = tuple[Tree, Tree, Tensor | None]
PARTS = ("inputs", "targets", "weights")


def seed_host_(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch (CPU), which users' datasets draw from."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)


@contextmanager
def host_state_kept() -> Iterator[None]:
    """Afterwards the global generators of Python, numpy and torch are where they were.

    >>> before = random.getstate()
    >>> with host_state_kept():
    ...     seed_host_(1)
    >>> random.getstate() == before
    True
    """
    import numpy as np

    host, array, tensor = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(host)
        np.random.set_state(array)
        torch.default_generator.set_state(tensor)


class _Fetch:
    """The work of one batch: every sample is read with the global generators seeded for (seed, epoch, sample).

    So it can't matter which process reads it, or what was read before.
    """

    def __init__(self, examples: WorkExamples, seed: int) -> None:
        self.examples, self.seed = examples, seed

    @property
    def dataset(self) -> Any:
        return getattr(self.examples, "dataset", self.examples)

    def __call__(self, keys: list[Key], note: Callable[[int], None]) -> Found | Failure:
        try:
            return self.read(keys, note)
        except _Failed as failed:
            return failed.failure

    def read(self, keys: list[Key], note: Callable[[int], None]) -> Found:
        """The batch of some keys; torch's default generators are where they were afterwards.

        Raises:
            _Failed: the user's code raised.
        """
        items = []
        with host_state_kept():
            for epoch, index in keys:
                note(index)
                seed_host_(derive(self.seed, "sample", epoch, index))
                try:
                    items.append(self.examples.item(index))
                except StepwellError as error:
                    raise _Failed(Failure.of(error)) from error
                except (Exception, SystemExit) as error:
                    raise _Failed(Failure.of_sample(error, number_in_dataset(self.examples, index))) from error
            note(NO_SAMPLE)
            seed_host_(derive(self.seed, "collate", *keys[0]))
            try:
                with unshared():
                    batch = self.examples.collate(items)
            except StepwellError as error:
                raise _Failed(Failure.of(error)) from error
            except Exception as error:
                raise _Failed(Failure.of_batch(error)) from error
        return batch.inputs, batch.targets, batch.weights


class _Failed(Exception):
    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.what)


def number_in_dataset(examples: Any, place: int) -> int:
    """The number under which a user's dataset knows an example: parts of a split count from 0."""
    while isinstance(examples, Subset):
        examples, place = examples.examples, int(examples.index[place])
    return place


def work_batches(
    examples: WorkExamples,
    keys: Iterable[list[Key]],
    *,
    seed: int,
    workers: int,
    pinned: bool = False,
    watch: Watch | None = None,
) -> Iterator[Batch]:
    """One batch for each list of keys, in order.

    Args:
        examples: where samples come from.
        keys: each batch's (epoch, index) pairs.
        seed: the run's seed.
        workers: processes that fetch ahead; 0 fetches here.
        pinned: whether batches are put in page-locked memory, for copies to a GPU that don't wait.
        watch: who is asked and told while samples are waited for.

    Raises:
        DataError: a sample can't be read, or samples can't be put together. It is not tried again.
        TrainingStopped: a worker process hung, or died more than three times in a row.
    """
    fetch, watch = _Fetch(examples, seed), watch or Watch()
    found = _from_workers(fetch, keys, workers, watch) if workers else _from_here(fetch, keys, watch)
    pins = pinned and torch.accelerator.is_available()
    for parts in found:
        batch = Batch(*parts)
        yield replace(batch, **{name: tree_map(Tensor.pin_memory, getattr(batch, name)) for name in PARTS}) if pins else batch


def _from_here(fetch: _Fetch, keys: Iterable[list[Key]], watch: Watch) -> Iterator[Found]:
    for batch in keys:
        try:
            yield fetch.read(batch, lambda place: watch.poll())
        except _Failed as failed:
            raise failed.failure.error() from failed.__cause__


def _from_workers(fetch: _Fetch, keys: Iterable[list[Key]], workers: int, watch: Watch) -> Iterator[Found]:
    crew = Crew(fetch, size=workers, watch=watch, number_of=lambda place: number_in_dataset(fetch.examples, place))
    with closing(crew.results(keys)) as results:
        for number, found in enumerate(results):
            if isinstance(found, Failure):
                raise found.error(f"worker {number % workers} of {workers}")
            yield found
