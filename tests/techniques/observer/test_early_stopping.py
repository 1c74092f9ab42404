"""Early stopping by hand, and against the rule of the textbook."""

from __future__ import annotations

import math
import random

import pytest

from stepwell.core.errors import JobError
from stepwell.core.reports import EvalReport, Stop
from stepwell.techniques.observer.early_stopping import EarlyStopping, EarlyStoppingObserver


def report(value: float, name: str = "loss", split: str = "validation") -> EvalReport:
    return EvalReport(step=0, epoch=0.0, metrics={name: value}, split=split)


def stops_at(observer: EarlyStoppingObserver, values: list[float], name: str = "loss") -> int | None:
    """The place of the first evaluation at which it wants to stop."""
    for place, value in enumerate(values):
        if observer(report(value, name)) is not None:
            return place
    return None


def test_it_stops_at_the_patience_th_evaluation_in_a_row_without_improvement() -> None:
    assert stops_at(EarlyStopping(patience=3)(), [1.0, 0.8, 0.9, 0.7, 0.75, 0.71, 0.7, 0.1]) == 6


def test_an_improvement_must_exceed_min_delta() -> None:
    # 0.75 - 0.5 is exactly the margin, which is not more than it.
    assert stops_at(EarlyStopping(patience=1, min_delta=0.25)(), [0.75, 0.5]) == 1
    assert stops_at(EarlyStopping(patience=1, min_delta=0.25)(), [0.75, 0.49]) is None


def test_the_margin_is_counted_from_the_best_and_not_from_the_last() -> None:
    assert stops_at(EarlyStopping(patience=2, min_delta=0.1)(), [1.0, 0.95, 0.91]) == 2
    assert stops_at(EarlyStopping(patience=2, min_delta=0.1)(), [1.0, 0.95, 0.89]) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("patience", [1, 3, 6])
def test_it_stops_where_no_value_of_the_last_patience_beats_all_before(seed: int, patience: int) -> None:
    draw = random.Random(seed)
    values = [draw.random() + 3 / (place + 1) for place in range(80)]
    expected = next(
        (
            place
            for place in range(patience, 80)
            if min(values[: place - patience + 1]) <= min(values[place - patience + 1 : place + 1])
        ),
        None,
    )
    assert stops_at(EarlyStopping(patience=patience)(), values) == expected


def test_auto_takes_accuracy_as_better_when_higher() -> None:
    technique = EarlyStopping(patience=2, monitor="accuracy")
    assert stops_at(technique(), [0.5, 0.6, 0.7, 0.69, 0.7], "accuracy") == 4
    assert technique().mode == "max"


def test_a_name_that_says_nothing_needs_a_mode() -> None:
    with pytest.raises(JobError, match=r"early_stopping\.monitor is 'throughput'.*Set mode"):
        EarlyStopping(monitor="throughput")
    assert EarlyStopping(monitor="throughput", mode="max").mode == "max"


def test_the_reason_names_the_metric_the_best_and_the_count() -> None:
    observer = EarlyStopping(patience=1)()
    observer(report(0.25))
    assert observer(report(0.5)) == Stop("early_stopping: loss has not improved for 1 evaluations (best 0.25, now 0.5)")


def test_a_value_that_is_no_number_is_no_improvement() -> None:
    assert stops_at(EarlyStopping(patience=2)(), [math.nan, math.nan]) == 1
    assert stops_at(EarlyStopping(patience=2)(), [math.nan, 1.0, math.nan, 0.9]) is None


def test_only_reports_of_the_validation_part_count() -> None:
    observer = EarlyStopping(patience=1)()
    observer(report(1.0))
    assert [observer(report(2.0, split=split)) for split in ("test", "train", "test")] == [None, None, None]


def test_a_restored_state_stops_where_the_uninterrupted_one_does() -> None:
    values = [1.0, 0.9, 0.95, 0.96, 0.85, 0.9, 0.91, 0.92]
    whole = stops_at(EarlyStopping(patience=3)(), values)
    assert whole == 7
    for cut in range(len(values)):
        first, second = EarlyStopping(patience=3)(), EarlyStopping(patience=3)()
        assert stops_at(first, values[:cut]) is None
        second.load_state_dict(first.state_dict())
        assert stops_at(second, values[cut:]) == whole - cut


def test_a_metric_that_is_not_evaluated_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(JobError, match=r"early_stopping\.monitor is 'val_loss'.*Known: loss"):
        EarlyStopping(monitor="val_loss")()(report(1.0))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"patience": 0}, "patience"),
        ({"patience": 2.5}, "patience"),
        ({"min_delta": -1.0}, "min_delta"),
        ({"mode": "low"}, "mode"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"early_stopping\.{field}"):
        EarlyStopping(**settings)  # type: ignore[arg-type]
