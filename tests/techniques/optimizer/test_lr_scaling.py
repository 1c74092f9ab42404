"""Learning-rate scaling by hand, and through the job that fills in its batch size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.batch import Batch
from stepwell.core.errors import JobError
from stepwell.core.facts import DataFacts
from stepwell.engine.train_step import TrainStep
from stepwell.techniques import LrScaling, Mse, Sgd, lr_scaling


def facts(batch_size: int | None) -> DataFacts:
    return DataFacts(num_samples=None, steps_per_epoch=None, sample=Batch(torch.zeros(1, 2)), batch_size=batch_size)


@pytest.mark.parametrize(("batch_size", "linear", "root"), [(1024, 4.0, 2.0), (256, 1.0, 1.0), (64, 0.25, 0.5)])
def test_the_rules_are_the_quotient_of_the_sizes_and_its_root(batch_size: int, linear: float, root: float) -> None:
    assert lr_scaling(batch_size, base_batch_size=256) == linear
    assert lr_scaling(batch_size, base_batch_size=256, rule="sqrt") == root


def test_every_parameter_gets_the_factor() -> None:
    factors = LrScaling(base_batch_size=32, batch_size=64)(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
    assert factors == {name: {"lr": 2.0} for name in ("0.weight", "0.bias", "1.weight", "1.bias")}
    assert LrScaling(base_batch_size=4, batch_size=64, rule="sqrt")(nn.Linear(1, 1))["bias"] == {"lr": 4.0}


def test_by_default_the_rate_holds_for_256_samples() -> None:
    assert LrScaling(batch_size=8192)(nn.Linear(1, 1))["weight"] == {"lr": 32.0}


def test_the_job_fills_in_the_batch_size_of_an_optimizer_step() -> None:
    assert LrScaling().completed(facts(96)) == {"batch_size": (96, "samples per optimizer step")}
    assert LrScaling(batch_size=64).completed(facts(96)) == {}
    assert LrScaling().completed(facts(None)) == {}


def test_without_a_batch_size_it_is_refused() -> None:
    with pytest.raises(JobError, match=r"^lr_scaling\.batch_size is not known"):
        LrScaling()(nn.Linear(1, 1))


def test_the_optimizer_trains_at_the_scaled_rate() -> None:
    techniques: list[Any] = [LrScaling(base_batch_size=2, batch_size=6)]
    step = TrainStep(nn.Linear(2, 1), objective=Mse(), optimizer=Sgd(lr=0.125), techniques=techniques)
    assert step(Batch(torch.ones(6, 2), torch.zeros(6, 1))).lr == 0.375


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"base_batch_size": 0}, "base_batch_size"),
        ({"base_batch_size": None}, "base_batch_size"),
        ({"rule": "cubic"}, "rule"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(JobError, match=rf"^lr_scaling\.{field} is"):
        LrScaling(**settings)
    assert LrScaling(batch_size=1, base_batch_size=1).batch_size == 1
