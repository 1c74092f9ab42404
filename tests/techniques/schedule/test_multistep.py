"""Multistep decay by hand and against torch's MultiStepLR."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import MultiStepLR

from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.techniques.schedule.multistep import Multistep, multistep


@pytest.mark.parametrize("milestones", [[30, 60, 80], [5], [1, 2, 2, 40]])
def test_the_whole_course_equals_torch(milestones: list[int]) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    oracle = MultiStepLR(optimizer, milestones=milestones, gamma=0.2)
    value = multistep(0.1, milestones=milestones, gamma=0.2)
    for done in range(90):
        assert value(done) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), done
        optimizer.step()
        oracle.step()


def test_the_order_of_the_milestones_does_not_matter() -> None:
    value = multistep(1.0, milestones=[6, 2, 4], gamma=0.5)
    assert [value(done) for done in range(8)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


def test_a_single_milestone_is_enough() -> None:
    (drive,) = Multistep(milestones=("3 steps",))(Horizon.of("9 steps")).drives
    assert [drive.value(done) for done in (2, 3, 8)] == [1.0, 0.1, 0.1]


def test_milestones_in_different_units_meet_on_one_clock() -> None:
    technique = Multistep(milestones=("50%", "30 samples", "2 epochs"), gamma=0.5)
    (drive,) = technique(Horizon.of("100 samples", steps_per_epoch=4, samples_per_step=10)).drives
    assert (drive.target, drive.mode) == ("optimizer.lr", "scale")
    assert [drive.value(done) for done in (0, 20, 30, 40, 50, 70, 80)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_the_default_drops_by_ten_at_30_60_and_80_percent() -> None:
    (drive,) = Multistep()(Horizon.of("100 steps")).drives
    values = [drive.value(done) for done in (29, 30, 59, 60, 79, 80, 99)]
    assert values == pytest.approx([1.0, 0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3], rel=1e-12)


def test_a_milestone_may_lie_at_the_end_of_the_budget_and_not_beyond() -> None:
    Multistep(milestones=("10 steps", "40 steps"))(Horizon.of("40 steps"))
    with pytest.raises(JobError, match=r"multistep\.milestones is '41 steps'; expected at most the budget, 40 steps"):
        Multistep(milestones=("10 steps", "41 steps"))(Horizon.of("40 steps"))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"milestones": ()}, "milestones"),
        ({"milestones": "50%"}, "milestones"),
        ({"milestones": ("50",)}, "milestones"),
        ({"gamma": 0.0}, "gamma"),
        ({"gamma": 1.5}, "gamma"),
        ({"drives": "lr"}, "drives"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"^multistep\.{field} is"):
        Multistep(**settings)  # type: ignore[arg-type]
