"""Sources over examples: where each training step's batch comes from, and batches in order for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn

from stepwell.core.batch import Batch, rank_bounds
from stepwell.core.errors import DataError, JobError
from stepwell.data.examples import Examples, TensorExamples, WorkExamples
from stepwell.data.loading import Key, Watch, work_batches
from stepwell.data.order import EpochOrder, Shuffle
from stepwell.data.sampling import SampledOrder, Sampling, sampled_order

__all__ = ["ShuffledSource", "eval_batches"]

# Data up to this size is put into the epoch's order at once, so that a batch is a slice: half the time of a gather
# on small batches, for one more copy of the data.
LARGEST_REORDERED = 64 << 20


class ShuffledSource:
    """Batches of numbered examples in an order that is a function of (seed, epoch): any step can be drawn at any time.

    Args:
        examples: the training part.
        batch_size: examples per optimizer step over all ranks, >= 1, or "full" for all of them.
        seed: the run's seed.
        rank, world_size: which share of each batch this process gets, see `stepwell.core.batch.rank_bounds`. A share
            of a short last batch can be empty.
        workers: processes that fetch samples ahead, >= 0; only for examples with work per sample.
        shuffle: "epoch" draws a new order each epoch, "none" keeps the data's.
        last: "keep" trains on an epoch's short last batch, "drop" leaves those examples out of that epoch.
        memory: "pinned" puts fetched batches in page-locked memory, for examples with work per sample.
        sampling: "once" draws each example once an epoch; "balanced" each class equally often; "weighted" in proportion
            to the sample weights, which then don't weigh the loss a second time. An epoch is as long in any case.

    Raises:
        JobError: a batch size that is larger than the data or not positive, or negative workers.
        DataError: balanced sampling of data without classes, weighted sampling without weights.

    >>> source = ShuffledSource(TensorExamples(torch.arange(10.0)), batch_size=4, seed=0)
    >>> source.steps_per_epoch, [len(source.next(cursor)) for cursor in range(4)]
    (3, [4, 4, 2, 4])
    """

    def __init__(
        self,
        examples: Examples,
        *,
        batch_size: int | Literal["full"],
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        shuffle: Shuffle = "epoch",
        last: Literal["keep", "drop"] = "keep",
        memory: Literal["pageable", "pinned"] = "pageable",
        sampling: Sampling = "once",
    ) -> None:
        self.examples, self.seed, self.sampling = examples, seed, sampling
        self.rank, self.world_size, self.workers, self.last, self.memory = rank, world_size, workers, last, memory
        self._num = len(examples)
        self._size = _checked_size(batch_size, self._num, workers)
        self._steps = self._num // self._size if last == "drop" else -(-self._num // self._size)
        self._shuffle = shuffle
        self._order = self._new_order()
        self._reorders = _fits_reordered(examples, self._size, shuffle)
        self._epoch = -1
        self._epoch_examples: TensorExamples | None = None
        self._fetched: Iterator[Batch] | None = None
        self._next_fetched = -1
        self.watch = Watch()  # whoever trains may put in its own

    @property
    def batch_size(self) -> int:
        return self._size

    @property
    def steps_per_epoch(self) -> int:
        return self._steps

    def num_samples_at(self, cursor: int) -> int:
        """Examples in a step's batch, over all ranks."""
        return min(self._size, self._num - cursor % self._steps * self._size)

    def next(self, cursor: int, model: nn.Module | None = None) -> Batch:
        """This rank's share of the step's batch at `cursor`."""
        epoch, step = divmod(cursor, self._steps)
        start = step * self._size
        stop = min(start + self._size, self._num)
        position = 0
        if self.world_size > 1:
            position, end = rank_bounds(stop - start, rank=self.rank, world_size=self.world_size)
            start, stop = start + position, start + end
        if self._reorders:
            if epoch != self._epoch:
                self._reorder(epoch)
            batch = self._epoch_examples.slice(start, stop)  # type: ignore[union-attr]
        elif self.examples.work_per_sample:
            batch = self._fetch(cursor).part(0, stop - start)
        else:
            batch = self.examples.batch(self._order.take(epoch, start, stop))
        batch.position = position
        if self.sampling == "weighted":
            batch.weights = None
        return batch

    def _new_order(self) -> EpochOrder | SampledOrder:
        sampled = sampled_order(self.examples, self.sampling, seed=self.seed)
        return EpochOrder(self._num, seed=self.seed, shuffle=self._shuffle) if sampled is None else sampled

    def state_dict(self) -> dict[str, Any]:
        """What the order is a function of; the cursor is the caller's."""
        return {"num_examples": self._num, "batch_size": self._size, "seed": self.seed, "sampling": self.sampling}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Check that the order goes on as it was.

        Raises:
            DataError: the data has another length, or batch size or seed differ.
        """
        for name, now in self.state_dict().items():
            if state.get(name, "once") != now:
                raise DataError(
                    f"the saved run had {name} {state[name]}, this one has {now}",
                    expected="the same data, batch size, seed and sampling, so that the order of examples goes on",
                    fix="Resume with the job and the data it was started with, or start a new run",
                )

    def close(self) -> None:
        """End the worker processes; the next batch starts new ones."""
        if isinstance(self._fetched, Iterator) and hasattr(self._fetched, "close"):
            self._fetched.close()
        self._fetched = None

    def _reorder(self, epoch: int) -> None:
        assert isinstance(self.examples, TensorExamples)
        if self._order.shuffle == "none":
            self._epoch_examples = self.examples
        else:
            self._epoch_examples = self.examples.select(self._order.whole(epoch))
        self._epoch = epoch

    def _fetch(self, cursor: int) -> Batch:
        if self._fetched is None or cursor != self._next_fetched:
            self.close()
            assert isinstance(self.examples, WorkExamples)
            self._fetched = work_batches(
                self.examples,
                self._keys(cursor),
                seed=self.seed,
                workers=self.workers,
                pinned=self.memory == "pinned",
                watch=self.watch,
            )
        self._next_fetched = cursor + 1
        try:
            return next(self._fetched)
        except BaseException:  # what has raised once gives nothing more: the next call begins at its own cursor
            self.close()
            raise

    def _keys(self, cursor: int) -> Iterator[list[Key]]:
        # Without end: workers fetch the next epoch's first batches while the last ones of this epoch are used. The
        # order is a copy of its own, because workers run ahead over the end of an epoch.
        order = self._new_order()
        while True:
            epoch, step = divmod(cursor, self._steps)
            start, size = step * self._size, self.num_samples_at(cursor)
            first, last = rank_bounds(size, rank=self.rank, world_size=self.world_size)
            # An empty share still needs one sample, for its shapes.
            places = order.take(epoch, start + first, start + last) if last > first else order.take(epoch, start, start + 1)
            yield [(epoch, index) for index in places.tolist()]
            cursor += 1


def eval_batches(
    examples: Examples,
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    seed: int = 0,
    watch: Watch | None = None,
) -> Iterator[Batch]:
    """Every example once, in order, without padding; each rank gets one consecutive part.

    Args:
        examples: the part to evaluate.
        batch_size: examples per batch, >= 1; the last may be shorter.
        rank, world_size: which part this process gets; it can be empty.
        workers: processes that fetch samples ahead, for examples with work per sample.
        seed: for datasets that draw random numbers: each sample draws the same ones every time.
        watch: who is asked and told while samples are waited for.

    >>> [len(batch) for batch in eval_batches(TensorExamples(torch.zeros(5)), batch_size=2)]
    [2, 2, 1]
    """
    first, last = rank_bounds(len(examples), rank=rank, world_size=world_size)
    spans = [(start, min(start + batch_size, last)) for start in range(first, last, batch_size)]
    if examples.work_per_sample:
        assert isinstance(examples, WorkExamples)
        keys = ([(0, index) for index in range(*span)] for span in spans)
        batches = work_batches(examples, keys, seed=seed, workers=workers, watch=watch)
    elif isinstance(examples, TensorExamples):
        batches = (examples.slice(*span) for span in spans)
    else:
        batches = (examples.batch(torch.arange(*span)) for span in spans)
    for (start, _), batch in zip(spans, batches, strict=True):
        batch.position = start
        yield batch


def _checked_size(batch_size: int | Literal["full"], num: int, workers: int) -> int:
    if workers < 0:
        raise JobError(f"workers is {workers}", expected="0 or more processes", fix="Use 0 to load data in the training process")
    if batch_size == "full":
        return num
    if batch_size < 1:
        raise JobError(f"batch_size is {batch_size}", expected='a whole number above 0, or "full"', fix="Use for example 32")
    if batch_size > num:
        raise JobError(
            f"batch_size is {batch_size} but there are {num} training examples",
            expected="a batch no larger than the data",
            fix="Use a smaller batch_size, or batch_size: full to train on all examples at each step",
        )
    return batch_size


def _fits_reordered(examples: Examples, size: int, shuffle: Shuffle) -> bool:
    if not isinstance(examples, TensorExamples) or not (size == len(examples) or examples.aligned(size)):
        return False
    return shuffle == "none" or examples.num_bytes <= LARGEST_REORDERED
