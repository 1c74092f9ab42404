"""A job is a value: two spellings of one job are equal, and every change makes another job."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from stepwell.core.errors import JobError
from stepwell.recipe.files import dump, parse_job
from stepwell.recipe.job import Job, Recipe
from stepwell.techniques import AdamW, ClipNorm, CrossEntropy, LabelSmoothing, Mixup, OneCycle, Sgd

FILE = """\
data: {source: digits}
model: {name: mlp, hidden: [128, 64]}
task: classification
recipe:
  objective: cross_entropy
  optimizer: {name: adamw, lr: 3e-3}
  schedule: one_cycle
  techniques:
    - {name: mixup, alpha: 1}
    - clip_norm
  batch_size: 64
budget: 60 epochs
"""


def python_job() -> Job:
    return Job(
        data={"source": "digits"},
        model={"name": "mlp", "hidden": (128, 64)},
        task="classification",
        recipe=Recipe(
            objective=CrossEntropy,
            optimizer=AdamW(lr=3e-3),
            schedule={"name": "one_cycle"},
            techniques=[{"name": "mixup", "alpha": 1.0}, ClipNorm(max_norm=1.0)],
            batch_size=64,
        ),
        budget="60 epochs",
    )


def test_a_file_and_python_give_one_value_with_one_hash() -> None:
    from_file, from_python = parse_job(FILE), python_job()
    assert from_file == from_python
    assert hash(from_file) == hash(from_python)
    assert len({from_file, from_python, from_file.replace_at("seed", 1)}) == 2


def test_a_name_a_mapping_a_class_and_an_object_are_one_technique() -> None:
    spellings: list[Any] = ["one_cycle", {"name": "one_cycle"}, OneCycle, OneCycle()]
    assert len({Recipe(optimizer="sgd", schedule=spelling) for spelling in spellings}) == 1


def test_a_job_survives_the_way_through_its_mapping_and_through_a_file() -> None:
    job = parse_job(FILE)
    assert Job.from_mapping(job.to_mapping()) == job
    assert parse_job(dump(job.to_mapping())) == job
    assert parse_job(dump(job.to_mapping())).to_mapping() == job.to_mapping()


def test_the_mapping_is_plain_and_in_the_order_of_a_job_file() -> None:
    mapping = parse_job(FILE).to_mapping()
    assert list(mapping)[:7] == ["data", "split", "model", "task", "recipe", "budget", "seed"]
    assert list(mapping["recipe"])[:5] == ["objective", "optimizer", "schedule", "techniques", "batch_size"]
    assert mapping["recipe"]["optimizer"] == {
        "name": "adamw",
        "lr": 0.003,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 0.01,
    }
    assert mapping["model"]["hidden"] == [128, 64]

    def kinds(value: Any) -> set[type]:
        items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        return {type(value)}.union(*(kinds(item) for item in items))

    assert kinds(mapping) <= {dict, list, str, int, float, bool, type(None)}


def test_nothing_of_a_job_can_be_assigned() -> None:
    job = parse_job(FILE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.seed = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.recipe.batch_size = 1


@pytest.mark.parametrize(
    ("path", "value", "read"),
    [
        ("recipe.optimizer.lr", 1e-2, lambda job: job.recipe.optimizer.lr),
        ("recipe.techniques.mixup.alpha", 0.4, lambda job: job.recipe.techniques[0].alpha),
        ("recipe.techniques.0.alpha", 0.4, lambda job: job.recipe.techniques[0].alpha),
        ("recipe.schedule.warmup", "10%", lambda job: job.recipe.schedule.warmup),
        ("model.hidden", [32], lambda job: job.model.settings["hidden"]),
        ("budget", "5 steps", lambda job: job.budget),
        ("split.validation", 0.3, lambda job: job.split.validation),
        ("stop.max_time", "90 s", lambda job: job.stop.max_time),
        ("recipe.micro_batch_size", 8, lambda job: job.recipe.micro_batch_size),
        ("recipe.schedule", None, lambda job: job.recipe.schedule),
    ],
)
def test_any_path_can_be_given_another_value(path: str, value: Any, read: Any) -> None:
    job = parse_job(FILE)
    after = job.replace_at(path, value)
    assert read(after) == value
    assert after != job
    assert job == parse_job(FILE)


def test_a_part_can_be_replaced_by_a_name_or_an_object() -> None:
    job = parse_job(FILE)
    assert job.replace_at("recipe.optimizer", "sgd").recipe.optimizer == Sgd()
    assert job.replace_at("recipe.techniques.mixup", Mixup(alpha=0.1)).recipe.techniques == (Mixup(alpha=0.1), ClipNorm())
    assert job.replace_at("recipe.techniques.0", "label_smoothing").recipe.techniques == (LabelSmoothing(), ClipNorm())


@pytest.mark.parametrize(
    ("path", "what", "fix"),
    [
        ("recipe.optimiser.lr", "'recipe.optimiser.lr' leads nowhere", "Did you mean 'optimizer'?"),
        ("recipe.techniques.mixpu.alpha", "leads nowhere", "Did you mean 'mixup'?"),
        ("recipe.techniques.2.alpha", "leads nowhere", "Count from 0"),
        ("budget.amount", "leads nowhere", "Set budget itself"),
        ("recipe..lr", "leads nowhere", "recipe.optimizer.lr"),
        ("recipe.optimizer.lrr", "unknown key 'lrr' in recipe.optimizer", "Did you mean 'lr'?"),
        ("sed", "unknown key 'sed'", "Did you mean 'seed'?"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_with_the_nearest(path: str, what: str, fix: str) -> None:
    with pytest.raises(JobError) as caught:
        parse_job(FILE).replace_at(path, 1)
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_a_technique_can_be_left_out_by_its_id() -> None:
    job = parse_job(FILE)
    assert [type(item).__name__ for item in job.without("mixup").recipe.techniques] == ["ClipNorm"]
    assert job.without("one_cycle").recipe.schedule is None
    with pytest.raises(JobError, match="no technique 'mixpu'") as caught:
        job.without("mixpu")
    assert "Did you mean 'mixup'?" in caught.value.fix


def test_a_callable_is_kept_as_it_is_and_named_in_the_mapping() -> None:
    loss = torch.nn.MSELoss()
    recipe = Recipe(objective=loss, optimizer=torch.optim.SGD)
    assert recipe.objective is loss
    assert recipe.optimizer is torch.optim.SGD
    assert recipe.to_mapping()["objective"] == {"python": "torch.nn.modules.loss.MSELoss"}
    assert recipe.to_mapping()["optimizer"] == {"python": "torch.optim.sgd.SGD"}
    job = Job(recipe=recipe, budget="1 epochs").replace_at("recipe.batch_size", 8)
    assert job.recipe.objective is loss
    with pytest.raises(JobError, match="was Python code"):
        Recipe.from_mapping(recipe.to_mapping())


def test_a_lambda_is_an_objective_and_an_object_that_is_neither_is_refused() -> None:
    assert Recipe(objective=lambda outputs, targets: outputs.sum(), optimizer="sgd").objective is not None
    with pytest.raises(JobError, match=r"recipe.objective is 3"):
        Recipe(objective=3, optimizer="sgd")
    with pytest.raises(JobError, match=r"recipe.techniques\[0\] is"):
        Recipe(optimizer="sgd", techniques=[object()])


def test_an_object_of_another_slot_is_refused() -> None:
    with pytest.raises(JobError, match="'mixup' is a technique of the batch slot"):
        Recipe(optimizer=Mixup(alpha=0.2))
    with pytest.raises(JobError, match="second optimizer"):
        Recipe(optimizer="sgd", techniques=[AdamW()])


def test_the_same_technique_may_act_twice_where_it_drives_different_values() -> None:
    twice = [{"name": "constant", "drives": "mixup.alpha"}, {"name": "constant", "drives": "optimizer.weight_decay"}]
    recipe = Recipe(optimizer="sgd", schedule="one_cycle", techniques=["mixup", *twice])
    assert [item.drives for item in recipe.techniques[1:]] == ["mixup.alpha", "optimizer.weight_decay"]
    with pytest.raises(JobError, match=r"'constant' again"):
        Recipe(optimizer="sgd", techniques=["mixup", twice[0], twice[0]])


def test_numbers_of_numpy_are_numbers() -> None:
    recipe = Recipe(optimizer={"name": "sgd", "lr": np.float32(0.5)}, batch_size=np.int64(16))
    assert recipe == Recipe(optimizer={"name": "sgd", "lr": 0.5}, batch_size=16)
    assert type(recipe.batch_size) is int


def test_wrong_types_from_python_are_refused_without_a_place() -> None:
    with pytest.raises(JobError) as caught:
        Recipe(optimizer={"name": "sgd", "lr": torch.tensor([1.0, 2.0])})
    assert caught.value.where is None
    assert "recipe.optimizer.lr" in caught.value.what


def test_a_job_of_python_data_reads_back_where_python_gives_them_again() -> None:
    job = Job(recipe={"optimizer": "sgd"}, budget="3 epochs")
    assert "data" not in job.to_mapping()
    with pytest.raises(JobError, match="no data and no model and no task"):
        Job.from_mapping(job.to_mapping())
    assert Job.from_mapping(job.to_mapping(), given=("data", "model", "task")) == job


def test_a_replaced_recipe_is_validated_again() -> None:
    recipe = Recipe(optimizer="sgd", batch_size=8)
    assert dataclasses.replace(recipe, batch_size=16).batch_size == 16
    with pytest.raises(JobError, match="batch_size is 0"):
        dataclasses.replace(recipe, batch_size=0)
