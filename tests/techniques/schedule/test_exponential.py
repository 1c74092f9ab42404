"""Exponential decay by hand and against torch's ExponentialLR."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR

from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.techniques.schedule.exponential import Exponential, exponential


def test_the_whole_course_equals_torch_called_once_a_step() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    oracle = ExponentialLR(optimizer, gamma=0.95)
    value = exponential(0.1, every=1, gamma=0.95)
    for done in range(100):
        assert value(done) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-11), done
        optimizer.step()
        oracle.step()


def test_it_is_smooth_within_a_period_and_right_at_its_end() -> None:
    (drive,) = Exponential(every="1 epochs", gamma=0.25)(Horizon.of("10 epochs", steps_per_epoch=4)).drives
    assert (drive.target, drive.mode) == ("optimizer.lr", "scale")
    assert [drive.value(done) for done in (0, 2, 4, 6, 8)] == [1.0, 0.5, 0.25, 0.125, 0.0625]


def test_the_default_ends_at_the_hundredth_power_of_095() -> None:
    (drive,) = Exponential()(Horizon.of("1000 steps")).drives
    assert drive.value(1000) == pytest.approx(0.95**100, rel=1e-12)


def test_a_factor_of_one_changes_nothing() -> None:
    (drive,) = Exponential(gamma=1.0)(Horizon.of("10 steps")).drives
    assert [drive.value(done) for done in range(12)] == [1.0] * 12


def test_a_period_may_be_as_long_as_the_budget_and_no_longer() -> None:
    Exponential(every="40 steps")(Horizon.of("40 steps"))
    with pytest.raises(JobError, match=r"exponential\.every is '41 steps'; expected at most the budget, 40 steps"):
        Exponential(every="41 steps")(Horizon.of("40 steps"))


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"gamma": 0.0}, "gamma"), ({"gamma": 1.01}, "gamma"), ({"every": "0%"}, "every"), ({"drives": "lr"}, "drives")],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"^exponential\.{field} is"):
        Exponential(**settings)  # type: ignore[arg-type]
