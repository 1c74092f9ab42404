"""Constant against values by hand and torch's LinearLR."""

from __future__ import annotations

import pytest
import torch

from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.techniques.schedule.constant import Constant, constant


def torch_rates(schedule: torch.optim.lr_scheduler.LRScheduler, num_steps: int) -> list[float]:
    rates = []
    for _ in range(num_steps):
        rates.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return rates


def test_without_warmup_the_factor_is_exactly_one_at_every_step() -> None:
    (drive,) = Constant()(Horizon.of("7 steps")).drives
    assert [drive.value(done) for done in range(9)] == [1.0] * 9
    assert (drive.target, drive.mode) == ("optimizer.lr", "scale")


def test_the_warmup_equals_torch_linear_lr() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    oracle = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 6, end_factor=1.0, total_iters=5)
    value = constant(0.3, warmup=6)
    assert [value(done) for done in range(12)] == pytest.approx(torch_rates(oracle, 12), rel=1e-12)


def test_a_warmup_in_epochs_counts_their_steps() -> None:
    (drive,) = Constant(warmup="2 epochs")(Horizon.of("10 epochs", steps_per_epoch=5)).drives
    assert [drive.value(done) for done in (0, 4, 9, 10)] == [0.1, 0.5, 1.0, 1.0]


def test_a_budget_in_samples_warms_up_over_samples() -> None:
    horizon = Horizon.of("1000 samples", samples_per_step=50)
    (drive,) = Constant(warmup="200 samples")(horizon).drives
    assert [drive.value(done) for done in (0, 50, 150, 200)] == [0.25, 0.5, 1.0, 1.0]


def test_a_warmup_shorter_than_a_step_never_exceeds_the_peak() -> None:
    horizon = Horizon.of("1000 samples", samples_per_step=50)
    (drive,) = Constant(warmup="10 samples")(horizon).drives
    assert drive.value(0) == 1.0


def test_it_can_drive_a_field_of_another_technique() -> None:
    assert Constant(drives="mixup.alpha")(Horizon.of("5 steps")).drives[0].target == "mixup.alpha"


@pytest.mark.parametrize("drives", ["lr", "optimizer.", "a.b.c", ""])
def test_a_target_that_names_no_field_is_refused(drives: str) -> None:
    with pytest.raises(JobError, match=r"constant\.drives"):
        Constant(drives=drives)


def test_a_warmup_without_unit_is_refused() -> None:
    with pytest.raises(JobError, match=r"constant\.warmup"):
        Constant(warmup=5)  # type: ignore[arg-type]
