"""What can't work together is refused, with the reason and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from stepwell.core import catalog
from stepwell.core.catalog import technique
from stepwell.core.errors import JobError
from stepwell.core.slots import Counts, Objective, Terms
from stepwell.recipe.compatibility import check_recipe
from stepwell.recipe.job import Recipe


def refusal(task: str | None = None, tags: tuple[str, ...] = (), num_ranks: int = 1, **parts: Any) -> JobError:
    recipe = Recipe(**({"optimizer": "adamw"} | parts))
    with pytest.raises(JobError) as caught:
        check_recipe(recipe, task=task, tags=tags, num_ranks=num_ranks)
    return caught.value


@pytest.fixture
def own_records() -> Iterator[None]:
    known = dict(catalog.discover())
    yield
    catalog._RECORDS.clear()
    catalog._RECORDS.update(known)


def test_a_stack_of_techniques_that_go_together_passes() -> None:
    stack = ["label_smoothing", "class_weights", "mixup", "clip_norm", "ema", "early_stopping", "kaiming_init", "decay_groups"]
    recipe = Recipe(objective="cross_entropy", optimizer="sgd", schedule="one_cycle", techniques=stack)
    check_recipe(recipe, task="classification")


def test_a_need_that_nothing_provides_is_refused_with_those_that_do() -> None:
    error = refusal("regression", objective="mse", techniques=["label_smoothing"])
    assert error.what == "label_smoothing needs class_scores, which nothing in this recipe provides"
    assert "cross_entropy" in error.expected
    assert "leave label_smoothing out" in error.fix


def test_the_remedy_names_the_preset_that_brought_it() -> None:
    error = refusal("regression", preset="image_small", objective="mse")
    assert "without: [label_smoothing]" in error.fix


def batchwise_objective() -> Objective:
    class Own(Objective):
        decomposable = False

        def terms(self, outputs: Any, batch: Any) -> Terms:
            return {}

        def counts(self, batch: Any) -> Counts:
            return {}

    return Own()


def test_a_need_is_met_by_a_tag_of_the_model_or_the_data() -> None:
    check_recipe(Recipe(objective="mse", optimizer="adamw", techniques=["label_smoothing"]), task=None, tags=("class_scores",))


def test_the_tasks_own_objective_meets_needs_where_none_is_written() -> None:
    recipe = Recipe(optimizer="adamw", techniques=["mixup", "label_smoothing"])
    check_recipe(recipe, task="classification")
    with pytest.raises(JobError, match="label_smoothing needs class_scores"):
        check_recipe(recipe, task="binary")


def test_what_a_users_own_loss_can_take_is_left_to_its_first_call() -> None:
    recipe = Recipe(objective=torch.nn.CrossEntropyLoss(), optimizer="adamw", techniques=["label_smoothing"])
    check_recipe(recipe, task="classification")


@pytest.mark.parametrize(
    ("task", "objective", "own"),
    [
        ("classification", "mse", "cross_entropy"),
        ("classification", "bce", "cross_entropy"),
        ("language_modeling", "mse", "cross_entropy"),
        ("binary", "cross_entropy", "bce"),
        ("multilabel", "cross_entropy", "bce"),
        ("regression", "cross_entropy", "mse"),
        ("regression", "bce", "mse"),
    ],
)
def test_an_objective_for_another_kind_of_target_is_refused_with_the_tasks_own(task: str, objective: str, own: str) -> None:
    assert f"Use {own}" in refusal(task, objective=objective).fix


def test_an_objective_over_the_whole_batch_refuses_parts_and_ranks() -> None:
    whole = batchwise_objective()
    error = refusal(objective=whole, batch_size=8, micro_batch_size=4)
    assert "micro_batch_size is 4" in error.what
    assert "Leave micro_batch_size out" in error.fix
    assert "2 processes" in refusal(objective=whole, num_ranks=2).what
    check_recipe(Recipe(objective=whole, optimizer="sgd", batch_size=8, micro_batch_size=8), task=None)


def test_a_schedule_of_something_that_is_not_there_is_refused_with_the_nearest() -> None:
    error = refusal(techniques=["clip_norm"], schedule={"name": "constant", "drives": "clip_nrm.max_norm"})
    assert "the recipe has no 'clip_nrm'" in error.what
    assert "Did you mean 'clip_norm'?" in error.fix
    error = refusal(techniques=["clip_norm"], schedule={"name": "constant", "drives": "clip_norm.max_nrm"})
    assert "clip_norm has no 'max_nrm'" in error.what
    assert "Did you mean 'max_norm'?" in error.fix


def test_beta1_counts_as_momentum() -> None:
    check_recipe(Recipe(optimizer="adamw", schedule="one_cycle"), task=None)
    check_recipe(Recipe(optimizer="adamw", schedule={"name": "constant", "drives": "optimizer.momentum"}), task=None)


def test_one_cycle_refuses_a_momentum_that_is_off_unless_it_keeps_it() -> None:
    error = refusal(optimizer={"name": "sgd", "momentum": 0}, schedule="one_cycle")
    assert "optimizer.momentum is 0" in error.what
    assert "momentum: keep" in error.fix
    kept = Recipe(optimizer={"name": "sgd", "momentum": 0}, schedule={"name": "one_cycle", "momentum": "keep"})
    check_recipe(kept, task=None)


def test_two_averages_are_refused() -> None:
    assert "two averages" in refusal(techniques=["ema", "swa"]).what


@pytest.mark.usefixtures("own_records")
def test_one_cycle_refuses_an_optimizer_without_momentum() -> None:
    @technique(id="plain_descent", slot="optimizer", role="base", paper="Cauchy 1847")
    class PlainDescent:
        lr: float = 0.1

    assert "doesn't have" in refusal(optimizer=PlainDescent(), schedule="one_cycle").what


@pytest.mark.usefixtures("own_records")
def test_a_conflict_with_an_id_or_a_tag_is_refused_with_its_cited_reason() -> None:
    @technique(
        id="loner", slot="grad", paper="none", conflicts={"mixup": "Someone 2020 shows why", "batch_norm": "Other 2021 shows why"}
    )
    class Loner:
        pass

    error = refusal(objective="mse", techniques=["mixup", Loner()])
    assert error.what == "loner can't work together with mixup: Someone 2020 shows why"
    assert "batch_norm): Other 2021 shows why" in refusal(tags=("batch_norm",), techniques=[Loner()]).what
    check_recipe(Recipe(optimizer="adamw", techniques=[Loner()]), task=None)


def test_a_users_optimizer_is_not_asked_for_fields() -> None:
    recipe = Recipe(optimizer=torch.optim.Adagrad, schedule={"name": "constant", "drives": "optimizer.lr"})
    check_recipe(recipe, task=None)
