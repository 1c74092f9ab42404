"""The table of parameter groups: what trains by which rule, from which step on, and what never does."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from stepwell.recipe.explaining.explain import WIDTH, explanation
from stepwell.recipe.explaining.group_table import first_steps, group_table
from stepwell.recipe.fit import ingredients
from stepwell.recipe.job import Job
from stepwell.recipe.run import Assembly


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base, self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.body(self.base(inputs).relu()).relu())
        return outputs


def assembly(model: nn.Module, **recipe: Any) -> Assembly:
    data = (torch.randn(24, 4), torch.arange(24) % 3)
    job = Job(recipe={"optimizer": "adamw", "batch_size": 8, **recipe}, budget="20 steps")
    return Assembly(ingredients(model, data, data, job))


def test_muon_s_groups_say_which_rule_moves_them() -> None:
    lines = group_table(assembly(Net(), optimizer={"name": "muon", "lr": 0.01, "adamw_factor": 0.5})).splitlines()
    assert lines[1].strip() == "group 0: by muon; 2 tensors, 60 values; lr 0.01, weight_decay 0.1, momentum 0.95"
    assert [line.split()[0] for line in lines[2:4]] == ["base.weight", "body.weight"]
    # 6 + 6 + 3 biases and the head's 3 x 6; their rate is half of muon's, and they have no momentum of its kind.
    assert lines[4].strip() == "group 1: by adamw; 4 tensors, 33 values; lr 0.005, weight_decay 0.1"
    assert [line.split()[0] for line in lines[5:]] == ["base.bias", "body.bias", "head.weight", "head.bias"]


def test_an_optimizer_with_one_rule_names_none() -> None:
    assert " by " not in group_table(assembly(Net()))


def test_the_first_step_of_a_thawed_tensor_is_the_first_that_changes_it() -> None:
    run = assembly(Net(), techniques=[{"name": "unfreezing", "stages": [{"modules": ["body"], "at": "3 steps"}]}])
    told = first_steps(run)
    assert told == {"body.weight": 4, "body.bias": 4}
    before = run.step.model.body.weight.detach().clone()  # type: ignore[union-attr, operator]
    changed = []
    for cursor in range(5):
        run.step(run.source.next(cursor))
        changed.append(not torch.equal(before, run.step.model.body.weight))  # type: ignore[arg-type, union-attr]
    assert changed.index(True) + 1 == told["body.weight"]


def test_each_stage_stands_beside_its_tensors_and_in_sum_below_them() -> None:
    text = group_table(assembly(Net(), techniques=[{"name": "unfreezing", "every": "25%"}]))
    assert re.search(r"head\.weight +\[3, 6\] +from step 1\n", text)
    assert re.search(r"body\.bias +\[6\] +from step 6\n", text)
    assert re.search(r"base\.weight +\[6, 4\] +from step 11\n", text)
    # 21 in the head, 42 in the body, 30 in the base.
    assert text.splitlines()[-1].strip() == "of 93 values train: 21 from step 1, 63 from step 6, 93 from step 11"


def test_a_tied_tensor_joins_with_the_first_of_its_names() -> None:
    model = Net()
    model.base = nn.Linear(4, 6)
    model.head.weight = nn.Parameter(torch.randn(3, 6))
    model.register_parameter("alias", model.head.weight)
    stages = [{"modules": ["head"], "at": "5 steps"}, {"modules": ["alias"], "at": "2 steps"}]
    told = first_steps(assembly(model, techniques=[{"name": "unfreezing", "stages": stages}]))
    assert (told["alias"], told["head.bias"]) == (3, 6)
    assert "head.weight" not in told  # the same tensor, which stands in the table once


def test_what_is_frozen_for_good_is_told_apart_from_what_thaws() -> None:
    names = [{"name": "freeze", "patterns": ["base"]}, {"name": "unfreezing", "modules": ["head", "body"], "every": "5 steps"}]
    text = group_table(assembly(Net(), techniques=names))
    assert "not trained: base.weight, base.bias" in text
    assert "63 of 93 values train (67.74 %)" in text
    assert "of 93 values train: 21 from step 1, 63 from step 6" in text


def test_no_line_of_settings_or_advice_is_wider_than_a_terminal() -> None:
    text = explanation(assembly(Net(), optimizer="muon", schedule="one_cycle", techniques=["unfreezing", "label_smoothing"]))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "momentum_low=0.85" in text
    assert "None" not in text


def test_who_watches_steps_stands_apart_from_who_watches_evaluations() -> None:
    text = explanation(assembly(Net(), techniques=["layer_statistics", "early_stopping"]))
    steps, evaluations = text.index("the step is reported to:"), text.index("and at the end: evaluate")
    assert steps < text.index("layer_statistics(") < evaluations < text.index("early_stopping(")


def test_an_evaluation_beyond_the_end_of_the_run_is_told_as_the_one_at_its_end() -> None:
    data = (torch.randn(24, 4), torch.arange(24) % 3)
    job = Job(recipe={"optimizer": "adamw", "batch_size": 8}, budget="2 steps", evaluate_every="50 steps")
    assert "\nat the end: evaluate" in explanation(Assembly(ingredients(Net(), data, data, job)))
