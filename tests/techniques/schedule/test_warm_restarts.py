"""Warm restarts against torch's CosineAnnealingWarmRestarts and by hand."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.techniques.schedule.warm_restarts import WarmRestarts, warm_restarts


@pytest.mark.parametrize(("first", "growth"), [(10, 2), (7, 1), (3, 3), (200, 1), (200, 2)])
def test_the_whole_course_equals_torch(first: int, growth: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    oracle = CosineAnnealingWarmRestarts(optimizer, T_0=first, T_mult=growth, eta_min=1e-4)
    value = warm_restarts(0.1, first_cycle=first, growth=growth, floor=1e-4)
    for done in range(120):
        assert value(done) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), done
        optimizer.step()
        oracle.step()


@pytest.mark.parametrize("growth", [1, 2])
def test_a_restart_comes_exactly_at_the_end_of_a_cycle(growth: int) -> None:
    value = warm_restarts(1.0, first_cycle=2.1, growth=growth)
    assert value(2.1) == 1.0
    assert value(2.0999) < 1e-4
    assert value(2.1 + 2.1 * growth) == pytest.approx(1.0, abs=1e-12)


def test_the_middle_of_every_cycle_is_half_way_between_peak_and_floor() -> None:
    value = warm_restarts(1.0, first_cycle=10, growth=2, floor=0.2)
    assert [value(done) for done in (5, 20, 50)] == pytest.approx([0.6] * 3, abs=1e-15)


def test_the_default_has_four_equal_cycles_down_towards_a_hundredth() -> None:
    (drive,) = WarmRestarts()(Horizon.of("400 steps")).drives
    assert (drive.target, drive.mode) == ("optimizer.lr", "scale")
    assert [drive.value(done) for done in (0, 100, 200, 300)] == [1.0] * 4
    assert [drive.value(done) for done in (50, 150, 350)] == pytest.approx([0.505] * 3, abs=1e-12)


def test_a_floor_of_one_changes_nothing() -> None:
    (drive,) = WarmRestarts(floor=1.0)(Horizon.of("10 steps")).drives
    assert [drive.value(done) for done in range(12)] == [1.0] * 12


def test_the_first_cycle_may_be_as_long_as_the_budget_and_no_longer() -> None:
    WarmRestarts(first_cycle="40 steps")(Horizon.of("40 steps"))
    with pytest.raises(JobError, match=r"warm_restarts\.first_cycle is '41 steps'; expected at most the budget, 40 steps"):
        WarmRestarts(first_cycle="41 steps")(Horizon.of("40 steps"))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"growth": 0}, "growth"),
        ({"growth": 1.5}, "growth"),
        ({"floor": -0.01}, "floor"),
        ({"floor": 1.01}, "floor"),
        ({"first_cycle": "0%"}, "first_cycle"),
        ({"drives": "lr"}, "drives"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"^warm_restarts\.{field} is"):
        WarmRestarts(**settings)  # type: ignore[arg-type]
