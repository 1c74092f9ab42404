"""Warmup and cosine against values by hand and torch's LinearLR followed by CosineAnnealingLR."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.techniques.schedule.warmup_cosine import WarmupCosine, warmup_cosine


def test_the_whole_course_equals_torch_linear_then_cosine() -> None:
    peak, warmup, total, floor = 0.2, 7, 60, 0.002
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak)
    rise = LinearLR(optimizer, start_factor=1 / warmup, end_factor=1.0, total_iters=warmup - 1)
    fall = CosineAnnealingLR(optimizer, T_max=total - warmup, eta_min=floor)
    oracle = SequentialLR(optimizer, [rise, fall], milestones=[warmup])
    value = warmup_cosine(peak, warmup=warmup, total=total, floor=floor)
    for done in range(total + 1):
        assert value(done) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), done
        optimizer.step()
        oracle.step()


def test_the_first_step_gets_the_peak_over_the_warmup_and_never_zero() -> None:
    assert warmup_cosine(3e-3, warmup=4, total=100)(0) == 3e-3 / 4


def test_cosine_from_a_hundredth_to_a_ten_thousandth_as_by_hand() -> None:
    # 0.0001 + 0.0099 / 2 * (1 + cos(pi * t / 100)) at t = 0, 25, 50, 75, 100.
    value = warmup_cosine(0.01, warmup=0, total=100, floor=0.0001)
    expected = [0.01, 0.0085501786, 0.00505, 0.0015498214, 0.0001]
    assert [value(done) for done in (0, 25, 50, 75, 100)] == pytest.approx(expected, abs=1e-10)


def test_beyond_the_total_it_stays_at_the_floor() -> None:
    value = warmup_cosine(1.0, warmup=2, total=10, floor=0.1)
    assert value(10) == value(11) == value(500) == pytest.approx(0.1, abs=1e-15)


def test_the_class_reaches_its_floor_as_a_fraction_of_the_peak() -> None:
    (drive,) = WarmupCosine(warmup="10 steps", floor=0.05)(Horizon.of("100 steps")).drives
    assert drive.value(0) == 0.1
    assert drive.value(9) == drive.value(10) == 1.0
    assert drive.value(100) == pytest.approx(0.05, abs=1e-15)
    assert drive.mode == "scale"


def test_progress_is_counted_in_the_unit_of_the_budget() -> None:
    horizon = Horizon.of("1000 tokens", tokens_per_step=20.0)
    (drive,) = WarmupCosine(warmup="10%", floor=0.0)(horizon).drives
    assert drive.value(0) == 0.2
    assert drive.value(550) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.5)), abs=1e-15)


def test_a_warmup_as_long_as_the_budget_never_decays() -> None:
    (drive,) = WarmupCosine(warmup="4 steps")(Horizon.of("4 steps")).drives
    assert [drive.value(done) for done in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_a_warmup_shorter_than_a_step_never_exceeds_the_peak() -> None:
    (drive,) = WarmupCosine(warmup="10 samples")(Horizon.of("1000 samples", samples_per_step=50)).drives
    assert drive.value(0) == 1.0


def test_a_warmup_longer_than_the_budget_is_refused() -> None:
    with pytest.raises(JobError, match=r"warmup_cosine\.warmup is '50 steps'; expected at most the budget, 40 steps"):
        WarmupCosine(warmup="50 steps")(Horizon.of("40 steps"))


@pytest.mark.parametrize("floor", [-0.1, 1.1, float("nan")])
def test_a_floor_outside_the_unit_interval_is_refused(floor: float) -> None:
    with pytest.raises(JobError, match=r"warmup_cosine\.floor"):
        WarmupCosine(floor=floor)


def test_a_floor_of_the_whole_peak_is_no_decay() -> None:
    (drive,) = WarmupCosine(warmup="0 steps", floor=1.0)(Horizon.of("10 steps")).drives
    assert [drive.value(done) for done in (0, 5, 10)] == [1.0, 1.0, 1.0]
