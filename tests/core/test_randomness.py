"""Derived randomness: a function of its arguments, independent between purposes, and without a trace."""

from __future__ import annotations

import random

import pytest
import torch

from stepwell.core.randomness import Rng, SeededDefaults, derive, seeded_defaults


def test_the_same_arguments_give_the_same_seed_and_any_other_argument_another() -> None:
    assert derive(3, "mixup#0", 7, 1) == derive(3, "mixup#0", 7, 1)
    others = [
        (4, "mixup#0", 7, 1),
        (3, "mixup#1", 7, 1),
        (3, "mixup#0", 8, 1),
        (3, "mixup#0", 7, 2),
        (3, "mixup#0", 1, 7),
        (3, "mixup#0", 7),
    ]
    seeds = {derive(3, "mixup#0", 7, 1), *(derive(*other) for other in others)}  # type: ignore[arg-type]
    assert len(seeds) == 7


def test_seeds_are_63_bit_numbers_without_a_collision_among_a_hundred_thousand() -> None:
    # 1e5 draws of 63 bits collide with probability 5e-10.
    seeds = {derive(0, purpose, cursor) for purpose in ("a", "b") for cursor in range(50_000)}
    assert len(seeds) == 100_000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_every_bit_of_consecutive_seeds_is_a_fair_coin() -> None:
    # 4,000 fair coins: 2,000 heads with a standard deviation of 31.6; five of them for the largest of 63.
    seeds = [derive(0, "shuffle", cursor) for cursor in range(4000)]
    heads = [sum(seed >> bit & 1 for seed in seeds) for bit in range(63)]
    assert all(abs(count - 2000) < 160 for count in heads)


def test_a_negative_seed_and_a_huge_one_are_seeds_too() -> None:
    assert len({derive(seed, "x", 1) for seed in (-1, 0, 1, 2**200)}) == 4


def test_known_values_stay_as_they_are_since_stored_runs_depend_on_them() -> None:
    # The finaliser of SplitMix64 over blake2b, computed step by step with other arithmetic.
    from hashlib import blake2b

    def finalise(value: int) -> int:
        value = ((value ^ (value // 2**30)) * 0xBF58476D1CE4E5B9) % 2**64
        value = ((value ^ (value // 2**27)) * 0x94D049BB133111EB) % 2**64
        return value ^ (value // 2**31)

    key = int.from_bytes(blake2b(b"5/shuffle", digest_size=8).digest(), "little")
    expected = finalise(finalise(((key ^ 9) + 0x9E3779B97F4A7C15) % 2**64)) // 2
    assert derive(5, "shuffle", 9) == expected


def test_the_host_generator_starts_at_the_seed_and_goes_on() -> None:
    rng, oracle = Rng(11), random.Random(11)
    assert [rng.host.random(), rng.host.random()] == [oracle.random(), oracle.random()]


def test_a_torch_generator_always_starts_anew() -> None:
    rng = Rng(11)
    draws = [torch.rand(3, generator=rng.generator()) for _ in range(2)]
    assert torch.equal(*draws)


def test_children_differ_by_their_place_and_from_their_parent() -> None:
    rng = Rng(11)
    assert len({rng.seed, rng.child(0).seed, rng.child(1).seed, rng.child(0, 1).seed}) == 4
    assert rng.child(1).seed == rng.child(1).seed


def test_two_consumers_can_not_disturb_each_other() -> None:
    alone = Rng(derive(0, "b", 3)).host.random()
    Rng(derive(0, "a", 3)).host.random()
    random.random()
    torch.rand(5)
    assert Rng(derive(0, "b", 3)).host.random() == alone


def test_seeded_defaults_draw_as_torch_does_from_that_seed_and_leave_no_trace() -> None:
    oracle = torch.rand(4, generator=torch.Generator().manual_seed(7))
    before = torch.default_generator.get_state()
    with seeded_defaults(7):
        assert torch.equal(torch.rand(4), oracle)
    assert torch.equal(torch.default_generator.get_state(), before)


def test_seeded_defaults_put_the_state_back_after_an_error_too() -> None:
    before = torch.default_generator.get_state()

    def broken() -> None:
        with seeded_defaults(7):
            torch.rand(1)
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert torch.equal(torch.default_generator.get_state(), before)


def test_several_seeds_within_one_hold_end_at_the_state_before() -> None:
    defaults = SeededDefaults(torch.device("cpu"))
    before = torch.default_generator.get_state()
    defaults.hold()
    for seed in (1, 2):
        defaults.seed(seed)
        torch.rand(2)
    defaults.put_back()
    assert torch.equal(torch.default_generator.get_state(), before)


def test_numbers_for_samples_are_those_of_splitmix64_at_their_places() -> None:
    def finalise(value: int) -> int:
        value = ((value ^ (value // 2**30)) * 0xBF58476D1CE4E5B9) % 2**64
        value = ((value ^ (value // 2**27)) * 0x94D049BB133111EB) % 2**64
        return value ^ (value // 2**31)

    seed = 2**62 + 12345
    start = finalise(seed)
    expected = [finalise((start + 0x9E3779B97F4A7C15 * place) % 2**64) // 2**40 / 2**24 for place in range(6, 12)]
    assert Rng(seed).uniform(3, 3, 2).flatten().tolist() == expected


def test_numbers_for_samples_do_not_depend_on_how_a_batch_is_cut() -> None:
    whole = Rng(5).uniform(0, 40, 3)
    parts = [Rng(5).uniform(0, 24, 3), Rng(5).uniform(24, 16, 3)]
    assert torch.equal(whole, torch.cat(parts))
    assert whole.shape == (40, 3)
    assert whole.dtype == torch.float32


def test_numbers_for_samples_are_spread_evenly_and_the_columns_are_independent() -> None:
    # 1e5 uniform numbers: mean 1/2 with a standard error of 0.00091, squares 1/3 with 0.00094; five of each are allowed.
    draws = Rng(9).uniform(0, 100_000, 2).double()
    assert 0 <= draws.min() < draws.max() < 1
    assert abs(draws[:, 0].mean() - 0.5) < 0.0046
    assert abs(draws[:, 1].square().mean() - 1 / 3) < 0.0047
    assert abs(torch.corrcoef(draws.T)[0, 1]) < 0.016
