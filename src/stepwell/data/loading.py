"""Samples that cost work each: fetched in order by worker processes or here, with the same random draws."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError, StepwellError
from stepwell.core.randomness import derive
from stepwell.data.examples import WorkExamples

Key = tuple[int, int]
"""One sample of one epoch: (epoch, index)."""


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


@dataclass(frozen=True)
class _Refused:
    # An error of ours on its way out of a worker: torch would turn it into a RuntimeError with a worker's traceback.
    what: str
    expected: str
    fix: str
    where: str | None

    @staticmethod
    def of(error: StepwellError) -> _Refused:
        return _Refused(error.what, error.expected, error.fix, error.where)


class _SeededItems:
    # The DataLoader's dataset: every sample is fetched with the global generators seeded for (seed, epoch, sample),
    # so it can't matter which process fetches it, or what was fetched before.
    def __init__(self, examples: WorkExamples, seed: int) -> None:
        self.examples, self.seed = examples, seed

    def __getitems__(self, keys: list[Key]) -> list[Any]:
        items = []
        with host_state_kept():
            for epoch, index in keys:
                seed_host_(derive(self.seed, "sample", epoch, index))
                try:
                    items.append(self.examples.item(index))
                except StepwellError as error:
                    return [_Refused.of(error)]
        return items

    def __getitem__(self, key: Key) -> Any:
        return self.__getitems__([key])[0]

    def __len__(self) -> int:
        return len(self.examples)


class _Collate:
    # A tuple, not a Batch: the DataLoader's pinning thread knows tuples, dicts and lists only.
    def __init__(self, examples: WorkExamples) -> None:
        self.examples = examples

    def __call__(self, items: list[Any]) -> _Refused | tuple[Any, Any, Tensor | None]:
        if isinstance(items[0], _Refused):
            return items[0]
        try:
            batch = self.examples.collate(items)
        except StepwellError as error:
            return _Refused.of(error)
        return batch.inputs, batch.targets, batch.weights


class _Keys:
    # A batch sampler is iterated anew by each DataLoader iterator, so it holds a function, not an iterator.
    def __init__(self, make: Callable[[], Iterator[list[Key]]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[list[Key]]:
        return self._make()


def work_batches(
    examples: WorkExamples,
    keys: Callable[[], Iterator[list[Key]]],
    *,
    seed: int,
    workers: int,
    pinned: bool = False,
) -> Iterator[Batch]:
    """One batch for each list of keys, in order.

    Args:
        examples: where samples come from.
        keys: makes the iterator over each batch's (epoch, index) pairs.
        seed: the run's seed.
        workers: processes that fetch ahead; 0 fetches here.
        pinned: whether batches are put in page-locked memory, for copies to a GPU that don't wait.

    Raises:
        DataError: a sample can't be read, or samples can't be put together.
    """
    loader: DataLoader[Any] = DataLoader(
        _SeededItems(examples, seed),  # type: ignore[arg-type]
        batch_sampler=_Keys(keys),  # type: ignore[arg-type]
        collate_fn=_Collate(examples),
        num_workers=workers,
        pin_memory=pinned,
        # Else the DataLoader would draw its workers' seeds from the user's generator.
        generator=torch.Generator().manual_seed(derive(seed, "workers")),
    )
    for fetched in loader:
        if isinstance(fetched, _Refused):
            raise DataError(fetched.what, expected=fetched.expected, fix=fetched.fix, where=fetched.where)
        yield Batch(*fetched)
