import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.data import order
from stepwell.data.order import EpochOrder, scattered


@settings(max_examples=60, deadline=None)
@given(num=st.integers(1, 700), seed=st.integers(0, 2**62))
def test_a_scattered_order_is_a_permutation(num: int, seed: int) -> None:
    assert sorted(scattered(torch.arange(num), num=num, seed=seed).tolist()) == list(range(num))


def test_a_scattered_order_reads_like_a_random_one() -> None:
    num = 100_000
    places = scattered(torch.arange(num), num=num, seed=5).double()
    # For a random permutation the correlation of place and image has standard deviation 1 / sqrt(num - 1) = 0.0032.
    correlation = torch.corrcoef(torch.stack([torch.arange(num).double(), places]))[0, 1]
    assert abs(float(correlation)) < 0.016
    neighbours = (places[1:] - places[:-1]).abs().mean() / num
    assert float(neighbours) == pytest.approx(1 / 3, abs=0.01)  # mean distance of two uniform points


def test_two_epochs_and_two_seeds_have_different_orders() -> None:
    orders = [EpochOrder(1000, seed=seed).whole(epoch) for seed, epoch in [(0, 0), (0, 1), (1, 0)]]
    assert all(sorted(each.tolist()) == list(range(1000)) for each in orders)
    assert not any(torch.equal(orders[a], orders[b]) for a, b in [(0, 1), (0, 2), (1, 2)])


def test_a_part_of_an_order_needs_nothing_before_it() -> None:
    walked = EpochOrder(100, seed=3)
    for epoch in range(3):
        walked.take(epoch, 0, 50)
    assert torch.equal(EpochOrder(100, seed=3).take(2, 40, 60), walked.take(2, 40, 60))


def test_orders_too_long_to_hold_cover_everything_in_any_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "LARGEST_HELD", 10)
    long = EpochOrder(101, seed=0)
    pieces = [long.take(4, start, min(start + 7, 101)) for start in range(0, 101, 7)]
    assert sorted(torch.cat(pieces).tolist()) == list(range(101))
    assert torch.equal(torch.cat(pieces), long.whole(4))
    assert not torch.equal(long.whole(4), long.whole(5))


def test_without_shuffling_the_order_is_the_datas() -> None:
    assert EpochOrder(5, seed=0, shuffle="none").take(3, 1, 4).tolist() == [1, 2, 3]
