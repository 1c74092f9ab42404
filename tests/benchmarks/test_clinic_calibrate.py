"""The calibration of the doctor's confidences, on hand-made findings."""

from __future__ import annotations

import pytest
from benchmarks.clinic.calibrate import Told, left_out, reliability, table

from stepwell.doctor.confidence import LEAST, Standing


# Two findings said at 0.7, one right; two said at 0.95, both right. Gaps 0.2 and 0.05, half of the cases each: 0.125.
# Brier: (0.09 + 0.49 + 0.0025 + 0.0025) / 4 = 0.14625.
def test_reliability_compares_what_was_said_with_what_came_true() -> None:
    told = reliability([(0.7, True), (0.7, False), (0.95, True), (0.95, True)])
    assert "Brier score 0.1462" in told or "Brier score 0.1463" in told
    assert "expected calibration error 0.1250" in told


def test_a_case_is_left_out_of_its_own_confidence() -> None:
    clear = Standing("symptom", 0.5, gain=0.8)
    pairs = left_out([Told("a", "x", clear, True), Told("b", "x", clear, False)])
    # Of the other case alone: overall (0 + 1) / (1 + 2) = 1/3, bin (0 + 4/3) / (1 + 4) = 0.2667, raised to the least of 0.3;
    # and (1 + 1) / (1 + 2) = 2/3, (1 + 8/3) / 5 = 0.7333.
    assert pairs == [(pytest.approx(LEAST), True), (pytest.approx(0.7333, abs=1e-4), False)]


def test_the_printed_table_is_the_one_that_the_module_takes() -> None:
    scope: dict[str, object] = {}
    exec(table({"clear": (3, 4)}).replace("COUNTS: Mapping[Bin, tuple[int, int]]", "COUNTS"), scope)
    assert scope["COUNTS"] == {"clear": (3, 4)}
