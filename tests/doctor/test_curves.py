"""The six patterns are told from curves alone, whatever the unit, the noise and the logging; healthy curves have none of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from benchmarks.curves import NOISES, recorded, simulated, table
from numpy.typing import NDArray

from stepwell.doctor.curve_fits import Level, certain_fall, levels, noise, swing
from stepwell.doctor.curves import FIXES, PATTERNS, Logged, verdict

Values = NDArray[np.float64]
T = np.linspace(0.0, 1.0, 200)
VAL_T = np.linspace(0.05, 1.0, 20)
EASY = {
    "flat": (2.3 + 0.0 * T, 2.3 + 0.0 * VAL_T),
    "diverging": (2.3 * np.exp(-8 * T) + 0.2 + np.where(T > 0.7, np.expm1(40 * (T - 0.7)), 0.0), 2.3 * np.exp(-8 * VAL_T) + 0.2),
    "overfitting": (2.3 * np.exp(-5 * T) + 0.02, 1.5 * np.exp(-8 * VAL_T) + 0.5 + 0.8 * np.clip(VAL_T - 0.4, 0, None)),
    "underfitting": (1.0 + np.exp(-10 * T), 1.02 + np.exp(-10 * VAL_T)),
    "oscillating": (1.0 + 0.5 * np.sin(60 * T), 1.0 + 0.5 * np.sin(60 * VAL_T)),
    "memorised": (2.3 * np.exp(-12 * T) + 0.005, 1.8 * np.exp(-12 * VAL_T) + 0.4),
    "none": (2.2 * np.exp(-8 * T) + 0.15, 2.2 * np.exp(-8 * VAL_T) + 0.18),
}


def course(train: Values, val: Values | None = None, **known: object) -> Logged:
    steps = {"steps": np.arange(1, len(train) + 1) * 10, "losses": train}
    if val is not None:
        steps |= {"val_steps": np.linspace(len(train) / len(val), len(train), len(val)) * 10, "val_losses": val}
    return Logged(**steps, **known)  # type: ignore[arg-type]


@pytest.mark.parametrize("pattern", EASY)
def test_each_pattern_is_told_and_has_a_fix(pattern: str) -> None:
    found = verdict(course(*EASY[pattern]))
    assert found.pattern == pattern
    assert found.fix == FIXES[found.pattern][0]
    if pattern != "none":
        assert 0.5 <= found.strength <= 1.0
        assert 10 <= found.first_step <= found.last_step <= 2000
        assert found.alternative


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e6])
@pytest.mark.parametrize("pattern", EASY)
def test_the_unit_of_the_loss_changes_nothing(pattern: str, unit: float) -> None:
    train, val = EASY[pattern]
    assert verdict(course(unit * train, unit * val)).pattern == pattern


@pytest.mark.parametrize("num_rows", [25, 60, 1000, 20_000])
@pytest.mark.parametrize("pattern", EASY)
def test_how_often_something_is_logged_changes_nothing(pattern: str, num_rows: int) -> None:
    train, val = EASY[pattern]
    rows = np.interp(np.linspace(0, 1, num_rows), T, train)
    if pattern == "oscillating":
        num_rows = max(num_rows, 60)
        rows = 1.0 + 0.5 * np.sin(60 * np.linspace(0, 1, num_rows))
    assert verdict(course(rows, val)).pattern == pattern


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pattern", EASY)
def test_noise_of_a_twentieth_changes_nothing(pattern: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    train, val = (part * np.exp(0.05 * draw.standard_normal(len(part))) for part in EASY[pattern])
    assert verdict(course(train, val)).pattern == pattern


@pytest.mark.parametrize("seed", range(5))
def test_a_single_spike_from_which_it_recovers_is_no_pattern(seed: int) -> None:
    train, val = (part.copy() for part in EASY["none"])
    train[40 + 30 * seed] = 50.0
    assert verdict(course(train, val)).pattern == "none"


def test_skipped_steps_in_between_are_no_divergence_and_numbers_that_end_are() -> None:
    train, val = EASY["none"][0].copy(), EASY["none"][1]
    train[50] = math.nan
    assert verdict(course(train, val)).pattern == "none"
    train[-1] = math.nan
    found = verdict(course(train, val))
    assert (found.pattern, found.strength, found.last_step) == ("diverging", 1.0, 2000)
    stopped = verdict(course(EASY["none"][0], val, bad_steps=[2001.0]))
    assert (stopped.pattern, stopped.first_step) == ("diverging", 2001)


def test_overfitting_shows_from_the_validation_minimum_on() -> None:
    found = verdict(course(*EASY["overfitting"]))
    assert found.first_step == pytest.approx(2000 * 0.5, abs=250)  # 1.5 e^(-8t) + 0.8 (t - 0.4) is least at t = ln(15) / 8 + ...
    assert found.evidence["val_lowest_step"] == found.first_step


@pytest.mark.parametrize("raised", [0.2, 0.5, 1.0])
def test_a_training_loss_raised_by_dropout_mixing_or_smoothing_is_no_pattern(raised: float) -> None:
    train, val = EASY["none"]
    assert verdict(course(train + raised, val, compared="raised")).pattern == "none"


def test_a_raised_training_loss_hides_no_overfitting() -> None:
    train, val = EASY["overfitting"]
    assert verdict(course(train + 0.4, val, compared="raised")).pattern == "overfitting"


def test_a_training_loss_of_another_measure_is_compared_with_nothing() -> None:
    train, val = EASY["memorised"]
    assert verdict(course(train, val, compared="other")).pattern == "none"
    clean = {"clean_steps": np.arange(1, 201) * 10, "clean_losses": train}
    assert verdict(course(0.3 * train, val, compared="other", **clean)).pattern == "memorised"


def test_a_loss_that_follows_restarts_of_the_rate_does_not_oscillate() -> None:
    rates = 0.5 * (1.0 + np.cos(2 * np.pi * 5 * T))
    train = 0.6 + 0.5 * rates
    assert verdict(course(train)).pattern == "oscillating"
    assert verdict(course(train, lrs=rates)).pattern != "oscillating"


def test_loaded_weights_may_stay_where_they_are() -> None:
    assert verdict(course(*EASY["flat"], begins="trained")).pattern != "flat"


def test_a_known_skill_says_that_a_plateau_is_a_good_one() -> None:
    train, val = EASY["underfitting"]
    assert verdict(course(train, val, skills=np.full(20, 0.95))).pattern == "none"
    assert verdict(course(train, val, skills=np.full(20, 0.30))).pattern == "underfitting"


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_too_few_rows_tell_nothing(rows: int) -> None:
    assert verdict(course(EASY["flat"][0][:rows])).pattern == "none"


def test_simulated_curves_are_told_right_in_95_of_100_of_each_pattern() -> None:
    examples = simulated(14, seed=11)
    assert len(examples) == 14 * 8 * len(NOISES)
    _, shares = table(examples)
    assert {name: share for name, share in shares.items() if share < 0.95} == {}
    assert set(shares) == {*PATTERNS, "all"}


def test_real_curves_are_told_right_in_85_of_100_of_each_pattern() -> None:
    examples = recorded(Path(__file__).parent / "curves")
    assert len(examples) >= 60
    _, shares = table(examples)
    assert {name: share for name, share in shares.items() if share < 0.85} == {}


def test_noise_is_measured_beside_a_trend() -> None:
    draw = np.random.default_rng(0)
    rows = np.linspace(5.0, 1.0, 4000) + 0.1 * draw.standard_normal(4000)
    assert noise(rows) == pytest.approx(0.1, rel=0.1)


def test_levels_are_medians_of_equally_long_stretches() -> None:
    steps, curve = levels(np.array([1.0, 2, 3, 98, 99, 100]), np.array([9.0, 1, 9, 2, 2, 7]), num=2)
    assert steps.tolist() == [3.0, 100.0]
    assert curve.tolist() == [9.0, 2.0]


def test_a_fall_counts_only_beyond_noise() -> None:
    assert certain_fall(np.r_[np.full(10, 2.0), np.full(30, 1.0)], 0.2) == pytest.approx(1.0)
    assert certain_fall(np.r_[np.full(2, 1.1), np.full(30, 1.0)], 0.2) == 0.0


def test_a_swing_is_what_the_trend_leaves() -> None:
    found = swing(np.arange(40.0) + np.tile([0.0, 3.0], 20))
    assert found.size == pytest.approx(3.0, abs=0.2)
    assert found.turns == 39


def test_a_level_of_two_rows_is_none() -> None:
    assert Level.of([1, 2], [1.0, 2.0]) is None
