"""Cosine against the textbook's values, torch's CosineAnnealingLR, and the wave of `num_cycles` by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.techniques.schedule.cosine import Cosine, cosine


def test_from_a_hundredth_to_a_ten_thousandth_gives_the_worked_example() -> None:
    # 0.0001 + 0.0099 / 2 * (1 + cos(pi * t / 100)) at t = 0, 25, 50, 75, 100.
    value = cosine(0.01, total=100, floor=0.0001)
    expected = [0.01, 0.0085501786, 0.00505, 0.0015498214, 0.0001]
    assert [value(epoch) for epoch in (0, 25, 50, 75, 100)] == pytest.approx(expected, abs=1e-10)


def test_the_whole_course_equals_torch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    oracle = CosineAnnealingLR(optimizer, T_max=60, eta_min=1e-6)
    value = cosine(0.3, total=60, floor=1e-6)
    for done in range(61):
        assert value(done) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12), done
        optimizer.step()
        oracle.step()


@pytest.mark.parametrize(
    ("num_cycles", "expected"),
    [(0.5, [1.0, 0.75, 0.25, 0.0]), (1.0, [1.0, 0.25, 0.25, 1.0]), (1.5, [1.0, 0.0, 1.0, 0.0])],
)
def test_num_cycles_counts_whole_waves(num_cycles: float, expected: list[float]) -> None:
    value = cosine(1.0, total=3, num_cycles=num_cycles)
    assert [value(done) for done in range(4)] == pytest.approx(expected, abs=1e-15)


def test_beyond_the_total_the_last_value_stays() -> None:
    assert cosine(1.0, total=10, floor=0.1)(25) == pytest.approx(0.1, abs=1e-15)
    assert cosine(1.0, total=10, num_cycles=1.0)(17) == 1.0


def test_the_class_starts_at_the_whole_rate_and_ends_at_a_hundredth() -> None:
    (drive,) = Cosine()(Horizon.of("1000 tokens", tokens_per_step=20.0)).drives
    assert (drive.target, drive.mode) == ("optimizer.lr", "scale")
    assert drive.value(0) == 1.0
    assert drive.value(500) == pytest.approx(0.505, abs=1e-15)
    assert drive.value(1000) == pytest.approx(0.01, abs=1e-15)


def test_the_class_takes_its_number_of_cycles() -> None:
    (drive,) = Cosine(floor=0.0, num_cycles=2.0)(Horizon.of("8 steps")).drives
    assert [drive.value(done) for done in range(5)] == pytest.approx([1.0, 0.5, 0.0, 0.5, 1.0], abs=1e-15)


def test_a_floor_of_one_changes_nothing() -> None:
    (drive,) = Cosine(floor=1.0)(Horizon.of("10 steps")).drives
    assert [drive.value(done) for done in range(12)] == [1.0] * 12


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"floor": -0.01}, "floor"),
        ({"floor": 1.01}, "floor"),
        ({"num_cycles": 0.0}, "num_cycles"),
        ({"num_cycles": math.inf}, "num_cycles"),
        ({"drives": "lr"}, "drives"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"^cosine\.{field} is"):
        Cosine(**settings)  # type: ignore[arg-type]
