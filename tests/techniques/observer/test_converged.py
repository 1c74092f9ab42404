"""Converged by hand: windows of the mean training loss, patience, what resets the count."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.core.reports import EvalReport, StepReport, Stop, Term
from stepwell.techniques.observer.converged import Converged, ConvergedObserver


def report(loss: Any, skipped: str | None = None) -> StepReport:
    value = torch.as_tensor(loss, dtype=torch.float64)
    norm = torch.zeros(())
    return StepReport(1, 0, {"loss": Term(2 * value, "samples")}, {"samples": 2}, norm, 0.1, {}, 2, skipped=skipped)


def stops_at(observer: ConvergedObserver, losses: list[float]) -> int | None:
    """The place of the first step after which it wants to stop."""
    for place, loss in enumerate(losses):
        if observer(report(loss)) is not None:
            return place
    return None


def test_means_of_windows_are_compared_and_not_single_losses() -> None:
    # Means 2.0, 2.0, 2.0: the second and the third move by nothing.
    assert stops_at(Converged(window="2 steps", epsilon=0.1, patience=2)(), [1.0, 3.0, 0.0, 4.0, 1.5, 2.5, 2.0]) == 5


def test_a_window_is_read_at_its_end_only() -> None:
    observer = Converged(window="4 steps", epsilon=10.0, patience=1)()
    assert stops_at(observer, [1.0] * 9) == 7


def test_the_first_window_has_nothing_to_compare_with() -> None:
    assert stops_at(Converged(window="1 step", epsilon=1.0, patience=1)(), [0.0]) is None


def test_a_change_must_be_less_than_epsilon_in_either_direction() -> None:
    settings: dict[str, Any] = {"window": "1 step", "epsilon": 0.25, "patience": 1}
    assert stops_at(Converged(**settings)(), [1.0, 0.75]) is None
    assert stops_at(Converged(**settings)(), [1.0, 1.25]) is None
    assert stops_at(Converged(**settings)(), [1.0, 0.76]) == 1
    assert stops_at(Converged(**settings)(), [1.0, 1.24]) == 1


def test_a_window_that_moves_starts_the_count_again() -> None:
    observer = Converged(window="1 step", epsilon=0.1, patience=2)()
    assert stops_at(observer, [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 3.0]) == 6


def test_the_comparison_is_with_the_window_before_and_not_with_the_best() -> None:
    # Each step is smaller than epsilon, though together they are not.
    assert stops_at(Converged(window="1 step", epsilon=0.1, patience=3)(), [1.0, 0.95, 0.9, 0.85]) == 3


def test_a_loss_that_is_no_number_is_movement() -> None:
    assert stops_at(Converged(window="1 step", epsilon=0.1, patience=1)(), [1.0, math.nan, 1.0, 1.0]) == 3


def test_skipped_steps_and_evaluations_change_nothing() -> None:
    observer = Converged(window="2 steps", epsilon=0.1, patience=1)()
    for item in (report(1.0), report(9.0, skipped="non-finite loss"), EvalReport(1, 0.0, {"loss": 9.0}), report(3.0)):
        assert observer(item) is None
    assert observer.last == 2.0


def test_replicas_count_with_their_mean() -> None:
    observer = Converged(window="1 step")()
    observer(report([1.0, 3.0]))
    assert observer.last == 2.0


def test_the_reason_names_window_epsilon_count_and_loss() -> None:
    observer = Converged(window="2 steps", epsilon=0.5, patience=1)()
    stop = [observer(report(loss)) for loss in (1.0, 1.0, 0.75, 0.75)][-1]
    expected = "converged: the mean training loss over 2 steps moved by less than 0.5 1 times in a row (now 0.75)"
    assert stop == Stop(expected)


def test_the_window_is_a_share_of_the_run_and_at_least_one_step() -> None:
    assert Converged()(Horizon.of("200 steps")).window == 10
    assert Converged(window="1 epochs")(Horizon.of("10 epochs", steps_per_epoch=7)).window == 7
    assert Converged()(Horizon.of("2 steps")).window == 1
    assert Converged(window="1 samples")(Horizon.of("2 steps", samples_per_step=100)).window == 1


def test_by_default_a_change_below_a_ten_thousandth_three_times_in_a_row_ends_the_run() -> None:
    horizon = Horizon.of("20 steps")
    assert stops_at(Converged()(horizon), [1.0, 1.00009, 1.0, 1.00009]) == 3
    assert stops_at(Converged()(horizon), [1.0, 1.00011, 1.0, 1.00011, 1.0]) is None


def test_a_restored_state_stops_where_the_uninterrupted_one_does() -> None:
    losses = [3.0, 1.0, 2.0, 2.0, 9.0, 9.0, 2.0, 2.0, 2.1, 1.9, 2.0, 2.0]
    settings: dict[str, Any] = {"window": "2 steps", "epsilon": 0.1, "patience": 2}
    whole = stops_at(Converged(**settings)(), losses)
    assert whole == 11
    for cut in range(len(losses)):
        first, second = Converged(**settings)(), Converged(**settings)()
        assert stops_at(first, losses[:cut]) is None
        second.load_state_dict(first.state_dict())
        assert stops_at(second, losses[cut:]) == whole - cut


def test_a_saved_state_does_not_move_on_with_the_run() -> None:
    observer = Converged(window="9 steps")()
    observer(report(1.0))
    saved = observer.state_dict()
    observer(report(5.0))
    assert float(saved["total"]) == 1.0


def test_a_share_of_an_unplanned_run_is_refused() -> None:
    with pytest.raises(JobError, match=r"converged\.window is 5%"):
        Converged()()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"window": "0 steps"}, "window"),
        ({"patience": 0}, "patience"),
        ({"patience": 1.5}, "patience"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(JobError, match=rf"^converged\.{field} is"):
        Converged(**settings)
