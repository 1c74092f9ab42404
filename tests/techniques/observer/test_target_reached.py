"""Target reached, by hand."""

from __future__ import annotations

import math

import pytest

from stepwell.core.errors import JobError
from stepwell.core.reports import EvalReport, Stop
from stepwell.techniques.observer.target_reached import TargetReached


def report(value: float, name: str = "accuracy", split: str = "validation") -> EvalReport:
    return EvalReport(step=0, epoch=0.0, metrics={name: value}, split=split)


@pytest.mark.parametrize(("value", "stops"), [(0.96, False), (0.97, True), (0.98, True), (math.nan, False)])
def test_a_metric_that_should_rise_stops_at_or_above_the_target(value: float, stops: bool) -> None:
    observer = TargetReached(monitor="accuracy", value=0.97, mode="max")()
    assert (observer(report(value)) is not None) == stops


@pytest.mark.parametrize(("value", "stops"), [(0.31, False), (0.3, True), (0.1, True), (math.nan, False)])
def test_a_metric_that_should_fall_stops_at_or_below_the_target(value: float, stops: bool) -> None:
    observer = TargetReached(monitor="loss", value=0.3, mode="min")()
    assert (observer(report(value, "loss")) is not None) == stops


@pytest.mark.parametrize(("name", "stops"), [("accuracy", [False, True]), ("loss", [True, False])])
def test_auto_tells_by_the_name_which_side_of_the_target_is_good(name: str, stops: list[bool]) -> None:
    observer = TargetReached(monitor=name, value=0.5)()
    assert [observer(report(value, name)) is not None for value in (0.4, 0.6)] == stops


def test_the_reason_says_what_was_reached() -> None:
    observer = TargetReached(monitor="loss", value=0.3, mode="min")()
    assert observer(report(0.25, "loss")) == Stop("target_reached: loss 0.25 <= 0.3")


def test_the_test_part_can_not_end_a_run() -> None:
    observer = TargetReached(monitor="accuracy", value=0.5, mode="max")()
    assert observer(report(0.9, split="test")) is None


def test_a_metric_that_is_not_evaluated_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(JobError, match=r"target_reached\.monitor is 'acc'.*Known: accuracy"):
        TargetReached(monitor="acc", value=0.5, mode="max")()(report(0.9))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"value": math.inf, "mode": "max"}, "value"),
        ({"value": math.nan, "mode": "max"}, "value"),
        ({"value": 0.5, "mode": "up"}, "mode"),
        ({"value": 0.5, "monitor": "throughput"}, "monitor"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"target_reached\.{field}"):
        TargetReached(**{"monitor": "accuracy", **settings})  # type: ignore[arg-type]
