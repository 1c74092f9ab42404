"""Inverse square root by hand, and as the transformer's schedule divided by its peak."""

from __future__ import annotations

import math

import pytest

from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.techniques.schedule.inverse_sqrt import InverseSqrt, inverse_sqrt


def test_every_step_has_the_peak_times_the_root_of_warmup_over_step() -> None:
    value = inverse_sqrt(5e-4, warmup=4000)
    for count in (1, 10, 3999):
        assert value(count - 1) == pytest.approx(5e-4 * count / 4000, rel=1e-12)
    for count in (4000, 4001, 16_000, 90_000):
        assert value(count - 1) == pytest.approx(5e-4 * math.sqrt(4000 / count), rel=1e-12)


def test_it_is_the_formula_of_the_transformer_paper_over_its_own_peak() -> None:
    value = inverse_sqrt(1.0, warmup=30)
    for count in range(1, 200):
        paper = min(count**-0.5, count * 30**-1.5) / 30**-0.5
        assert value(count - 1) == pytest.approx(paper, rel=1e-12)


def test_a_warmup_of_less_than_a_step_counts_as_one() -> None:
    value = inverse_sqrt(1.0, warmup=0.05)
    assert [value(done) for done in (0, 3)] == [1.0, 0.5]


def test_the_class_counts_in_the_unit_of_the_budget() -> None:
    (drive,) = InverseSqrt(warmup="40 tokens")(Horizon.of("1000 tokens", tokens_per_step=10.0)).drives
    assert (drive.target, drive.mode) == ("optimizer.lr", "scale")
    assert [drive.value(done) for done in (0, 30, 150)] == [0.25, 1.0, 0.5]


def test_the_default_warms_up_over_a_twentieth() -> None:
    (drive,) = InverseSqrt()(Horizon.of("80 steps")).drives
    assert [drive.value(done) for done in (0, 3, 15)] == [0.25, 1.0, 0.5]


def test_a_warmup_may_be_as_long_as_the_budget_and_no_longer() -> None:
    InverseSqrt(warmup="40 steps")(Horizon.of("40 steps"))
    with pytest.raises(JobError, match=r"inverse_sqrt\.warmup is '41 steps'; expected at most the budget, 40 steps"):
        InverseSqrt(warmup="41 steps")(Horizon.of("40 steps"))


@pytest.mark.parametrize(("settings", "field"), [({"warmup": "0 steps"}, "warmup"), ({"drives": "lr"}, "drives")])
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"^inverse_sqrt\.{field} is"):
        InverseSqrt(**settings)  # type: ignore[arg-type]
