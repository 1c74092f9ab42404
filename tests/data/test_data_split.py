from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.core.errors import DataError, JobError
from stepwell.data.split import Parts, SplitSpec, split_indices

shares = st.sampled_from([(0.2, 0.2), (0.1, 0.0), (0.0, 0.3), (0.25, 0.5)])


def check(parts: Parts, n: int) -> None:
    every = torch.cat([parts.train, parts.validation, parts.test])
    assert sorted(every.tolist()) == list(range(n))  # disjoint, and nothing is left out
    assert len(parts.train) > 0


@settings(max_examples=50, deadline=None)
@given(n=st.integers(5, 300), share=shares, seed=st.integers(0, 9))
def test_a_random_split_has_the_shares_and_no_overlap(n: int, share: tuple[float, float], seed: int) -> None:
    spec = SplitSpec(validation=share[0], test=share[1], by="random")
    parts = split_indices(n, spec, seed=seed)
    check(parts, n)
    assert abs(len(parts.validation) - share[0] * n) <= (1 if share[0] else 0)
    assert abs(len(parts.test) - share[1] * n) <= (1 if share[1] else 0)
    again = split_indices(n, spec, seed=seed)
    assert torch.equal(parts.train, again.train)


def test_another_seed_gives_another_split() -> None:
    spec = SplitSpec(validation=0.2, test=0.2)
    assert not torch.equal(split_indices(100, spec, seed=0).test, split_indices(100, spec, seed=1).test)


@settings(max_examples=50, deadline=None)
@given(labels=st.lists(st.sampled_from("aaaabbc"), min_size=10, max_size=200), share=shares, seed=st.integers(0, 9))
def test_a_stratified_split_gives_each_class_its_share_to_within_one(labels: list, share: tuple, seed: int) -> None:
    parts = split_indices(len(labels), SplitSpec(validation=share[0], test=share[1], by="stratified"), targets=labels, seed=seed)
    check(parts, len(labels))
    for label in set(labels):
        members = {place for place, each in enumerate(labels) if each == label}
        assert members & set(parts.train.tolist())
        for part, wanted in ((parts.validation, share[0]), (parts.test, share[1])):
            assert abs(len(members & set(part.tolist())) - wanted * len(members)) <= 1 + 1e-9


@settings(max_examples=50, deadline=None)
@given(times=st.lists(st.integers(0, 40), min_size=20, max_size=100, unique_by=None), share=shares)
def test_a_split_by_time_never_trains_on_what_is_later(times: list, share: tuple) -> None:
    spec = SplitSpec(validation=share[0], test=share[1], by="time")
    values = np.array(times)
    try:
        parts = split_indices(len(times), spec, times=values)
    except DataError:
        # Only where one time holds so much that a border can't be drawn before it.
        assert np.bincount(values).max() >= len(times) * min(x for x in (*share, 1 - sum(share)) if x) - 1
        return
    check(parts, len(times))
    borders = [values[part.numpy()] for part in (parts.train, parts.validation, parts.test) if len(part)]
    for earlier, later in pairwise(borders):
        assert earlier.max() < later.min()


def test_a_split_by_time_orders_dates_and_falls_back_to_row_order() -> None:
    dates = np.array(["2021-03", "2021-01", "2021-02", "2021-05", "2021-04"], dtype="datetime64[M]")
    parts = split_indices(5, SplitSpec(validation=0.2, test=0.2, by="time"), times=dates)
    assert (parts.train.tolist(), parts.validation.tolist(), parts.test.tolist()) == ([0, 1, 2], [4], [3])
    rows = split_indices(5, SplitSpec(validation=0.2, test=0.2, by="time"))
    assert (rows.validation.tolist(), rows.test.tolist()) == ([3], [4])


@settings(max_examples=50, deadline=None)
@given(groups=st.lists(st.integers(0, 12), min_size=10, max_size=150), share=shares, seed=st.integers(0, 5))
def test_a_split_by_group_puts_no_group_in_two_parts(groups: list, share: tuple, seed: int) -> None:
    spec = SplitSpec(validation=share[0], test=share[1], by="group", column="g")
    if len(set(groups)) < 1 + sum(x > 0 for x in share):
        with pytest.raises(DataError, match=r"groups? for"):
            split_indices(len(groups), spec, groups=groups, seed=seed)
        return
    parts = split_indices(len(groups), spec, groups=groups, seed=seed)
    check(parts, len(groups))
    owners = [{groups[place] for place in part.tolist()} for part in (parts.train, parts.validation, parts.test)]
    assert not any(one & other for one, other in combinations(owners, 2))
    assert all(bool(len(part)) == bool(wanted) for part, wanted in ((parts.validation, share[0]), (parts.test, share[1])))


def test_a_column_can_name_the_parts_or_flag_the_training_rows() -> None:
    named = split_indices(4, SplitSpec(by="column", column="p"), groups=["train", "test", "Validation", "train"])
    assert (named.train.tolist(), named.validation.tolist(), named.test.tolist()) == ([0, 3], [2], [1])
    flagged = split_indices(4, SplitSpec(by="column", column="p"), groups=np.array([True, True, False, False]))
    assert (flagged.train.tolist(), flagged.validation.tolist(), flagged.test.tolist()) == ([0, 1], [], [2, 3])
    inner = split_indices(10, SplitSpec(by="column", column="p", validation=0.25), groups=[1] * 8 + [0] * 2, seed=0)
    check(inner, 10)
    assert (len(inner.validation), inner.test.tolist()) == (2, [8, 9])
    with pytest.raises(DataError, match="'maybe'"):
        split_indices(2, SplitSpec(by="column", column="p"), groups=["train", "maybe"])
    with pytest.raises(DataError, match="none to train on"):
        split_indices(2, SplitSpec(by="column", column="p"), groups=["test", "test"])


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_examples_are_refused(n: int) -> None:
    with pytest.raises(DataError, match=f"{n} example"):
        split_indices(n, SplitSpec(validation=0.2, test=0.2))
    assert split_indices(n, SplitSpec(validation=0.0, test=0.0)).train.tolist() == list(range(n))


@pytest.mark.parametrize(
    ("settings_", "said"),
    [
        ({"validation": 1.0}, "split.validation is 1.0"),
        ({"test": -0.1}, "split.test is -0.1"),
        ({"validation": 0.5, "test": 0.5}, "nothing to train on"),
        ({"by": "group"}, "split.column is not set"),
        ({"by": "file"}, "without a path"),
        ({"by": "random", "test_path": "x.csv"}, "split.by is not file"),
    ],
)
def test_settings_that_make_no_split_are_refused(settings_: dict, said: str) -> None:
    with pytest.raises(JobError, match=said):
        SplitSpec(**settings_)


def test_defaults_of_a_source_fill_only_what_was_left_open() -> None:
    filled = SplitSpec(validation=0.0).filled(validation=0.2, test=0.3, by="time")
    assert (filled.validation, filled.test, filled.by) == (0.0, 0.3, "time")
