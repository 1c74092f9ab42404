"""Plateau against torch's ReduceLROnPlateau on seeded random courses, and by hand."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.core.reports import EvalReport
from stepwell.core.slots import Observer, Schedule, Stateful
from stepwell.techniques.schedule.plateau import Plateau, PlateauSchedule

HORIZON = Horizon.of("100 steps")


def report(value: float, name: str = "loss", split: str = "validation") -> EvalReport:
    return EvalReport(step=0, epoch=0.0, metrics={name: value}, split=split)


def course(schedule: PlateauSchedule, values: list[float]) -> list[float]:
    factors = []
    for value in values:
        schedule(report(value))
        factors.append(schedule.drives[0].value(0))
    return factors


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold", ["relative", "absolute"])
@pytest.mark.parametrize(("patience", "cooldown", "floor"), [(0, 0, 0.0), (2, 0, 0.0), (1, 3, 0.0), (0, 1, 0.2)])
def test_factors_equal_torch_after_every_evaluation(
    mode: str, threshold: str, patience: int, cooldown: int, floor: float
) -> None:
    draw = random.Random(f"{mode}{threshold}{patience}{cooldown}")
    values = [1.0 + draw.random() * 0.5 - (0.02 if mode == "min" else -0.02) * place for place in range(60)]
    rate = 0.3
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=rate)
    oracle = ReduceLROnPlateau(
        optimizer,
        mode=mode,  # type: ignore[arg-type]
        factor=0.5,
        patience=patience,
        threshold=0.05,
        threshold_mode={"relative": "rel", "absolute": "abs"}[threshold],  # type: ignore[arg-type]
        cooldown=cooldown,
        min_lr=floor * rate,
        eps=0.0,
    )
    expected = []
    for value in values:
        oracle.step(value)
        expected.append(optimizer.param_groups[0]["lr"] / rate)
    technique = Plateau(
        factor=0.5,
        patience=patience,
        min_delta=0.05,
        threshold=threshold,  # type: ignore[arg-type]
        mode=mode,  # type: ignore[arg-type]
        cooldown=cooldown,
        floor=floor,
    )
    assert course(technique(HORIZON), values) == pytest.approx(expected, rel=1e-12)
    assert expected[-1] < 1.0


def test_the_rate_falls_after_more_than_patience_bad_evaluations() -> None:
    # best 1.0; two bad ones are tolerated, the third is not.
    assert course(Plateau(patience=2)(HORIZON), [1.0, 1.0, 1.0, 1.0, 0.5]) == pytest.approx([1, 1, 1, 0.1, 0.1])


def test_it_is_schedule_observer_and_stateful_at_once() -> None:
    schedule = Plateau()(HORIZON)
    assert isinstance(schedule, Schedule)
    assert isinstance(schedule, Observer)
    assert isinstance(schedule, Stateful)
    assert schedule.watches == "evaluations"


def test_only_reports_of_the_validation_part_count() -> None:
    schedule = Plateau(patience=0)(HORIZON)
    for split in ("test", "train"):
        schedule(report(1.0, split=split))
        schedule(report(2.0, split=split))
    assert schedule.drives[0].value(0) == 1.0
    assert schedule.best is None


def test_a_restored_state_goes_on_as_the_uninterrupted_one() -> None:
    values = [1.0, 0.9, 0.95, 0.96, 0.8, 0.85, 0.9, 0.91, 0.92]
    technique = Plateau(patience=1, cooldown=1, factor=0.5)
    whole = course(technique(HORIZON), values)
    for cut in range(len(values)):
        first, second = technique(HORIZON), technique(HORIZON)
        head = course(first, values[:cut])
        second.load_state_dict(first.state_dict())
        assert head + course(second, values[cut:]) == whole


def test_a_value_that_is_no_number_is_never_an_improvement() -> None:
    assert course(Plateau(patience=0, factor=0.5)(HORIZON), [math.nan, 1.0, math.nan]) == [0.5, 0.5, 0.25]


def test_auto_raises_no_rate_where_accuracy_rises() -> None:
    schedule = Plateau(patience=0, factor=0.5, monitor="accuracy")(HORIZON)
    factors = []
    for value in (0.5, 0.6, 0.7, 0.6):
        schedule(report(value, name="accuracy"))
        factors.append(schedule.drives[0].value(0))
    assert factors == [1.0, 1.0, 1.0, 0.5]


def test_a_metric_that_is_not_evaluated_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(JobError, match=r"plateau\.monitor is 'acuracy'.*Did you mean 'accuracy'"):
        Plateau(monitor="acuracy", mode="max")(HORIZON)(report(0.5, name="accuracy"))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"factor": 1.0}, "factor"),
        ({"factor": 0.0}, "factor"),
        ({"patience": -1}, "patience"),
        ({"patience": 1.5}, "patience"),
        ({"min_delta": -1e-3}, "min_delta"),
        ({"cooldown": -1}, "cooldown"),
        ({"floor": 2.0}, "floor"),
        ({"mode": "up"}, "mode"),
        ({"monitor": "throughput"}, "monitor"),
        ({"threshold": "rel"}, "threshold"),
        ({"drives": "lr"}, "drives"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"plateau\.{field}"):
        Plateau(**settings)  # type: ignore[arg-type]


def test_the_limits_of_the_settings_are_taken() -> None:
    assert course(Plateau(patience=0, cooldown=0, min_delta=0.0, floor=1.0)(HORIZON), [1.0, 2.0]) == [1.0, 1.0]
    assert course(Plateau(patience=0, floor=0.0)(HORIZON), [1.0, 2.0]) == pytest.approx([1.0, 0.1])


def test_nothing_is_held_against_a_run_before_its_first_evaluation() -> None:
    assert course(Plateau(patience=1, factor=0.5)(HORIZON), [math.nan, math.nan]) == [1.0, 0.5]
