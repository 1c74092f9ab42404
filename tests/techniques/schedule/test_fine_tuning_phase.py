"""The fine-tuning phase by hand, alone, on top of a schedule, and with a field of another technique."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.batch import Batch
from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.engine.train_step import TrainStep
from stepwell.techniques import Mse, Sgd, Step
from stepwell.techniques.schedule.fine_tuning_phase import FineTuningPhase, fine_tuning_phase


def test_the_factor_holds_from_the_start_of_the_phase_on() -> None:
    value = fine_tuning_phase(0.25, start=2.5)
    assert [value(done) for done in (0, 2, 2.5, 3, 100)] == [1.0, 1.0, 0.25, 0.25, 0.25]


def test_by_default_the_rate_falls_to_a_thirtieth_for_the_last_fifth_and_dropout_is_left_alone() -> None:
    (drive,) = FineTuningPhase()(Horizon.of("1000 tokens", tokens_per_step=20.0)).drives
    assert (drive.target, drive.mode) == ("optimizer.lr", "scale")
    assert [drive.value(done) for done in (0, 799, 800, 1000)] == [1.0, 1.0, 0.033, 0.033]


def test_with_a_dropout_factor_the_probability_is_halved_as_well() -> None:
    # 3e-4 to 1e-5 and 0.1 to 0.05, the phase of the transformer strategy.
    rate, dropout = FineTuningPhase(start="50%", lr_factor=1 / 30, dropout_factor=0.5)(Horizon.of("10 steps")).drives
    assert 3e-4 * rate.value(5) == pytest.approx(1e-5, rel=1e-12)
    assert (dropout.target, dropout.mode) == ("dropout.probability", "scale")
    assert [0.1 * dropout.value(done) for done in (4, 5)] == [0.1, 0.05]


def test_it_multiplies_the_schedule_beside_it() -> None:
    schedules = [Step(every="2 steps", gamma=0.5), FineTuningPhase(start="3 steps", lr_factor=0.1)]
    step = TrainStep(nn.Linear(2, 1), objective=Mse(), optimizer=Sgd(lr=0.8), techniques=schedules, horizon=Horizon.of("6 steps"))
    rates = [step(Batch(torch.ones(2, 2), torch.zeros(2, 1))).lr for _ in range(5)]
    assert rates == pytest.approx([0.8, 0.8, 0.4, 0.04, 0.02], rel=1e-12)


def test_the_dropout_of_a_recipe_changes_when_the_phase_begins() -> None:
    from stepwell.techniques import Dropout

    model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.3), nn.Linear(8, 1))
    techniques: list[Any] = [Dropout(probability=0.4), FineTuningPhase(start="2 steps", dropout_factor=0.5)]
    step = TrainStep(model, objective=Mse(), optimizer=Sgd(), techniques=techniques, horizon=Horizon.of("4 steps"))
    seen = []
    for _ in range(4):
        step(Batch(torch.ones(2, 2), torch.zeros(2, 1)))
        seen.append(next(technique.probability for technique in step.parts.moving.values()))
    assert seen == [0.4, 0.4, 0.2, 0.2]


def test_a_start_that_is_not_inside_the_budget_is_refused() -> None:
    FineTuningPhase(start="39 steps")(Horizon.of("40 steps"))
    with pytest.raises(JobError, match=r"fine_tuning_phase\.start is '40 steps'; expected less than the budget, 40 steps"):
        FineTuningPhase(start="40 steps")(Horizon.of("40 steps"))


@pytest.mark.parametrize("settings", [{"lr_factor": 1.0}, {"lr_factor": 1.0, "dropout_factor": 1.0}])
def test_factors_of_one_change_nothing(settings: dict[str, Any]) -> None:
    for drive in FineTuningPhase(**settings)(Horizon.of("10 steps")).drives:
        assert [drive.value(done) for done in range(12)] == [1.0] * 12


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"lr_factor": 0.0}, "lr_factor"),
        ({"lr_factor": 1.1}, "lr_factor"),
        ({"dropout_factor": -0.1}, "dropout_factor"),
        ({"dropout_factor": 1.1}, "dropout_factor"),
        ({"start": "80"}, "start"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(JobError, match=rf"^fine_tuning_phase\.{field} is"):
        FineTuningPhase(**settings)


def test_no_dropout_at_all_is_a_good_phase() -> None:
    (_, dropout) = FineTuningPhase(dropout_factor=0.0)(Horizon.of("10 steps")).drives
    assert dropout.value(9) == 0.0
