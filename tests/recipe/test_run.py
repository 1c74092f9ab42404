"""Runs from Python: what the recipe's plan does, and that nothing stays behind when training ends."""

from __future__ import annotations

import multiprocessing

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from stepwell.core.errors import JobError, TrainingStopped
from stepwell.data.targets import TASKS as DATA_TASKS
from stepwell.recipe.explaining.explain import explanation
from stepwell.recipe.fit import fit, ingredients
from stepwell.recipe.job import Job, Recipe
from stepwell.recipe.run import Assembly
from stepwell.recipe.tasks import TASKS


class Squares(Dataset[tuple[Tensor, Tensor]]):
    """Inputs are worked out sample by sample; from `bad` on they are no numbers."""

    def __init__(self, bad: int = 1000) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        value = float(index) / 24 if index < self.bad else float("nan")
        return torch.tensor([value, value * value]), torch.tensor(value)


def built(plan: str, optimizer: object = None) -> Assembly:
    recipe = Recipe(optimizer=optimizer or {"name": "sgd", "lr": 0.1}, batch_size=4, plan=plan)  # type: ignore[arg-type]
    job = Job(recipe=recipe, budget="2 epochs")
    inputs = torch.linspace(0, 1, 48).reshape(24, 2)
    return Assembly(ingredients(nn.Linear(2, 1), (inputs, inputs.sum(1)), None, job))


def test_a_flat_plan_lays_parameters_side_by_side_and_a_plan_of_tensors_leaves_them_apart() -> None:
    def storages(plan: str) -> int:
        return len({parameter.untyped_storage().data_ptr() for parameter in built(plan).model.parameters()})

    assert (storages("flat"), storages("tensors")) == (1, 2)
    assert Recipe(optimizer="sgd").plan == "flat"


def test_explain_says_how_parameters_lie_and_why() -> None:
    def torchs(groups: list[dict[str, object]]) -> torch.optim.Optimizer:
        return torch.optim.SGD([{"params": group["params"]} for group in groups], lr=0.1)

    assert "plan: flat, parameters and gradients lie in one buffer" in explanation(built("flat"))
    assert "plan: tensors, each parameter is a tensor by itself;" in explanation(built("tensors"))
    assert "because SGD updates them one by one" in explanation(built("flat", torchs))


def test_a_plan_that_nothing_carries_out_is_refused() -> None:
    with pytest.raises(JobError, match=r"recipe\.plan is 'auto'.*one of flat, tensors"):
        Recipe(optimizer="sgd", plan="auto")  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [1000, 12])
def test_worker_processes_end_with_training_also_when_it_fails(bad: int) -> None:
    recipe = Recipe(optimizer={"name": "sgd", "lr": 0.1}, batch_size=4)
    before = set(multiprocessing.active_children())
    try:
        fit(nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), Squares(bad), recipe=recipe, budget="2 epochs", workers=1)
    except TrainingStopped:
        assert bad < 24
    else:
        assert bad >= 24
    assert set(multiprocessing.active_children()) <= before


def test_the_data_and_the_recipes_know_the_same_tasks() -> None:
    assert tuple(TASKS) == DATA_TASKS
