"""Training batches from an iterable dataset: its own saved state where it has one, else a counted replay."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.data import default_collate

from stepwell.core.batch import Batch, rank_bounds
from stepwell.core.errors import DataError, JobError, StepwellError
from stepwell.core.randomness import derive
from stepwell.data.examples import as_batch
from stepwell.data.failures import told
from stepwell.data.loading import Watch, host_state_kept, seed_host_

__all__ = ["IterableSource", "iterable_batches"]

logger = logging.getLogger("stepwell.data")


class IterableSource:
    """Batches of an iterable dataset, in its own order; when it ends, the next pass begins.

    The global generators are seeded for (seed, cursor) while the dataset is read and put back after it. A dataset with
    `state_dict` and `load_state_dict` is resumed by them; any other is read again from the start of its pass, up to
    where it was. Every rank reads the whole stream and keeps its share.

    Args:
        dataset: iterable; it can be iterated more than once. Items as in `MapExamples`. `set_epoch(pass)` is called
            where it exists.
        batch_size: samples per optimizer step over all ranks, >= 1; the last batch of a pass may be shorter.
        seed: the run's seed.
        rank, world_size: which share of each batch this process gets.
        dtype: what float64 becomes; None keeps it.

    Raises:
        JobError: a batch size that isn't a positive number.

    >>> source = IterableSource([(torch.tensor(float(i)), i) for i in range(3)], batch_size=2, seed=0)
    >>> [source.next(cursor).targets.tolist() for cursor in range(3)]
    [[0, 1], [2], [0, 1]]
    """

    steps_per_epoch = None

    def __init__(
        self,
        dataset: Any,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        dtype: torch.dtype | None = torch.float32,
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise JobError(
                f"batch_size is {batch_size!r} with data of unknown length",
                expected="a whole number above 0",
                fix="Use for example 32; full needs data whose length is known",
            )
        self.dataset, self.seed, self.rank, self.world_size, self.dtype = dataset, seed, rank, world_size, dtype
        self._size = batch_size
        self._restorable = hasattr(dataset, "state_dict") and hasattr(dataset, "load_state_dict")
        how = "its state_dict" if self._restorable else "reading it again up to where it was, best effort"
        logger.info("iterable dataset %s: a resumed run restores it by %s", type(dataset).__name__, how)
        self._cursor = self._pass = self._pass_start = 0
        self._items: Iterator[Any] | None = None
        self._torn = False  # a batch was begun and not finished: the dataset's own state is past this source's
        self.watch = Watch()  # whoever trains may put in its own

    @property
    def batch_size(self) -> int:
        return self._size

    def next(self, cursor: int, model: nn.Module | None = None) -> Batch:
        """This rank's share of the step's batch at `cursor`; other cursors than the next one cost a replay."""
        if cursor < self._cursor:
            self._rewind(0, 0)
        elif self._torn:
            self._rewind(self._pass, self._pass_start)
        while self._cursor < cursor:
            self._draw()
        batch = as_batch(default_collate(self._draw()), dtype=self.dtype)
        if self.world_size == 1:
            return batch
        return batch.part(*rank_bounds(len(batch), rank=self.rank, world_size=self.world_size))

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch begins."""
        dataset = self.dataset.state_dict() if self._restorable and not self._torn else None
        return {"cursor": self._cursor, "pass": self._pass, "pass_start": self._pass_start, "dataset": dataset}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved place."""
        if self._restorable and state["dataset"] is not None:
            self.dataset.load_state_dict(state["dataset"])
            self._items = iter(self.dataset)
            self._cursor, self._pass, self._pass_start = state["cursor"], state["pass"], state["pass_start"]
            return
        self._rewind(state["pass"], state["pass_start"])
        skipped = state["cursor"] - self._cursor
        if skipped:
            logger.info("reading %d batches of the iterable dataset again, to go on where the run stopped", skipped)
        while self._cursor < state["cursor"]:
            self._draw()

    def _rewind(self, turn: int, cursor: int) -> None:
        self._items, self._pass, self._pass_start, self._cursor = None, turn, cursor, cursor

    def _draw(self) -> list[Any]:
        self._torn = True
        with host_state_kept():
            seed_host_(derive(self.seed, "iterable", self._cursor))
            items = self._take()
            if not items:
                self._rewind(self._pass + 1, self._cursor)
                items = self._take()
        if not items:
            raise DataError(
                f"the iterable dataset gave no items in pass {self._pass}",
                expected="a dataset that can be iterated again from its start",
                fix="Give an object whose __iter__ starts anew, not a generator, or a budget within one pass",
            )
        self._cursor += 1
        self._torn = False
        return items

    def _take(self) -> list[Any]:
        items: list[Any] = []
        with _named(self._cursor, items):
            if self._items is None:
                if hasattr(self.dataset, "set_epoch"):
                    self.dataset.set_epoch(self._pass)
                self._items = iter(self.dataset)
        while len(items) < self._size:
            with _named(self._cursor, items):
                item = next(self._items, self)
            if item is self:
                break
            items.append(item)
            if not self._restorable:  # a dataset with a state of its own can't be taken back to the start of a batch
                self.watch.poll()
        return items


def iterable_batches(
    dataset: Any, *, batch_size: int, rank: int = 0, world_size: int = 1, dtype: torch.dtype | None = torch.float32, seed: int = 0
) -> Iterator[Batch]:
    """One pass over an iterable dataset for evaluation: every item once, in order, each rank its share of a batch.

    >>> [len(batch) for batch in iterable_batches([(torch.zeros(2), 0)] * 3, batch_size=2)]
    [2, 1]
    """
    iterator, start = iter(dataset), 0
    while True:
        items: list[Any] = []
        with host_state_kept(), _named(start // batch_size, items):
            seed_host_(derive(seed, "evaluate", start))
            while len(items) < batch_size and (item := next(iterator, iterator)) is not iterator:
                items.append(item)
        if not items:
            return
        whole = as_batch(default_collate(items), dtype=dtype)
        batch = whole.part(*rank_bounds(len(whole), rank=rank, world_size=world_size))
        batch.position += start
        start += len(items)
        yield batch


@contextmanager
def _named(cursor: int, items: list[Any]) -> Iterator[None]:
    try:
        yield
    except StepwellError:
        raise
    except Exception as error:
        raise DataError(
            f"the iterable dataset failed after {len(items)} items of batch {cursor}: {told(error)}",
            expected="a dataset whose items can all be read",
            fix="Mend the dataset, or let it leave out what it can't read",
        ) from error
