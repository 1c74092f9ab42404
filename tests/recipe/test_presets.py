"""Presets: valid, with a source for every value, and only ever a starting point."""

from __future__ import annotations

import re

import pytest

from stepwell.core.catalog import record_of
from stepwell.core.errors import JobError
from stepwell.presets import names, preset, text
from stepwell.recipe.compatibility import check_recipe
from stepwell.recipe.files import parse_job
from stepwell.recipe.job import Recipe

TASKS = {
    "tabular_small": ["classification", "binary", "multilabel", "regression"],
    "tabular_large": ["classification", "binary", "multilabel", "regression"],
    "image_small": ["classification"],
    "transformer": ["language_modeling"],
    "complete_configuration": ["classification"],
    "train_model": ["classification"],
    "eight_points": ["classification", "binary", "multilabel", "regression"],
    "fine_tune": ["classification", "binary", "regression"],
}


def ids(recipe: Recipe) -> list[str]:
    return [record.id for item in recipe.techniques if (record := record_of(item)) is not None]


def test_the_shipped_presets_are_these() -> None:
    assert names() == sorted(TASKS)


@pytest.mark.parametrize(("name", "task"), [(name, task) for name, tasks in TASKS.items() for task in tasks])
def test_a_preset_is_a_whole_recipe_that_fits_its_tasks(name: str, task: str) -> None:
    recipe = Recipe(preset=name)
    check_recipe(recipe, task=task)
    assert recipe.preset == name
    assert recipe.schedule is not None


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_value_of_a_preset_names_its_source_on_its_line(name: str) -> None:
    bare = [
        line for line in text(name).splitlines() if re.search(r": *[^ #]", line) and not line.startswith("#") and " #" not in line
    ]
    assert [line for line in bare if not line.startswith("objective:")] == []


def test_the_language_preset_holds_the_numbers_of_its_source() -> None:
    optimizer = Recipe(preset="transformer").optimizer  # "Training Strategy", AdamW: 3e-4, 0.9, 0.98, 1e-8, 0.01
    assert (optimizer.lr, optimizer.betas, optimizer.eps, optimizer.weight_decay) == (3e-4, (0.9, 0.98), 1e-8, 0.01)


def test_the_image_preset_holds_the_complete_configuration_of_its_source() -> None:
    recipe = Recipe(preset="image_small")  # "Practical Training Recipes", recipe 5
    stack = dict(zip(ids(recipe), recipe.techniques, strict=True))
    assert (recipe.optimizer.lr, recipe.optimizer.weight_decay) == (1e-3, 0.01)
    assert recipe.optimizer.lr * recipe.schedule.floor == pytest.approx(1e-6)
    assert recipe.schedule.warmup == "5%"
    assert (stack["label_smoothing"].epsilon, stack["mixup"].alpha, stack["clip_norm"].max_norm) == (0.1, 0.2, 1.0)
    assert stack["ema"].decay == 0.999
    assert "decay_groups" in stack


def test_the_complete_configuration_is_recipe_5_of_its_source_whole() -> None:
    recipe = Recipe(preset="complete_configuration")
    stack = dict(zip(ids(recipe), recipe.techniques, strict=True))
    assert (recipe.optimizer.lr, recipe.optimizer.weight_decay) == (1e-3, 0.01)
    assert (recipe.schedule.warmup, recipe.optimizer.lr * recipe.schedule.floor) == ("5%", pytest.approx(1e-6))
    assert (stack["label_smoothing"].epsilon, stack["mixup"].alpha, stack["dropout"].probability) == (0.1, 0.2, 0.1)
    assert (stack["clip_norm"].max_norm, stack["ema"].decay) == (1.0, 0.999)
    assert {"zero_gamma", "decay_groups"} < stack.keys()


def test_train_model_is_the_recipe_of_its_source() -> None:
    recipe = Recipe(preset="train_model")
    stack = dict(zip(ids(recipe), recipe.techniques, strict=True))
    assert record_of(recipe.optimizer).id == "adamw"  # type: ignore[union-attr]
    assert (record_of(recipe.schedule).id, recipe.schedule.floor) == ("cosine", 0.0)  # type: ignore[union-attr]
    assert stack["clip_norm"].max_norm == 1.0
    assert (stack["early_stopping"].patience, stack["early_stopping"].min_delta) == (10, 1e-3)
    assert "activation_init" in stack


def test_the_eight_points_are_those_of_their_source() -> None:
    recipe = Recipe(preset="eight_points")
    stack = dict(zip(ids(recipe), recipe.techniques, strict=True))
    assert recipe.optimizer.weight_decay == 1e-2
    assert record_of(recipe.schedule).id == "warmup_cosine"  # type: ignore[union-attr]
    assert 0.1 <= stack["dropout"].probability <= 0.5
    assert stack["clip_norm"].max_norm == 1.0
    assert {"activation_init", "layer_statistics", "early_stopping"} < stack.keys()


def test_fine_tuning_gives_each_deeper_layer_the_rate_of_the_next_one_divided_by_2_6() -> None:
    recipe = Recipe(preset="fine_tune")
    stack = dict(zip(ids(recipe), recipe.techniques, strict=True))
    assert stack["layerwise_lr"].decay == pytest.approx(1 / 2.6, abs=1e-4)  # Howard & Ruder 2018
    assert {"unfreezing", "decay_groups", "clip_norm", "early_stopping"} < stack.keys()


def test_what_a_recipe_writes_overrides_the_preset_setting_by_setting() -> None:
    recipe = Recipe(preset="transformer", optimizer={"lr": 1e-3}, batch_size=8)
    assert (recipe.optimizer.lr, recipe.optimizer.betas, recipe.batch_size) == (1e-3, (0.9, 0.98), 8)


def test_a_part_of_another_name_replaces_the_presets() -> None:
    recipe = Recipe(preset="transformer", optimizer={"name": "sgd", "lr": 0.5}, schedule=None)
    assert (recipe.optimizer.lr, recipe.optimizer.momentum, recipe.schedule) == (0.5, 0.9, None)


def test_the_same_part_by_name_alone_keeps_the_presets_settings() -> None:
    assert Recipe(preset="transformer", optimizer="adamw").optimizer.betas == (0.9, 0.98)


def test_techniques_are_merged_by_id_in_the_presets_order_and_new_ones_follow() -> None:
    plain = ids(Recipe(preset="image_small"))
    recipe = Recipe(preset="image_small", techniques=["early_stopping", {"name": "mixup", "alpha": 0.7}])
    assert ids(recipe) == [*plain, "early_stopping"]
    assert recipe.techniques[plain.index("mixup")].alpha == 0.7


def test_a_technique_of_a_preset_can_be_left_out() -> None:
    recipe = Recipe(preset={"name": "image_small", "without": ["mixup", "ema"]})
    assert {"mixup", "ema"} & set(ids(recipe)) == set()
    assert recipe.preset == "image_small"
    with pytest.raises(JobError, match="'swa', which the preset doesn't have"):
        Recipe(preset={"name": "image_small", "without": ["swa"]})


def test_a_technique_dropped_from_a_preset_stays_dropped_through_a_file() -> None:
    recipe = Recipe(preset="image_small").without("mixup")
    assert "mixup" not in ids(Recipe.from_mapping(recipe.to_mapping()))
    assert Recipe.from_mapping(recipe.to_mapping()) == recipe
    assert "preset" not in recipe.to_mapping()


def test_a_recipe_with_a_preset_equals_the_same_recipe_written_out() -> None:
    assert Recipe(preset="tabular_small") == Recipe.from_mapping(preset("tabular_small"))
    assert hash(Recipe(preset="tabular_small")) == hash(Recipe.from_mapping(preset("tabular_small")))


def test_an_unknown_preset_is_refused_at_its_line_with_the_nearest() -> None:
    with pytest.raises(JobError) as caught:
        parse_job("recipe:\n  preset: tabular_smal\nbudget: 1 epochs", given=("data", "model", "task"))
    assert caught.value.where == "job.yaml:2"
    assert "Did you mean 'tabular_small'?" in caught.value.fix


@pytest.mark.parametrize("value", ["[a]", "3", "{name: 3}", "{nam: x}", "{name: image_small, without: mixup}"])
def test_a_preset_that_is_no_name_is_refused(value: str) -> None:
    with pytest.raises(JobError) as caught:
        parse_job(f"recipe:\n  preset: {value}\nbudget: 1 epochs", given=("data", "model", "task"))
    assert caught.value.where == "job.yaml:2"


def test_a_mistake_written_over_a_preset_stands_at_its_own_line() -> None:
    source = "recipe:\n  preset: image_small\n  techniques:\n    - {name: swa}\n    - {name: mixup, alpha: -1}\nbudget: 1 epochs"
    with pytest.raises(JobError) as caught:
        parse_job(source, given=("data", "model", "task"))
    assert (caught.value.where, caught.value.what) == ("job.yaml:5", "mixup.alpha is -1.0")


def test_a_merged_preset_is_not_merged_again() -> None:
    from stepwell.recipe.job import Job

    job = Job(recipe=Recipe(preset="image_small"), budget="1 epochs").without("mixup")
    changed = job.replace_at("recipe.optimizer.lr", 0.1)
    assert "mixup" not in ids(changed.recipe)
    assert changed.recipe.preset == "image_small"
    with pytest.raises(JobError, match="already merged"):
        job.replace_at("recipe.preset", "tabular_small")
