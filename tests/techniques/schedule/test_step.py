"""Step decay against the textbook's epochs and torch's StepLR."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import StepLR

from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.techniques.schedule.step import Step, step


def test_a_tenth_every_thirty_epochs_gives_the_worked_example() -> None:
    value = step(0.1, every=30, gamma=0.1)
    assert [value(epoch) for epoch in (1, 29, 30, 59, 60)] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001], rel=1e-12)


@pytest.mark.parametrize(("every", "gamma"), [(7, 0.3), (1, 0.9), (50, 0.5)])
def test_the_whole_course_equals_torch(every: int, gamma: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.2)
    oracle = StepLR(optimizer, step_size=every, gamma=gamma)
    value = step(0.2, every=every, gamma=gamma)
    for done in range(60):
        assert value(done) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), done
        optimizer.step()
        oracle.step()


def test_a_drop_comes_exactly_at_a_multiple_of_a_distance_with_a_fraction() -> None:
    # 21 / 2.1 is 10, though 21 // 2.1 is 9.
    assert step(1.0, every=2.1, gamma=0.5)(21) == 0.5**10


def test_the_default_drops_by_ten_at_30_60_and_90_percent() -> None:
    (drive,) = Step()(Horizon.of("100 epochs", steps_per_epoch=2)).drives
    assert (drive.target, drive.mode) == ("optimizer.lr", "scale")
    assert [drive.value(done) for done in (0, 59, 60, 120, 179)] == pytest.approx([1.0, 1.0, 0.1, 0.01, 0.01], rel=1e-12)
    assert drive.value(180) == pytest.approx(1e-3, rel=1e-12)


def test_a_factor_of_one_changes_nothing() -> None:
    (drive,) = Step(gamma=1.0)(Horizon.of("10 steps")).drives
    assert [drive.value(done) for done in range(12)] == [1.0] * 12


def test_a_distance_may_be_as_long_as_the_budget_and_no_longer() -> None:
    (drive,) = Step(every="40 steps")(Horizon.of("40 steps")).drives
    assert [drive.value(done) for done in (39, 40)] == [1.0, 0.1]
    with pytest.raises(JobError, match=r"step\.every is '41 steps'; expected at most the budget, 40 steps"):
        Step(every="41 steps")(Horizon.of("40 steps"))


def test_a_distance_may_be_less_than_one_of_its_unit() -> None:
    (drive,) = Step(every="0.5 epochs", gamma=0.5)(Horizon.of("2 epochs", steps_per_epoch=4)).drives
    assert [drive.value(done) for done in range(6)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"gamma": 0.0}, "gamma"), ({"gamma": 1.01}, "gamma"), ({"every": "0 steps"}, "every"), ({"drives": "lr"}, "drives")],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"^step\.{field} is"):
        Step(**settings)  # type: ignore[arg-type]
