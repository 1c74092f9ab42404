import logging
from collections.abc import Iterator

import pytest
import torch
from torch.utils.data import IterableDataset

from stepwell.core.errors import DataError, JobError
from stepwell.data.iterable import IterableSource, iterable_batches


class Stream(IterableDataset):
    """Ten items, each with a draw from torch's global generator."""

    def __init__(self) -> None:
        self.passes: list[int] = []
        self.read = 0

    def set_epoch(self, epoch: int) -> None:
        self.passes.append(epoch)

    def __iter__(self) -> Iterator:
        for place in range(10):
            self.read += 1
            yield torch.rand(2), place


class Restorable(IterableDataset):
    def __init__(self) -> None:
        self.place = 0
        self.read = 0

    def __iter__(self) -> Iterator:
        while self.place < 10:
            self.place += 1
            self.read += 1
            yield torch.rand(2), self.place - 1
        self.place = 0

    def state_dict(self) -> dict:
        return {"place": self.place}

    def load_state_dict(self, state: dict) -> None:
        self.place = state["place"]


def test_passes_follow_each_other_with_a_short_last_batch() -> None:
    stream = Stream()
    source = IterableSource(stream, batch_size=4, seed=0)
    targets = [source.next(cursor).targets.tolist() for cursor in range(4)]
    assert targets == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [0, 1, 2, 3]]
    assert stream.passes == [0, 1]
    assert source.steps_per_epoch is None


@pytest.mark.parametrize("kind", [Stream, Restorable])
def test_a_resumed_stream_goes_on_where_it_stopped(kind: type) -> None:
    straight = IterableSource(kind(), batch_size=4, seed=3)
    batches = [straight.next(cursor) for cursor in range(8)]
    for stop in range(8):
        first = IterableSource(kind(), batch_size=4, seed=3)
        for cursor in range(stop):
            first.next(cursor)
        resumed = IterableSource(kind(), batch_size=4, seed=3)
        resumed.load_state_dict(first.state_dict())
        for cursor in range(stop, 8):
            batch = resumed.next(cursor)
            assert torch.equal(batch.inputs, batches[cursor].inputs)
            assert torch.equal(batch.targets, batches[cursor].targets)


def test_a_restorable_stream_is_not_read_again() -> None:
    first = IterableSource(Restorable(), batch_size=4, seed=3)
    first.next(0)
    stream = Restorable()
    resumed = IterableSource(stream, batch_size=4, seed=3)
    resumed.load_state_dict(first.state_dict())
    resumed.next(1)
    assert stream.read == 4


def test_how_a_stream_resumes_is_said_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="stepwell.data"):
        IterableSource(Stream(), batch_size=4, seed=0)
        IterableSource(Restorable(), batch_size=4, seed=0)
    assert "best effort" in caplog.messages[0]
    assert "state_dict" in caplog.messages[1]


def test_another_cursor_is_reached_by_a_replay() -> None:
    straight = IterableSource(Stream(), batch_size=4, seed=3)
    batches = [straight.next(cursor) for cursor in range(6)]
    for cursor in (5, 2, 4):
        assert torch.equal(straight.next(cursor).inputs, batches[cursor].inputs)
    assert torch.equal(IterableSource(Stream(), batch_size=4, seed=3).next(5).inputs, batches[5].inputs)


def test_ranks_share_each_batch_of_a_stream() -> None:
    whole = IterableSource(Stream(), batch_size=10, seed=1)
    shares = [IterableSource(Stream(), batch_size=10, seed=1, rank=rank, world_size=2).next(0) for rank in (0, 1)]
    assert torch.equal(torch.cat([share.inputs for share in shares]), whole.next(0).inputs)
    assert [share.position for share in shares] == [0, 8]


def test_reading_a_stream_leaves_the_global_generator_alone() -> None:
    before = torch.default_generator.get_state()
    IterableSource(Stream(), batch_size=4, seed=0).next(0)
    list(iterable_batches(Stream(), batch_size=4))
    assert torch.equal(torch.default_generator.get_state(), before)


def test_a_generator_that_is_used_up_is_refused_in_its_second_pass() -> None:
    source = IterableSource((item for item in [(torch.zeros(1), 0)]), batch_size=1, seed=0)
    source.next(0)
    with pytest.raises(DataError, match="pass 1"):
        source.next(1)


def test_an_empty_stream_is_refused() -> None:
    with pytest.raises(DataError, match="no items"):
        IterableSource([], batch_size=1, seed=0).next(0)


@pytest.mark.parametrize("size", ["full", 0])
def test_a_stream_needs_a_number_as_batch_size(size: object) -> None:
    with pytest.raises(JobError, match="batch_size"):
        IterableSource(Stream(), batch_size=size, seed=0)


def test_evaluation_of_a_stream_is_one_pass_shared_by_the_ranks() -> None:
    assert [batch.targets.tolist() for batch in iterable_batches(Stream(), batch_size=4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    shares = [list(iterable_batches(Stream(), batch_size=10, rank=rank, world_size=2)) for rank in (0, 1)]
    assert [share[0].targets.tolist() for share in shares] == [list(range(8)), [8, 9]]
    assert [share[0].position for share in shares] == [0, 8]
