"""Validation rising by hand, and against the definition of a run of rises."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from typing import Any

import pytest

from stepwell.core.errors import JobError
from stepwell.core.reports import EvalReport, Stop
from stepwell.techniques.observer.validation_rising import ValidationRising, ValidationRisingObserver


def report(value: float, name: str = "loss", split: str = "validation") -> EvalReport:
    return EvalReport(step=0, epoch=0.0, metrics={name: value}, split=split)


def stops_at(observer: ValidationRisingObserver, values: list[float], name: str = "loss") -> int | None:
    """The place of the first evaluation at which it wants to stop."""
    for place, value in enumerate(values):
        if observer(report(value, name)) is not None:
            return place
    return None


def test_by_default_the_fifth_rise_in_a_row_ends_the_run() -> None:
    assert stops_at(ValidationRising()(), [1.0, 1.1, 1.2, 1.3, 1.4, 1.5]) == 5
    assert stops_at(ValidationRising()(), [1.0, 1.1, 1.2, 1.3, 1.4]) is None


def test_one_evaluation_that_is_not_worse_starts_the_count_again() -> None:
    assert stops_at(ValidationRising(patience=2)(), [1.0, 1.1, 1.1, 1.2, 1.3]) == 4
    assert stops_at(ValidationRising(patience=2)(), [1.0, 1.1, 1.05, 1.2, 1.15, 1.3]) is None


def test_a_rise_counts_from_the_evaluation_before_and_not_from_the_best() -> None:
    assert stops_at(ValidationRising(patience=1)(), [1.0, 5.0]) == 1
    assert stops_at(ValidationRising(patience=2)(), [1.0, 5.0, 4.0, 3.0, 2.0]) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("patience", [1, 2, 3])
def test_it_stops_at_the_first_run_of_rises_of_that_length(seed: int, patience: int) -> None:
    draw = random.Random(seed)
    values = [draw.randrange(6) / 4 for _ in range(60)]
    rises = [later > earlier for earlier, later in pairwise(values)]
    expected = next((end for end in range(patience, len(values)) if all(rises[end - patience : end])), None)
    assert stops_at(ValidationRising(patience=patience)(), values) == expected


def test_an_accuracy_gets_worse_by_falling() -> None:
    technique = ValidationRising(patience=2, monitor="accuracy")
    assert stops_at(technique(), [0.5, 0.6, 0.55, 0.54], "accuracy") == 3
    assert stops_at(technique(), [0.5, 0.6, 0.7, 0.8], "accuracy") is None
    assert stops_at(ValidationRising(patience=1, monitor="speed", mode="max")(), [2.0, 1.0], "speed") == 1


def test_a_value_that_is_no_number_is_no_rise() -> None:
    assert stops_at(ValidationRising(patience=1)(), [1.0, math.nan, 2.0, 1.5, 1.6]) == 4


def test_the_reason_names_the_metric_the_count_and_the_value() -> None:
    falling, rising = ValidationRising(patience=1, monitor="auc")(), ValidationRising(patience=2)()
    assert [falling(report(value, "auc")) for value in (0.75, 0.5)][-1] == Stop(
        "validation_rising: auc has fallen at 1 evaluations in a row (now 0.5)"
    )
    assert [rising(report(value)) for value in (0.25, 0.5, 0.75)][-1] == Stop(
        "validation_rising: loss has risen at 2 evaluations in a row (now 0.75)"
    )


def test_only_reports_of_the_validation_part_count() -> None:
    observer = ValidationRising(patience=1)()
    observer(report(1.0))
    assert [observer(report(2.0, split=split)) for split in ("test", "train")] == [None, None]
    assert observer(report(0.5)) is None


def test_a_fresh_observer_has_seen_nothing() -> None:
    assert ValidationRising()().state_dict() == {"last": None, "num_worse": 0}


def test_a_restored_state_stops_where_the_uninterrupted_one_does() -> None:
    values = [1.0, 1.1, 0.9, 1.0, 1.1, 1.2]
    for cut in range(len(values)):
        first, second = ValidationRising(patience=3)(), ValidationRising(patience=3)()
        assert stops_at(first, values[:cut]) is None
        second.load_state_dict(first.state_dict())
        assert stops_at(second, values[cut:]) == 5 - cut


def test_a_metric_that_is_not_evaluated_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(JobError, match=r"validation_rising\.monitor is 'val_loss'.*Known: loss"):
        ValidationRising(monitor="val_loss")()(report(1.0))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"patience": 0}, "patience"),
        ({"patience": 2.5}, "patience"),
        ({"mode": "low"}, "mode"),
        ({"monitor": "throughput"}, "monitor"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(JobError, match=rf"^validation_rising\.{field} is"):
        ValidationRising(**settings)
