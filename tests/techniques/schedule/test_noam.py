"""Noam against the formula of the paper, and by hand at its peak."""

from __future__ import annotations

import math

import pytest

from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.techniques.schedule.noam import Noam, noam


@pytest.mark.parametrize(("d_model", "warmup"), [(512, 4000), (128, 10), (1, 1)])
def test_every_step_has_the_rate_of_equation_3(d_model: int, warmup: int) -> None:
    value = noam(d_model, warmup=warmup)
    for count in (1, 2, warmup - 1, warmup, warmup + 1, 4 * warmup, 100_000):
        if count >= 1:
            by_hand = d_model**-0.5 * min(count**-0.5, count * warmup**-1.5)
            assert value(count - 1) == pytest.approx(by_hand, rel=1e-12), count


def test_the_peak_is_at_the_last_step_of_the_warmup_and_worth_one_over_the_roots() -> None:
    value = noam(512, warmup=4000)
    assert value(3999) == pytest.approx(1 / math.sqrt(512 * 4000), rel=1e-12)
    assert value(3999) > value(3998)
    assert value(3999) > value(4000)


def test_it_rises_by_equal_steps_and_then_halves_when_the_count_is_four_times_as_high() -> None:
    value = noam(64, warmup=100)
    assert value(49) == pytest.approx(value(99) / 2, rel=1e-12)
    assert value(399) == pytest.approx(value(99) / 2, rel=1e-12)


def test_steps_are_counted_from_what_is_done_in_the_unit_of_the_budget() -> None:
    (drive,) = Noam(d_model=16, warmup="40 tokens")(Horizon.of("1000 tokens", tokens_per_step=10.0)).drives
    # 4 steps of warmup: 0.25 * 4^-0.5 at its last, which starts with 30 tokens done.
    assert drive.value(30) == pytest.approx(0.125, rel=1e-12)
    assert drive.value(0) == pytest.approx(0.125 / 4, rel=1e-12)


def test_the_class_sets_the_rate_and_multiplies_it_by_its_scale() -> None:
    (drive,) = Noam(d_model=16, warmup="4 steps", scale=3.0)(Horizon.of("100 steps")).drives
    assert (drive.target, drive.mode) == ("optimizer.lr", "set")
    assert drive.value(3) == pytest.approx(0.375, rel=1e-12)


def test_the_default_warms_up_over_a_twentieth_at_the_scale_of_the_paper() -> None:
    (drive,) = Noam(d_model=4)(Horizon.of("80 steps")).drives
    assert drive.value(3) == pytest.approx(0.25, rel=1e-12)


def test_a_warmup_of_less_than_a_step_counts_as_one() -> None:
    value = noam(4, warmup=0.05)
    assert [value(done) for done in (0, 3)] == pytest.approx([0.5, 0.25], rel=1e-12)


def test_a_warmup_may_be_as_long_as_the_budget_and_no_longer() -> None:
    Noam(d_model=4, warmup="40 steps")(Horizon.of("40 steps"))
    with pytest.raises(JobError, match=r"noam\.warmup is '4000 steps'; expected at most the budget, 40 steps"):
        Noam(d_model=4, warmup="4000 steps")(Horizon.of("40 steps"))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"d_model": 0}, "d_model"),
        ({"d_model": 1.5}, "d_model"),
        ({"warmup": "0 steps"}, "warmup"),
        ({"scale": 0.0}, "scale"),
        ({"scale": math.inf}, "scale"),
        ({"drives": "lr"}, "drives"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"^noam\.{field} is"):
        Noam(**{"d_model": 4, **settings})  # type: ignore[arg-type]
    assert Noam(d_model=1).d_model == 1


def test_a_warmup_may_be_less_than_one_of_its_unit() -> None:
    (drive,) = Noam(d_model=4, warmup="0.5 epochs")(Horizon.of("2 epochs", steps_per_epoch=8)).drives
    # Steps 1 to 16 with a warmup of 4 steps: the peak is step 4's.
    values = [drive.value(done) for done in range(16)]
    assert values.index(max(values)) == 3
