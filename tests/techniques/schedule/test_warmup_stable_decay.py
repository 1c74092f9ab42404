"""Warmup, stable, decay by hand, with each shape of the decay."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.techniques.schedule.warmup_stable_decay import WarmupStableDecay, warmup_stable_decay


def test_the_three_parts_follow_each_other() -> None:
    value = warmup_stable_decay(1.0, warmup=4, decay=4, total=16, shape="linear")
    assert [value(done) for done in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert [value(done) for done in range(4, 13)] == [1.0] * 9
    assert [value(done) for done in range(13, 18)] == [0.75, 0.5, 0.25, 0.0, 0.0]


def test_a_warmup_with_a_fraction_of_a_step_never_goes_above_the_peak() -> None:
    value = warmup_stable_decay(2.0, warmup=2.5, decay=0, total=10)
    assert [value(done) for done in range(4)] == pytest.approx([0.8, 1.6, 2.0, 2.0], rel=1e-15)


# At shares 0.25, 0.5 and 1 of the decay: 1 - sqrt(p), 1 - p, (1 + cos(pi p)) / 2.
SHAPES = {
    "sqrt": [0.5, 1 - math.sqrt(0.5), 0.0],
    "linear": [0.75, 0.5, 0.0],
    "cosine": [(1 + math.sqrt(0.5)) / 2, 0.5, 0.0],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_decay_has_its_shape_between_peak_and_floor(shape: Any) -> None:
    value = warmup_stable_decay(3.0, warmup=0, decay=8, total=20, floor=1.0, shape=shape)
    assert [value(done) for done in (14, 16, 20)] == pytest.approx([1 + 2 * part for part in SHAPES[shape]], abs=1e-12)
    assert value(12) == 3.0


def test_the_default_decays_over_the_last_fifth_as_one_minus_the_root() -> None:
    (drive,) = WarmupStableDecay()(Horizon.of("100 steps")).drives
    assert (drive.target, drive.mode) == ("optimizer.lr", "scale")
    assert [drive.value(done) for done in (0, 4, 5, 80)] == [0.2, 1.0, 1.0, 1.0]
    assert [drive.value(done) for done in (85, 100)] == pytest.approx([0.5, 0.0], abs=1e-12)


def test_the_class_counts_in_the_unit_of_the_budget() -> None:
    technique = WarmupStableDecay(warmup="10%", decay="50%", shape="linear", floor=0.5)
    (drive,) = technique(Horizon.of("1000 tokens", tokens_per_step=20.0)).drives
    assert [drive.value(done) for done in (0, 100, 500, 750, 1000)] == pytest.approx([0.2, 1.0, 1.0, 0.75, 0.5], abs=1e-15)


def test_without_a_decay_it_stays_at_the_peak() -> None:
    (drive,) = WarmupStableDecay(warmup="0 steps", decay="0 steps")(Horizon.of("10 steps")).drives
    assert [drive.value(done) for done in range(11)] == [1.0] * 11


def test_warmup_and_decay_may_fill_the_budget_and_not_exceed_it() -> None:
    (drive,) = WarmupStableDecay(warmup="2 steps", decay="2 steps", shape="linear")(Horizon.of("4 steps")).drives
    assert [drive.value(done) for done in range(4)] == [0.5, 1.0, 1.0, 0.5]
    (drive,) = WarmupStableDecay(warmup="4 steps", decay="0 steps")(Horizon.of("4 steps")).drives
    assert [drive.value(done) for done in range(4)] == [0.25, 0.5, 0.75, 1.0]
    # 70 % and 30 % of 3 add up to more than 3 in floating point.
    WarmupStableDecay(warmup="70%", decay="30%")(Horizon.of("3 steps"))
    with pytest.raises(JobError, match=r"warmup_stable_decay\.warmup is '41 steps'; expected at most the budget, 40 steps"):
        WarmupStableDecay(warmup="41 steps")(Horizon.of("40 steps"))
    expected = r"warmup_stable_decay\.decay is '31 steps'; expected at most what the warmup leaves of the budget, 30 steps"
    with pytest.raises(JobError, match=expected):
        WarmupStableDecay(warmup="10 steps", decay="31 steps")(Horizon.of("40 steps"))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"floor": -0.1}, "floor"),
        ({"floor": 1.1}, "floor"),
        ({"shape": "square"}, "shape"),
        ({"decay": "5"}, "decay"),
        ({"drives": "lr"}, "drives"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(JobError, match=rf"^warmup_stable_decay\.{field} is"):
        WarmupStableDecay(**settings)
