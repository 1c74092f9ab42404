"""Warmup and linear decay by hand and against torch's LinearLR twice."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import LinearLR, SequentialLR

from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.techniques.schedule.warmup_linear import WarmupLinear, warmup_linear


def test_the_whole_course_equals_torch_rise_then_fall() -> None:
    peak, warmup, total, floor = 0.2, 7, 60, 0.01
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak)
    rise = LinearLR(optimizer, start_factor=1 / warmup, end_factor=1.0, total_iters=warmup - 1)
    fall = LinearLR(optimizer, start_factor=1.0, end_factor=floor / peak, total_iters=total - warmup)
    oracle = SequentialLR(optimizer, [rise, fall], milestones=[warmup])
    value = warmup_linear(peak, warmup=warmup, total=total, floor=floor)
    for done in range(total + 1):
        assert value(done) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), done
        optimizer.step()
        oracle.step()


def test_the_first_step_gets_the_peak_over_the_warmup_and_never_zero() -> None:
    assert warmup_linear(3e-3, warmup=4, total=100)(0) == 3e-3 / 4
    assert warmup_linear(3e-3, warmup=0, total=100)(0) == 3e-3


def test_beyond_the_total_it_stays_at_the_floor() -> None:
    value = warmup_linear(1.0, warmup=2, total=10, floor=0.25)
    assert value(10) == value(11) == value(500) == 0.25


def test_the_class_counts_in_the_unit_of_the_budget() -> None:
    (drive,) = WarmupLinear(warmup="10%", floor=0.5)(Horizon.of("1000 tokens", tokens_per_step=20.0)).drives
    assert (drive.target, drive.mode) == ("optimizer.lr", "scale")
    assert [drive.value(done) for done in (0, 80, 100, 550, 1000)] == pytest.approx([0.2, 1.0, 1.0, 0.75, 0.5], abs=1e-15)


def test_the_default_warms_up_over_a_twentieth_and_falls_to_zero() -> None:
    (drive,) = WarmupLinear()(Horizon.of("100 steps")).drives
    assert [drive.value(done) for done in (0, 4, 5, 100)] == [0.2, 1.0, 1.0, 0.0]


def test_a_warmup_as_long_as_the_budget_never_decays() -> None:
    (drive,) = WarmupLinear(warmup="4 steps")(Horizon.of("4 steps")).drives
    assert [drive.value(done) for done in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_a_warmup_longer_than_the_budget_is_refused() -> None:
    with pytest.raises(JobError, match=r"warmup_linear\.warmup is '41 steps'; expected at most the budget, 40 steps"):
        WarmupLinear(warmup="41 steps")(Horizon.of("40 steps"))


@pytest.mark.parametrize(
    ("settings", "field"), [({"floor": -0.1}, "floor"), ({"floor": 1.1}, "floor"), ({"drives": "lr"}, "drives")]
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"^warmup_linear\.{field} is"):
        WarmupLinear(**settings)  # type: ignore[arg-type]


def test_a_warmup_with_a_fraction_of_a_step_never_goes_above_the_peak() -> None:
    value = warmup_linear(2.0, warmup=2.5, total=10)
    assert [value(done) for done in range(3)] == pytest.approx([0.8, 1.6, 2.0], rel=1e-15)
