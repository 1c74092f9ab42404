"""Clock and horizon, by hand."""

from __future__ import annotations

import pytest

from stepwell.core.clock import Clock, Horizon, steps_of
from stepwell.core.errors import JobError


def test_a_tick_adds_one_step_and_what_was_in_it() -> None:
    clock = Clock()
    clock.tick(samples=32, tokens=100)
    clock.tick(samples=5)
    assert (clock.steps, clock.samples, clock.tokens) == (2, 37, 100)


def test_a_restored_clock_is_equal() -> None:
    clock, other = Clock(3, 96, 7), Clock()
    other.load_state_dict(clock.state_dict())
    assert other == clock


def test_a_budget_in_epochs_is_counted_in_steps_rounded_up() -> None:
    assert Horizon.of("2.5 epochs", steps_per_epoch=7) == Horizon(18, "steps", 1.0, 7)


def test_a_budget_in_samples_ends_with_the_step_that_completes_it() -> None:
    horizon = Horizon.of("1000 samples", samples_per_step=64)
    assert (horizon.total, horizon.unit, horizon.per_step, horizon.total_steps) == (1000, "samples", 64, 16)


@pytest.mark.parametrize("budget", ["5%", "10 minutes", "0 steps", "0 epochs"])
def test_a_budget_that_is_no_amount_of_work_is_refused(budget: str) -> None:
    with pytest.raises(JobError, match="budget is"):
        Horizon.of(budget, steps_per_epoch=10)


def test_epochs_of_endless_data_are_refused() -> None:
    with pytest.raises(JobError, match="no known length"):
        Horizon.of("3 epochs")


def test_tokens_of_data_without_tokens_are_refused() -> None:
    with pytest.raises(JobError, match="the data has no tokens"):
        Horizon.of("1M tokens")


def test_durations_become_amounts_of_the_unit_of_the_budget() -> None:
    steps = Horizon.of("10 epochs", steps_per_epoch=20, samples_per_step=32)
    assert [steps.amount(d) for d in ("5%", "3 epochs", "7 steps", "320 samples")] == [10, 60, 7, 10]
    tokens = Horizon.of("1M tokens", steps_per_epoch=10, samples_per_step=8, tokens_per_step=500)
    assert [tokens.amount(d) for d in ("5%", "3 epochs", "7 steps", "16 samples", "2k tokens")] == [
        50_000,
        15_000,
        3500,
        1000,
        2000,
    ]


def test_durations_become_whole_steps_and_at_least_one_when_positive() -> None:
    horizon = Horizon.of("10 epochs", steps_per_epoch=20)
    assert [horizon.steps(d) for d in ("50%", "0.001%", "0%", "0 steps", "2 epochs")] == [100, 1, 0, 0, 40]


def test_a_unit_that_the_run_can_not_count_is_refused_by_name() -> None:
    with pytest.raises(JobError, match="warmup is 3 epochs but this run can't count epochs"):
        Horizon.of("100 steps").steps("3 epochs", name="warmup")
    with pytest.raises(JobError, match="warmup is 10 tokens but this run can't count tokens"):
        Horizon.of("100 steps").amount("10 tokens", name="warmup")


def test_progress_is_read_from_the_clock_in_the_unit_of_the_budget() -> None:
    clock = Clock(steps=3, samples=90, tokens=1234)
    assert Horizon.of("10 steps").done(clock) == 3
    assert Horizon.of("1000 samples", samples_per_step=32).done(clock) == 90
    assert Horizon.of("9000 tokens", tokens_per_step=400).done(clock) == 1234


def test_epochs_are_completed_steps_over_steps_per_epoch() -> None:
    assert Horizon.of("10 epochs", steps_per_epoch=4).epochs(Clock(steps=6)) == 1.5
    assert Horizon.of("10 steps").epochs(Clock(steps=6)) == 0.0


def test_outside_a_run_only_steps_have_a_meaning() -> None:
    assert steps_of("12 steps", None, name="start") == 12
    with pytest.raises(JobError, match="start is 5% outside a planned run"):
        steps_of("5%", None, name="start")
    assert steps_of("5%", Horizon.of("200 steps"), name="start") == 10
