"""The search for the best rate, on losses that are a known function of the rate."""

from __future__ import annotations

import itertools
import math

import pytest

from stepwell.doctor.lr_trials import LEAST_SCOUT_STEPS, MOST_TRIALS, Bounds, Trial, climbed, contested, scouted, winner

BOUNDS = Bounds(low=1e-5, high=1.0, ceiling=10.0, num_steps=400)


def bowl(best: float, *, wall: float = math.inf) -> object:
    """A loss that grows with the square of the distance in factors, and diverges above a wall."""

    def run(rate: float, num_steps: int, repeat: int) -> float:
        return math.inf if rate > wall else 1 + math.log(rate / best) ** 2

    return run


def test_scouts_cover_the_range_in_half_decades_with_an_eighth_of_the_steps() -> None:
    scouts = scouted(bowl(0.01), BOUNDS)  # type: ignore[arg-type]
    rates = [trial.rate for trial in scouts]
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx(1e-5)
    assert [a / b for a, b in itertools.pairwise(rates)] == pytest.approx([math.sqrt(10)] * 10)
    assert {trial.num_steps for trial in scouts} == {50}
    assert {trial.kind for trial in scouts} == {"scout"}
    short = scouted(bowl(0.01), Bounds(low=1e-5, high=1.0, ceiling=10.0, num_steps=40))  # type: ignore[arg-type]
    assert {trial.num_steps for trial in short} == {LEAST_SCOUT_STEPS}


@pytest.mark.parametrize("start", [0.02, 0.1, 1e-3, 5e-3])
def test_trials_climb_to_within_a_quarter_octave_of_the_best(start: float) -> None:
    trials = climbed(bowl(0.02), start, BOUNDS)  # type: ignore[arg-type]
    found = winner(trials)
    assert found is not None
    assert abs(math.log2(found / 0.02)) <= 0.26
    assert len(trials) <= MOST_TRIALS + 2
    assert len({trial.rate for trial in trials}) == len(trials)


def test_a_start_where_all_diverges_goes_down_until_something_does_not() -> None:
    found = winner(climbed(bowl(0.002, wall=0.003), 0.1, BOUNDS))  # type: ignore[arg-type]
    assert found is not None
    assert 0.001 < found <= 0.003


def test_no_trial_is_above_the_ceiling() -> None:
    trials = climbed(bowl(1e6), 5.0, BOUNDS)  # type: ignore[arg-type]
    assert max(trial.rate for trial in trials) == 10.0


def test_where_everything_diverges_there_is_no_winner() -> None:
    trials = climbed(bowl(1.0, wall=0.0), 0.1, BOUNDS)  # type: ignore[arg-type]
    assert winner(trials) is None
    assert contested(bowl(1.0), trials, repeats=3) == []  # type: ignore[arg-type]


def test_the_contest_gives_the_best_four_to_every_other_repeat() -> None:
    trials = [
        Trial(rate, 10, 0, loss)
        for rate, loss in ((0.1, 3.0), (0.2, 1.0), (0.4, 2.0), (0.8, math.inf), (0.05, 9.0), (0.02, 10.0))
    ]
    calls = []

    def run(rate: float, num_steps: int, repeat: int) -> float:
        calls.append((rate, num_steps, repeat))
        return {0.1: 1.0, 0.2: 4.0, 0.4: 1.0, 0.05: 9.0}[rate]

    more = contested(run, trials, repeats=2)
    assert calls == [(0.2, 10, 1), (0.4, 10, 1), (0.1, 10, 1), (0.05, 10, 1)]
    # Means: 0.1 has (3 + 1) / 2, 0.2 has (1 + 4) / 2, 0.4 has (2 + 1) / 2. What one repeat alone has tried doesn't count.
    assert winner(trials + more) == 0.4
