"""Rate groups by hand: which pattern decides, what is left over, tied tensors, refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.batch import Batch
from stepwell.core.errors import JobError
from stepwell.engine.train_step import TrainStep
from stepwell.techniques import LrGroups, Mse, Sgd, lr_factors


def model() -> nn.Module:
    body = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    return nn.ModuleDict({"body": body, "head": nn.Linear(2, 1)})


def test_a_module_covers_everything_inside_it_and_the_rest_keeps_its_rate() -> None:
    factors = lr_factors(model(), {"body": 0.1})
    assert factors == {
        **dict.fromkeys(("body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"), 0.1),
        **dict.fromkeys(("head.weight", "head.bias"), 1.0),
    }


def test_the_last_pattern_that_covers_a_tensor_decides() -> None:
    exception = lr_factors(model(), {"body": 0.1, "body.1": 0.5})
    assert (exception["body.0.weight"], exception["body.1.weight"]) == (0.1, 0.5)
    overruled = lr_factors(model(), {"body.1": 0.5, "body": 0.1})
    assert (overruled["body.0.weight"], overruled["body.1.weight"]) == (0.1, 0.1)


def test_what_no_pattern_covers_gets_the_factor_for_others() -> None:
    factors = LrGroups(patterns={"head": 10.0}, others=0.5)(model())
    assert factors["head.bias"] == {"lr": 10.0}
    assert factors["body.1.weight"] == {"lr": 0.5}


def test_wildcards_reach_parameters_of_any_module() -> None:
    factors = lr_factors(model(), {"*.bias": 2.0})
    assert {name for name, factor in factors.items() if factor == 2.0} == {"body.0.bias", "body.1.bias", "head.bias"}


def test_tensors_with_a_factor_of_one_stay_in_the_group_of_the_optimizer() -> None:
    assert set(LrGroups(patterns={"body": 0.1})(model())) == {"body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"}
    assert LrGroups(patterns={"*": 1.0})(model()) == {}


def test_a_tied_tensor_is_found_by_any_of_its_names() -> None:
    tied = nn.ModuleDict({"embedding": nn.Embedding(4, 2), "head": nn.Linear(2, 4, bias=False)})
    tied["head"].weight = tied["embedding"].weight
    assert lr_factors(tied, {"head": 0.25}) == {"embedding.weight": 0.25}


def test_each_part_moves_at_its_own_rate() -> None:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 1.0)
    techniques: list[Any] = [LrGroups(patterns={"0": 0.5})]
    step = TrainStep(network, objective=Mse(), optimizer=Sgd(lr=0.25, momentum=0.0), techniques=techniques)
    step(Batch(torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)))
    # The slope of (w0 w1)^2 is 2 for both.
    assert [parameter.item() for parameter in network.parameters()] == [0.75, 0.5]


def test_a_factor_of_zero_keeps_a_part_where_it_is() -> None:
    frozen = LrGroups(patterns={"head": 0.0}, others=0.0)(model())
    assert set(frozen) == {name for name, _ in model().named_parameters()}
    assert all(settings == {"lr": 0.0} for settings in frozen.values())


def test_a_pattern_that_covers_nothing_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(JobError, match=r"^lr_groups\.patterns has 'boddy'.*Did you mean 'body'"):
        LrGroups(patterns={"boddy": 0.1})(model())


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"patterns": {}}, "patterns"),
        ({"patterns": ["head"]}, "patterns"),
        ({"patterns": {"head": -0.1}}, r"patterns\['head'\]"),
        ({"patterns": {"head": math.inf}}, r"patterns\['head'\]"),
        ({"patterns": {"head": "0.1"}}, r"patterns\['head'\]"),
        ({"patterns": {"head": 1.0}, "others": -1.0}, "others"),
        ({"patterns": {"head": 1.0}, "others": math.inf}, "others"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(JobError, match=rf"^lr_groups\.{field} is"):
        LrGroups(**settings)
