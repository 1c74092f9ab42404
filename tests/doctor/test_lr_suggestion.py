"""Rules on curves drawn by hand, and the reasons for which there is no rate."""

from __future__ import annotations

import math
import random

import pytest

from stepwell.core.errors import JobError
from stepwell.doctor.lr_finder import confidence_of
from stepwell.doctor.lr_suggestion import reading_of, refusal, suggested
from stepwell.doctor.lr_sweep import Curve

RATES = [10 ** (-6 + place / 10) for place in range(71)]  # 1e-6 to 10, ten a decade


def curve(losses: list[float], *, still: list[float] | None = None, norms: float = 1.0) -> Curve:
    steady = still or [2.0] * len(losses)
    return Curve(RATES[: len(losses)], losses, steady, [norms] * len(losses), "at the highest rate")


def reason(curves: list[Curve]) -> str:
    found = refusal(curves)
    assert found is not None
    return found.reason


def sloped() -> list[float]:
    """2 up to 1e-3; down a straight line to 1 at 0.1; up again by one a decade."""
    places = [math.log10(rate) for rate in RATES]
    return [2.0 if at <= -3 else 2.0 - (at + 3) / 2 if at <= -1 else 1.0 + (at + 1) for at in places]


def test_the_marks_of_a_curve_lie_where_it_was_drawn() -> None:
    reading = reading_of(curve(sloped()))
    assert reading.bottom == pytest.approx(0.1, rel=0.3)
    assert reading.fall == pytest.approx(1.0, abs=0.1)
    assert 1e-3 < reading.steepest < 0.1
    # From 5 % of the fall, at 10 ** -2.9, to the bottom: the middle is 10 ** -1.95.
    assert reading.valley == pytest.approx(10**-1.95, rel=0.3)
    # A quarter of the fall is lost again at 10 ** -0.75.
    assert reading.rises == pytest.approx(10**-0.75, rel=0.4)


def test_each_rule_takes_its_part_of_a_mark() -> None:
    reading = reading_of(curve(sloped()))
    assert suggested(reading, "steepest") == reading.steepest
    assert suggested(reading, "valley") == reading.valley
    assert suggested(reading, "divergence") == pytest.approx(reading.rises / 10)
    for share in (0.1, 0.2, 1 / 3):
        assert suggested(reading, "minimum", minimum_share=share) == pytest.approx(reading.bottom * share)


def test_the_steepest_place_is_where_the_slope_is_largest() -> None:
    losses = [2 - 0.005 * place for place in range(30)] + [1.5 - 0.1 * place for place in range(5)] + [0.9] * 36
    assert RATES[28] <= reading_of(curve(losses)).steepest <= RATES[33]


def test_differences_between_batches_do_not_move_the_marks() -> None:
    waves = [0.8 * math.sin(7.3 * place) for place in range(71)]
    noisy = curve([loss + wave for loss, wave in zip(sloped(), waves, strict=True)], still=[2.0 + wave for wave in waves])
    plain = reading_of(curve(sloped()))
    found = reading_of(noisy)
    expected = pytest.approx((plain.bottom, plain.steepest, plain.valley), rel=0.3)  # a place to either side
    assert (found.bottom, found.steepest, found.valley) == expected


@pytest.mark.parametrize(("rule", "share"), [("best", 0.2), ("minimum", 0.5), ("minimum", 0.01)])
def test_an_unknown_rule_and_a_share_outside_its_range_are_refused(rule: str, share: float) -> None:
    with pytest.raises(JobError):
        suggested(reading_of(curve(sloped())), rule, minimum_share=share)  # type: ignore[arg-type]


def test_a_curve_that_falls_is_no_reason_to_refuse() -> None:
    assert refusal([curve(sloped())] * 3) is None


def test_a_loss_that_is_not_finite_from_the_start_is_a_reason() -> None:
    assert "isn't finite" in reason([Curve([], [], [], [], "at a loss that is not finite", 1e-7)] * 3)


def test_a_gradient_of_zero_is_a_reason() -> None:
    assert "gradient is exactly 0" in reason([curve([2.0] * 71, norms=0.0)] * 3)


@pytest.mark.parametrize(
    "losses",
    [
        [2.0] * 71,
        [2.0 + 0.01 * place for place in range(71)],
        [2.0 - 0.0001 * place for place in range(71)],  # 0.35 % in all
        [2.0 + 0.2 * math.sin(2.1 * place) for place in range(71)],  # up and down, by chance
    ],
    ids=["flat", "rising", "too little", "chance"],
)
def test_a_loss_that_never_falls_is_a_reason(losses: list[float]) -> None:
    assert "never falls" in reason([curve(losses)] * 3)


def test_only_a_fall_that_chance_may_explain_is_left_to_longer_trainings() -> None:
    chance = random.Random(0)
    doubt = refusal([curve([2.0 + chance.gauss(0, 0.05) for _ in range(71)]) for _ in range(3)])
    assert doubt is not None
    assert not doubt.final
    flat = refusal([curve([2.0] * 71)] * 3)
    assert flat is not None
    assert flat.final


def test_confidence_is_what_the_repeats_agree_on() -> None:
    assert confidence_of([0.1, 0.2]) == "high"
    assert confidence_of([0.1, 0.21]) == "medium"
    assert confidence_of([0.1, 0.51]) == "low"
    assert confidence_of([0.1]) == "low"
