"""The warmup factor by hand, against torch's LinearLR, and on top of other schedules."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LinearLR

from stepwell.core.batch import Batch
from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.engine.train_step import TrainStep
from stepwell.techniques import Mse, Noam, Sgd, Step
from stepwell.techniques.schedule.warmup import Warmup, warmup


@pytest.mark.parametrize("start", [0.0, 0.1, 0.5])
def test_the_whole_course_equals_torch_one_step_ahead(start: float) -> None:
    length = 8
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    oracle = LinearLR(optimizer, start_factor=start + (1 - start) / length, end_factor=1.0, total_iters=length - 1)
    value = warmup(length=length, start=start)
    for done in range(15):
        assert value(done) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), done
        optimizer.step()
        oracle.step()


def test_the_first_step_is_never_zero() -> None:
    assert warmup(length=100)(0) == 0.01
    assert warmup(length=0)(0) == 1.0


def test_a_rise_that_is_no_multiple_of_a_step_never_exceeds_one() -> None:
    assert [warmup(length=2.5)(done) for done in range(4)] == [0.4, 0.8, 1.0, 1.0]


def test_the_class_counts_in_the_unit_of_the_budget() -> None:
    (drive,) = Warmup(length="10%", start=0.2)(Horizon.of("1000 tokens", tokens_per_step=20.0)).drives
    assert (drive.target, drive.mode) == ("optimizer.lr", "scale")
    assert [drive.value(done) for done in (0, 20, 80, 100)] == pytest.approx([0.36, 0.52, 1.0, 1.0], abs=1e-15)


def test_the_default_rises_from_zero_over_a_twentieth() -> None:
    (drive,) = Warmup()(Horizon.of("100 steps")).drives
    assert [drive.value(done) for done in (0, 4, 5)] == [0.2, 1.0, 1.0]


def rates(*schedules: object) -> list[float]:
    model = nn.Linear(2, 1)
    step = TrainStep(
        model, objective=Mse(), optimizer=Sgd(lr=0.5, momentum=0.0), techniques=schedules, horizon=Horizon.of("8 steps")
    )
    return [step(Batch(torch.ones(2, 2), torch.zeros(2, 1))).lr for _ in range(6)]


def test_it_multiplies_a_schedule_that_scales() -> None:
    assert rates(Step(every="2 steps", gamma=0.5), Warmup(length="4 steps")) == [0.125, 0.25, 0.1875, 0.25, 0.125, 0.125]


def test_it_multiplies_a_schedule_that_sets() -> None:
    # 4^-0.5 * 2^-1.5 * t while t <= 2, t^-0.5 / 2 after.
    plain = [0.5 * min(t**-0.5, t * 2**-1.5) for t in range(1, 7)]
    assert rates(Noam(d_model=4, warmup="2 steps")) == pytest.approx(plain, rel=1e-12)
    warmed = [rate * factor for rate, factor in zip(plain, (0.25, 0.5, 0.75, 1.0, 1.0, 1.0))]
    assert rates(Warmup(length="4 steps"), Noam(d_model=4, warmup="2 steps")) == pytest.approx(warmed, rel=1e-12)


def test_alone_it_scales_the_configured_rate() -> None:
    assert rates(Warmup(length="2 steps")) == [0.25, 0.5, 0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("settings", [{"start": 1.0}, {"length": "0 steps"}])
def test_its_neutral_values_change_nothing(settings: dict[str, object]) -> None:
    (drive,) = Warmup(**settings)(Horizon.of("10 steps")).drives  # type: ignore[arg-type]
    assert [drive.value(done) for done in range(12)] == [1.0] * 12


def test_a_rise_may_be_as_long_as_the_budget_and_no_longer() -> None:
    Warmup(length="40 steps")(Horizon.of("40 steps"))
    with pytest.raises(JobError, match=r"warmup\.length is '41 steps'; expected at most the budget, 40 steps"):
        Warmup(length="41 steps")(Horizon.of("40 steps"))


@pytest.mark.parametrize(
    ("settings", "field"), [({"start": -0.1}, "start"), ({"start": 1.1}, "start"), ({"drives": "lr"}, "drives")]
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"^warmup\.{field} is"):
        Warmup(**settings)  # type: ignore[arg-type]
