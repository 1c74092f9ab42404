"""Progressive unfreezing: a function of the clock, forwards and backwards, with frozen statistics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.clock import Clock, Horizon
from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.recipe.job import Recipe
from stepwell.techniques.model.unfreezing import Unfreezing


def net() -> nn.Sequential:
    blocks = (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)) for _ in range(3))
    return nn.Sequential(*blocks)


def trained(model: nn.Module) -> str:
    return "".join(name for name, child in model.named_children() if all(p.requires_grad for p in child.parameters()))


def follow(technique: Unfreezing, model: nn.Module, horizon: Horizon | None, steps: list[int]) -> list[tuple[bool, str]]:
    return [(technique.at(model, Clock(step), horizon), trained(model)) for step in steps]


def test_parts_join_from_head_to_base() -> None:
    technique = Unfreezing(modules=["2", "1", "0"], every="10%")
    model = technique(net(), Rng(0))
    assert follow(technique, model, Horizon.of("100 steps"), [0, 1, 9, 10, 19, 20, 50]) == [
        (True, "2"),
        (False, "2"),
        (False, "2"),
        (True, "12"),
        (False, "12"),
        (True, "012"),
        (False, "012"),
    ]


def test_children_in_reverse_are_the_default() -> None:
    technique = Unfreezing(every="1 epoch")
    model = technique(net(), Rng(0))
    horizon = Horizon.of("5 epochs", steps_per_epoch=4)
    assert [state for _, state in follow(technique, model, horizon, [0, 3, 4, 8])] == ["2", "2", "12", "012"]


def test_stages_take_their_own_times_and_parts_named_nowhere_train_from_the_start() -> None:
    stages = [{"modules": ["1"], "at": "3 steps"}, {"modules": ["0.*"], "at": "50%"}]
    technique = Unfreezing(stages=stages)
    model = technique(net(), Rng(0))
    states = [state for _, state in follow(technique, model, Horizon.of("20 steps"), [0, 2, 3, 9, 10])]
    assert states == ["2", "2", "12", "12", "012"]


def test_the_state_follows_from_the_clock_alone() -> None:
    horizon = Horizon.of("100 steps")
    walked, jumped = net(), net()
    technique = Unfreezing()
    follow(technique, walked, horizon, list(range(16)))
    follow(Unfreezing(), jumped, horizon, [15])
    assert trained(walked) == trained(jumped) == "12"
    # Rolling back freezes again, and an old gradient can't move what is frozen.
    for parameter in walked.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    assert follow(technique, walked, horizon, [3]) == [(True, "2")]
    assert all((parameter.grad is None) != parameter.requires_grad for parameter in walked.parameters())


def test_one_technique_serves_two_models() -> None:
    technique, first, second = Unfreezing(), net(), net()
    horizon = Horizon.of("100 steps")
    technique.at(first, Clock(0), horizon)
    technique.at(second, Clock(50), horizon)
    assert (trained(first), trained(second)) == ("2", "012")
    assert technique.at(first, Clock(0), horizon) is False


def test_nothing_is_frozen_before_the_optimizer_is_made() -> None:
    assert trained(Unfreezing()(net(), Rng(0))) == "012"


def test_statistics_stand_still_until_their_part_joins() -> None:
    technique = Unfreezing(modules=["2", "1", "0"], every="5 steps")
    model = technique(net(), Rng(0))
    inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)) + 2
    moved = []
    for step in (0, 5, 10):
        before = [block[1].running_mean.clone() for block in model]
        model.train()
        technique.at(model, Clock(step), None)
        model(inputs)
        moved.append(
            "".join(str(place) for place, block in enumerate(model) if not torch.equal(before[place], block[1].running_mean))
        )
    assert moved == ["2", "12", "012"]


def test_a_norm_takes_the_model_s_mode_at_the_step_that_it_joins_and_not_before() -> None:
    technique = Unfreezing(modules=["2", "1", "0"], every="5 steps")
    model = technique(net(), Rng(0)).train()
    technique.at(model, Clock(0), None)
    model(torch.ones(4, 3))  # whoever waits is put into evaluation mode by its first batch
    assert [block[1].training for block in model] == [False, False, True]
    technique.at(model, Clock(5), None)
    assert [block[1].training for block in model] == [False, True, True]
    model.eval()
    technique.at(model, Clock(10), None)
    assert [block[1].training for block in model] == [False, False, False]


def test_another_horizon_means_other_times_for_the_same_model() -> None:
    technique, model = Unfreezing(), net()
    technique.at(model, Clock(10), Horizon.of("100 steps"))
    assert trained(model) == "12"
    technique.at(model, Clock(10), Horizon.of("50 steps"))
    assert trained(model) == "012"


def test_statistics_can_go_on_averaging() -> None:
    technique = Unfreezing(norm_statistics="updated")
    model = technique(net(), Rng(0))
    technique.at(model, Clock(0), Horizon.of("100 steps"))
    before = model[0][1].running_mean.clone()
    model(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)) + 2)
    assert not torch.equal(before, model[0][1].running_mean)


def test_a_part_in_two_stages_joins_at_the_earlier() -> None:
    stages = [{"modules": ["0"], "at": "9 steps"}, {"modules": ["0.0"], "at": "2 steps"}]
    technique = Unfreezing(stages=stages)
    model = net()
    technique.at(model, Clock(2), None)
    assert [p.requires_grad for p in model[0].parameters()] == [True, True, False, False]


def test_a_tied_weight_joins_with_the_first_of_its_parts() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False), "top": nn.Linear(5, 5)})
    model["head"].weight = model["embedding"].weight
    technique = Unfreezing(stages=[{"modules": ["embedding"], "at": "9 steps"}, {"modules": ["head"], "at": "2 steps"}])
    assert [(technique.at(model, Clock(step), None), model["head"].weight.requires_grad) for step in (0, 2, 9)] == [
        (True, False),
        (True, True),
        (False, True),
    ]


def test_training_moves_only_what_has_joined() -> None:
    technique = Unfreezing(modules=["1", "0"], every="2 steps")
    model = technique(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)), Rng(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    moved = []
    for step in range(4):
        before = model[0].weight.detach().clone()
        technique.at(model, Clock(step), None)
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        optimizer.step()
        moved.append(not torch.equal(before, model[0].weight))
    assert moved == [False, False, True, True]


def test_names_that_match_nothing_are_refused_before_training_with_the_nearest() -> None:
    model = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    with pytest.raises(JobError, match="Did you mean 'backbone'"):
        Unfreezing(modules=["head", "backbne"])(model, Rng(0))


def test_a_start_with_nothing_to_train_is_refused() -> None:
    with pytest.raises(JobError, match="nothing to train at step 0"):
        Unfreezing(stages=[{"modules": ["*"], "at": "1 step"}]).at(net(), Clock(0), None)


def test_a_share_of_the_budget_needs_a_budget() -> None:
    with pytest.raises(JobError, match=r"unfreezing\.every"):
        Unfreezing().at(net(), Clock(0), None)


@pytest.mark.parametrize(
    "settings",
    [
        {"modules": ["0"], "stages": [{"modules": ["1"], "at": "0%"}]},
        {"modules": []},
        {"modules": "0"},
        {"every": "0 steps"},
        {"every": 5},
        {"stages": []},
        {"stages": [{"modules": ["1"]}]},
        {"stages": [{"modules": "1", "at": "5%"}]},
        {"stages": [{"modules": ["1"], "at": "soon"}]},
        {"stages": ["1"]},
        {"norm_statistics": "no"},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(JobError, match="unfreezing"):
        Unfreezing(**settings)


EXAMPLE = 'stages: [{modules: [head], at: "0%"}, {modules: [body], at: "50%"}]'


@pytest.mark.parametrize(
    ("stages", "named"),
    [
        ([], "stages is"),
        ([{"at": "0%"}], "stages[0] is"),
        ([{"modules": ["1"]}], "stages[0] is"),
        ([{"modules": ["1"], "at": "0%", "lr": 1}], "stages[0] is"),
        ([{"modules": ["1"], "at": "0%"}, {"modules": "0", "at": "5%"}], "stages[1].modules is '0'"),
        ([{"modules": [], "at": "5%"}], "stages[0].modules is []"),
        ([{"modules": ["1"], "at": "soon"}], "stages[0].at is 'soon'"),
        ([{"modules": ["1"], "at": 3}], "stages[0].at is 3"),
        ("1", "stages is '1'"),
        (["1", "0"], 'stages is ["1", "0"]'),
        ([["1", "0%"]], "stages is "),
        ({"modules": ["1"], "at": "0%"}, "stages is "),
        (5, "stages is 5"),
    ],
)
def test_malformed_stages_are_told_where_they_are_wrong_and_what_well_formed_ones_look_like(stages: Any, named: str) -> None:
    with pytest.raises(JobError) as refusal:
        Recipe(optimizer="sgd", techniques=[{"name": "unfreezing", "stages": stages}])
    assert named in refusal.value.what
    assert EXAMPLE in refusal.value.fix
    with pytest.raises(JobError) as refusal:
        Unfreezing(stages=stages)
    assert EXAMPLE in refusal.value.fix


def test_the_example_of_stages_is_well_formed() -> None:
    import yaml

    assert len(Unfreezing(**yaml.safe_load(EXAMPLE)).stages or []) == 2
