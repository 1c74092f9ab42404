"""One cycle, step for step, against torch's OneCycleLR, rate and momentum."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.techniques.schedule.one_cycle import Knot, OneCycle, anneal_through

PEAK = 0.1


def torch_course(total: int, optimizer: torch.optim.Optimizer, **settings: object) -> list[tuple[float, float]]:
    schedule = OneCycleLR(optimizer, max_lr=PEAK, total_steps=total, **settings)  # type: ignore[arg-type]
    course = []
    for done in range(total):
        group = optimizer.param_groups[0]
        course.append((group["lr"], group["betas"][0] if "betas" in group else group["momentum"]))
        optimizer.step()
        if done < total - 1:
            schedule.step()
    return course


@pytest.mark.parametrize("total", [2, 3, 17, 100, 333])
@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize("phases", ["two", "three"])
def test_rate_and_momentum_equal_torch_at_every_step(total: int, anneal: str, phases: str) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=PEAK, momentum=0.9)
    expected = torch_course(total, optimizer, anneal_strategy=anneal, three_phase=phases == "three")
    rate, momentum = OneCycle(anneal=anneal, phases=phases)(Horizon.of(f"{total} steps")).drives  # type: ignore[arg-type]
    for done in range(total):
        assert PEAK * rate.value(done) == pytest.approx(expected[done][0], rel=1e-9, abs=1e-15), done
        assert momentum.value(done) == pytest.approx(expected[done][1], rel=1e-12), done


def test_other_settings_equal_torch_with_adam() -> None:
    optimizer = torch.optim.AdamW([torch.zeros(1)], lr=PEAK)
    settings = {"pct_start": 0.1, "div_factor": 10.0, "final_div_factor": 100.0, "base_momentum": 0.8, "max_momentum": 0.9}
    expected = torch_course(50, optimizer, **settings)
    technique = OneCycle(warmup="10%", div_factor=10, final_div_factor=100, momentum_low=0.8, momentum_high=0.9)
    rate, momentum = technique(Horizon.of("5 epochs", steps_per_epoch=10)).drives
    got = [(PEAK * rate.value(done), momentum.value(done)) for done in range(50)]
    assert [pair[0] for pair in got] == pytest.approx([pair[0] for pair in expected], rel=1e-9)
    assert [pair[1] for pair in got] == pytest.approx([pair[1] for pair in expected], rel=1e-12)


def test_start_peak_and_end_are_the_stated_ones() -> None:
    rate, momentum = OneCycle()(Horizon.of("100 steps")).drives
    assert rate.value(0) == pytest.approx(1 / 25)
    assert rate.value(29) == 1.0
    assert rate.value(99) == pytest.approx(1 / 25 / 1e4)
    assert [momentum.value(done) for done in (0, 29, 99)] == pytest.approx([0.95, 0.85, 0.95])


def test_momentum_is_set_and_the_rate_is_scaled() -> None:
    drives = OneCycle()(Horizon.of("100 steps")).drives
    assert [(drive.target, drive.mode) for drive in drives] == [("optimizer.lr", "scale"), ("optimizer.momentum", "set")]


@pytest.mark.parametrize("technique", [OneCycle(momentum="keep"), OneCycle(drives="mixup.alpha")])
def test_momentum_is_left_alone_when_kept_or_when_something_else_is_driven(technique: OneCycle) -> None:
    assert len(technique(Horizon.of("100 steps")).drives) == 1


def test_samples_as_budget_give_the_same_course_as_steps() -> None:
    steps = OneCycle()(Horizon.of("20 steps")).drives[0]
    samples = OneCycle()(Horizon.of("640 samples", samples_per_step=32)).drives[0]
    assert [samples.value(32 * done) for done in range(20)] == pytest.approx([steps.value(done) for done in range(20)], rel=1e-12)


def test_the_end_holds_beyond_the_budget() -> None:
    rate = OneCycle()(Horizon.of("10 steps")).drives[0]
    assert rate.value(9) == rate.value(10) == rate.value(99)


def test_a_warmup_of_one_step_starts_at_the_peak() -> None:
    # torch divides by zero here: the first phase has no width.
    rate = OneCycle(warmup="1 steps")(Horizon.of("10 steps")).drives[0]
    assert rate.value(0) == 1.0


def test_half_a_cosine_between_two_knots_is_half_way_in_the_middle() -> None:
    value = anneal_through([Knot(0, 1.0), Knot(6, 0.0)])
    assert [value(done) for done in (0, 2, 3, 6)] == pytest.approx([1.0, 0.75, 0.5, 0.0])


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_knots_may_be_less_than_one_unit_apart(width: float) -> None:
    value = anneal_through([Knot(0, 1.0), Knot(width, 0.0)], anneal="linear")
    assert value(0.25) == 1 - 0.25 / width


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"div_factor": 0.5}, "div_factor"),
        ({"final_div_factor": 0.0}, "final_div_factor"),
        ({"anneal": "cosine"}, "anneal"),
        ({"phases": "four"}, "phases"),
        ({"momentum": "off"}, "momentum"),
        ({"momentum_low": 1.0}, "momentum_low"),
        ({"momentum_low": 0.9, "momentum_high": 0.8}, "momentum_high"),
        ({"momentum_high": 1.0}, "momentum_high"),
        ({"warmup": "30"}, "warmup"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"one_cycle\.{field}"):
        OneCycle(**settings)  # type: ignore[arg-type]


def test_a_warmup_that_leaves_no_room_for_three_phases_is_refused() -> None:
    with pytest.raises(JobError, match=r"one_cycle\.warmup is '60%'; expected at most 50 steps"):
        OneCycle(warmup="60%", phases="three")(Horizon.of("100 steps"))


def test_a_warmup_of_exactly_the_limit_is_taken() -> None:
    assert OneCycle(warmup="100%")(Horizon.of("10 steps")).drives[0].value(9) == 1.0
    assert OneCycle(warmup="50%", phases="three")(Horizon.of("10 steps")).drives[0].value(4) == 1.0


def test_the_limits_of_the_settings_are_taken() -> None:
    rate, momentum = OneCycle(div_factor=1, final_div_factor=0.5, momentum_low=0.0, momentum_high=0.0)(
        Horizon.of("10 steps")
    ).drives
    assert [rate.value(done) for done in (0, 2, 9)] == pytest.approx([1.0, 1.0, 2.0])
    assert [momentum.value(done) for done in (0, 2, 9)] == [0.0, 0.0, 0.0]
