"""Directions of metrics, by their names."""

from __future__ import annotations

import math

import pytest

from stepwell.core.direction import checked_mode, direction, has_improved, known_direction, monitored
from stepwell.core.errors import JobError
from stepwell.core.reports import EvalReport


@pytest.mark.parametrize(
    "name", ["loss", "val_loss", "clean_loss", "mae", "rmse", "error_rate", "perplexity", "brier", "ece", "log_loss"]
)
def test_losses_and_errors_are_better_low(name: str) -> None:
    assert direction(name) == "min"


@pytest.mark.parametrize(
    "name", ["accuracy", "top5_accuracy", "auc", "roc_auc", "r2", "f1", "macro_f1", "average_precision", "recall"]
)
def test_accuracies_are_better_high(name: str) -> None:
    assert direction(name) == "max"


def test_a_name_that_says_nothing_is_refused_with_how_to_say_it() -> None:
    assert known_direction("throughput") is None
    with pytest.raises(JobError) as caught:
        direction("throughput", name="plateau.monitor")
    assert caught.value.what == "plateau.monitor is 'throughput'"
    assert "mode: min" in caught.value.fix
    assert "mode: max" in caught.value.fix


def test_an_explicit_mode_wins_over_the_name() -> None:
    assert checked_mode("max", monitor="loss", technique="plateau") == "max"


def test_a_mode_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(JobError, match=r"target_reached\.mode is 'up'.*'auto', 'min' or 'max'"):
        checked_mode("up", monitor="loss", technique="target_reached")  # type: ignore[arg-type]


def test_only_a_report_on_the_validation_part_is_monitored() -> None:
    def value(split: str) -> float | None:
        report = EvalReport(step=0, epoch=0.0, metrics={"loss": 0.5}, split=split)
        return monitored(report, "loss", technique="plateau")

    assert [value(split) for split in ("validation", "test", "train")] == [0.5, None, None]


def test_a_value_that_is_no_number_is_no_improvement() -> None:
    assert not has_improved(math.nan, None, mode="min", min_delta=0.0)
    assert not has_improved(math.nan, 1.0, mode="max", min_delta=0.0)


def test_the_relative_margin_of_a_negative_best_points_the_right_way() -> None:
    assert not has_improved(-0.95, -1.0, mode="min", min_delta=0.1)
    assert not has_improved(-1.05, -1.0, mode="min", min_delta=0.1)
    assert has_improved(-1.15, -1.0, mode="min", min_delta=0.1)
