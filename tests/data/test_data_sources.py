import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError, JobError
from stepwell.data import sources
from stepwell.data.examples import MapExamples, Subset, TensorExamples, TokenExamples
from stepwell.data.sources import ShuffledSource, eval_batches


class Noisy(Dataset):
    """Draws from the three global generators for every sample, as augmentations do."""

    def __init__(self, length: int = 20) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()]), place


def numbered(num: int) -> TensorExamples:
    return TensorExamples(torch.arange(float(num)).view(num, 1).expand(num, 16).clone(), torch.arange(num))


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets) and one.position == other.position


@settings(max_examples=60, deadline=None)
@given(num=st.integers(1, 90), size=st.integers(1, 40), seed=st.integers(0, 99))
def test_an_epoch_holds_every_example_once(num: int, size: int, seed: int) -> None:
    size = min(size, num)
    source = ShuffledSource(numbered(num), batch_size=size, seed=seed)
    for epoch in (0, 3):
        cursors = range(epoch * source.steps_per_epoch, (epoch + 1) * source.steps_per_epoch)
        batches = [source.next(cursor) for cursor in cursors]
        assert sorted(torch.cat([batch.targets for batch in batches]).tolist()) == list(range(num))
        assert [len(batch) for batch in batches] == [source.num_samples_at(cursor) for cursor in cursors]
        assert all(torch.equal(batch.inputs[:, 0].long(), batch.targets) for batch in batches)


def test_dropping_the_short_last_batch_gives_equal_batches() -> None:
    source = ShuffledSource(numbered(10), batch_size=4, seed=0, last="drop")
    assert source.steps_per_epoch == 2
    assert [len(source.next(cursor)) for cursor in range(6)] == [4] * 6


def test_a_full_batch_is_all_examples() -> None:
    source = ShuffledSource(numbered(10), batch_size="full", seed=0)
    assert source.batch_size == 10
    assert source.steps_per_epoch == 1
    assert len(source.next(5)) == 10


@pytest.mark.parametrize("size", [10, 16])
def test_slices_of_reordered_data_have_the_bits_of_gathers(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sliced = ShuffledSource(numbered(64), batch_size=size, seed=1)
    monkeypatch.setattr(sources, "LARGEST_REORDERED", 0)
    gathered = ShuffledSource(numbered(64), batch_size=size, seed=1)
    assert all(same(sliced.next(cursor), gathered.next(cursor)) for cursor in range(12))


@pytest.mark.parametrize(
    "examples",
    [
        numbered(50),
        TokenExamples(torch.arange(60), length=3),
        MapExamples(Noisy()),
        Subset(MapExamples(Noisy()), torch.arange(15)),
    ],
    ids=["tensors", "tokens", "work", "subset"],
)
def test_any_cursor_gives_what_a_straight_run_gives_there(examples: TensorExamples) -> None:
    straight = ShuffledSource(examples, batch_size=8, seed=4)
    batches = [straight.next(cursor) for cursor in range(12)]
    for start in (0, 3, 11, 6, 7):
        resumed = ShuffledSource(examples, batch_size=8, seed=4)
        resumed.load_state_dict(straight.state_dict())
        assert same(resumed.next(start), batches[start])
        assert same(straight.next(start), batches[start])


def test_worker_processes_give_the_samples_that_the_training_process_gives() -> None:
    here = ShuffledSource(MapExamples(Noisy()), batch_size=6, seed=2)
    there = ShuffledSource(MapExamples(Noisy()), batch_size=6, seed=2, workers=2)
    assert all(same(here.next(cursor), there.next(cursor)) for cursor in range(3, 10))
    assert same(here.next(1), there.next(1))  # going back restarts the workers
    there.close()
    assert same(here.next(2), there.next(2))
    there.close()


def test_a_sample_draws_anew_in_each_epoch() -> None:
    source = ShuffledSource(MapExamples(Noisy()), batch_size="full", seed=2)
    epochs = [source.next(epoch) for epoch in range(2)]
    values = [batch.inputs[batch.targets.argsort()] for batch in epochs]
    assert not torch.equal(values[0], values[1])
    assert len({value for row in values[0].tolist() for value in row}) == 60


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_the_global_generators_alone(workers: int) -> None:
    def state() -> tuple:
        return random.getstate(), np.random.get_state()[1].tobytes(), torch.default_generator.get_state().tolist()

    before = state()
    source = ShuffledSource(MapExamples(Noisy()), batch_size=6, seed=2, workers=workers)
    source.next(0)
    list(eval_batches(MapExamples(Noisy()), batch_size=4, workers=workers))
    source.close()
    assert state() == before


@pytest.mark.parametrize("make", [lambda: numbered(37), lambda: MapExamples(Noisy(37))], ids=["tensors", "work"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_the_ranks_shares_make_the_batch_of_one_rank(make: type, world_size: int) -> None:
    whole = ShuffledSource(make(), batch_size=16, seed=0)
    ranks = [ShuffledSource(make(), batch_size=16, seed=0, rank=rank, world_size=world_size) for rank in range(world_size)]
    for cursor in range(5):
        batch, shares = whole.next(cursor), [rank.next(cursor) for rank in ranks]
        assert torch.equal(torch.cat([share.inputs for share in shares]), batch.inputs)
        assert torch.equal(torch.cat([share.targets for share in shares]), batch.targets)
        starts = [sum(len(share) for share in shares[:rank]) for rank in range(world_size)]
        assert [share.position for share in shares] == starts
        assert all(start % 8 == 0 for start in starts if start < len(batch))


@settings(max_examples=40, deadline=None)
@given(num=st.integers(1, 100), size=st.integers(1, 30), world_size=st.integers(1, 4))
def test_evaluation_reads_every_example_once_in_order(num: int, size: int, world_size: int) -> None:
    seen = []
    for rank in range(world_size):
        for batch in eval_batches(numbered(num), batch_size=size, rank=rank, world_size=world_size):
            assert batch.position == batch.targets[0]
            seen += batch.targets.tolist()
    assert seen == list(range(num))


def test_evaluation_gives_the_same_samples_every_time_and_from_workers() -> None:
    passes = [list(eval_batches(MapExamples(Noisy()), batch_size=6, workers=workers)) for workers in (0, 0, 2)]
    assert [len(batch) for batch in passes[0]] == [6, 6, 6, 2]
    for other in passes[1:]:
        assert all(same(a, b) for a, b in zip(passes[0], other, strict=True))


class Refusing(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        if place == 2:
            raise DataError("c.png can't be read", expected="an image", fix="Remove it", where="c.png")
        return torch.zeros(2 if place < 3 else 5), place


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_sample_arrives_as_it_was_raised(workers: int) -> None:
    with pytest.raises(DataError, match=r"^c.png: c.png can't be read; expected an image. Remove it.$"):
        list(eval_batches(MapExamples(Refusing()), batch_size=3, workers=workers))
    apart = Subset(MapExamples(Refusing()), torch.tensor([0, 3]))
    with pytest.raises(DataError, match="can't be put together"):
        list(eval_batches(apart, batch_size=2, workers=workers))


def test_the_order_doesnt_depend_on_what_the_examples_are() -> None:
    tensors, items = numbered(20), MapExamples([(float(i), i) for i in range(20)])
    one, other = (ShuffledSource(examples, batch_size=8, seed=6) for examples in (tensors, items))
    assert all(torch.equal(one.next(cursor).targets, other.next(cursor).targets) for cursor in range(6))


@pytest.mark.parametrize(
    ("size", "said"), [(11, "larger|10 training examples"), (0, "batch_size is 0"), (-1, "batch_size is -1")]
)
def test_impossible_batch_sizes_are_refused(size: int, said: str) -> None:
    with pytest.raises(JobError, match=said):
        ShuffledSource(numbered(10), batch_size=size, seed=0)


def test_a_state_of_other_data_is_refused() -> None:
    state = ShuffledSource(numbered(10), batch_size=5, seed=0).state_dict()
    for other in (
        ShuffledSource(numbered(11), batch_size=5, seed=0),
        ShuffledSource(numbered(10), batch_size=4, seed=0),
        ShuffledSource(numbered(10), batch_size=5, seed=1),
    ):
        with pytest.raises(DataError, match="the saved run had"):
            other.load_state_dict(state)
