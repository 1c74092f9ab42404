"""Arithmetic on logged columns."""

from __future__ import annotations

import numpy as np
import pytest

from stepwell.report.series import Series, band, smooth, spans_decades, thin


def test_smoothing_a_straight_line_gives_the_line() -> None:
    steps = np.arange(500.0)
    smoothed = smooth(Series(steps, 3 * steps + 1))
    inside = slice(10, -10)  # at the very ends a window can't be symmetric
    np.testing.assert_allclose(smoothed.values[inside], 3 * smoothed.steps[inside] + 1, rtol=1e-12)


def test_one_huge_value_does_not_move_the_smoothed_line() -> None:
    values = np.ones(1000)
    values[500] = 1e30
    np.testing.assert_array_equal(smooth(Series(np.arange(1000.0), values)).values, np.ones(800))


def test_short_series_are_not_smoothed() -> None:
    values = np.array([3.0, 1.0, 2.0])
    np.testing.assert_array_equal(smooth(Series(np.arange(3.0), values)).values, values)


def test_values_that_are_not_finite_leave_a_gap_of_their_own_size() -> None:
    values = np.ones(100)
    values[[40, 41]] = np.inf
    smoothed = smooth(Series(np.arange(100.0), values)).values
    assert np.flatnonzero(np.isnan(smoothed)).tolist() == [40, 41]


def test_thinning_keeps_both_ends_and_every_spike() -> None:
    values = np.zeros(200_000)
    values[123_456], values[77] = 9.0, -9.0
    steps, kept = thin(Series(np.arange(200_000.0), values))
    assert len(steps) < 2000
    assert (steps[0], steps[-1]) == (0, 199_999)
    assert (kept.max(), kept.min()) == (9.0, -9.0)
    assert (np.diff(steps) > 0).all()


def test_a_band_reaches_from_the_lowest_to_the_highest_of_each_stretch() -> None:
    values = np.tile([1.0, 2.0, 3.0, np.inf], 2000)
    edges = band(Series(np.arange(8000.0), values))
    np.testing.assert_array_equal(edges.low, np.full(800, 1.0))
    np.testing.assert_array_equal(edges.high, np.full(800, 3.0))


@pytest.mark.parametrize(
    ("values", "expected"), [([1, 100], True), ([1, 9], False), ([0, 100], False), ([-1, 100], False), ([5], False)]
)
def test_a_log_axis_is_for_positive_values_over_more_than_a_decade(values: list[float], expected: bool) -> None:
    assert spans_decades(np.array(values, dtype=float), 1.0) is expected


def test_a_series_in_words_gives_ends_extremes_and_what_was_not_finite() -> None:
    words = Series(np.array([1.0, 2.0, 3.0, 4.0]), np.array([5.0, np.inf, 1.0, 2.0])).words("loss")
    assert words == "loss: 5 at step 1, 2 at step 4, lowest 1, highest 5, not finite at 1 of 4 logged steps"


def test_a_column_skips_the_rows_that_logged_nothing() -> None:
    series = Series.of({"step": np.array([1.0, 2.0, 3.0]), "f1": np.array([np.nan, 0.5, np.inf])}, "f1")
    assert series.steps.tolist() == [2, 3]
    assert series.broken.tolist() == [3]
    assert not Series.of({}, "f1")
