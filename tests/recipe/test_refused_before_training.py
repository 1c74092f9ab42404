"""Recipes that would train without complaint while a part of them does nothing, or means nothing, are refused first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import stepwell
from stepwell.core.errors import DataError, JobError
from stepwell.recipe.compatibility import check_recipe

X, CLASSES = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3


def _fit(*techniques: Any, model: nn.Module | None = None, targets: torch.Tensor = CLASSES, **others: Any) -> Any:
    recipe = {"objective": "cross_entropy", "optimizer": {"name": "sgd", "lr": 0.1}, "batch_size": 10}
    out = {key: others.pop(key) for key in ("out", "init_from", "val") if key in others}
    made = stepwell.Recipe(**{**recipe, "techniques": list(techniques), **others})
    model = model or nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    return stepwell.fit(model, (X, targets), recipe=made, budget="2 epochs", seed=0, **{"out": None, **out})


@pytest.mark.parametrize("objective", ["bce", "binary_focal"])
def test_class_numbers_are_no_yes_or_no_targets(objective: str) -> None:
    with pytest.raises(DataError, match=f"targets of {objective} hold 2"):
        _fit(model=nn.Linear(6, 1), targets=CLASSES.float(), objective=objective)
    with pytest.raises(DataError, match="hold -1"):
        _fit(model=nn.Linear(6, 1), targets=CLASSES.clamp(max=1).float() * 2 - 1, objective=objective)


def test_yes_or_no_targets_of_the_validation_part_are_looked_at_too() -> None:
    with pytest.raises(DataError, match="targets of bce hold 2"):
        _fit(model=nn.Linear(6, 1), targets=(CLASSES > 0).float(), objective="bce", val=(X, CLASSES.float()))


def test_what_watches_evaluations_needs_some() -> None:
    with pytest.raises(JobError, match="plateau is in the recipe but there is no validation data"):
        _fit(schedule="plateau")
    with pytest.raises(JobError, match="validation_rising is in the recipe but there is no validation data"):
        _fit({"name": "validation_rising"})


@pytest.mark.parametrize("start", ["9 epochs", "101%"])
def test_averages_that_start_after_the_run_are_refused(start: str) -> None:
    for name in ("swa", "ema"):
        with pytest.raises(JobError, match=f"{name}.start is"):
            _fit({"name": name, "start": start})


def test_parts_that_would_never_thaw_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match='With 2 stages, write at most every: "99%"'):
        _fit({"name": "unfreezing", "every": "2 epochs"}, out=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    stages = [{"modules": ["2"], "at": "0%"}, {"modules": ["0"], "at": "3 epochs"}]
    with pytest.raises(JobError, match=r"unfreezing\.stages\.at is '3 epochs'"):
        _fit({"name": "unfreezing", "stages": stages})
    _fit({"name": "unfreezing", "every": "7 steps"})


def test_drawing_loaded_weights_anew_is_refused(tmp_path: Path) -> None:
    _fit(out=tmp_path / "first")
    with pytest.raises(JobError, match=r"kaiming_init would draw 0\.weight.* anew, which init_from has loaded"):
        _fit({"name": "kaiming_init"}, init_from=str(tmp_path / "first"))
    with pytest.raises(JobError, match="covers every tensor"):
        _fit(init_from={"path": str(tmp_path / "first"), "except": ["*"]})
    _fit({"name": "new_head"}, init_from=str(tmp_path / "first"))


def test_advice_on_decay_needs_a_decay() -> None:
    from stepwell.recipe.explaining.advice import Situation, advice
    from stepwell.techniques import AdamW

    records = (stepwell.core.catalog.record_of(AdamW()),)
    assert "decay of norms" in [item.id for item in advice(Situation(records=records))]  # type: ignore[arg-type]
    assert "decay of norms" not in [item.id for item in advice(Situation(records=records, decays=False))]  # type: ignore[arg-type]


def test_dropout_before_the_head_is_not_doubled_by_a_flatten_between() -> None:
    from stepwell.core.modules.dropout_places import bare_activations

    body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Sequential(nn.Flatten(), nn.Dropout(0.1)))
    assert bare_activations(nn.Sequential(body, nn.Linear(2, 2))) == []


@pytest.mark.parametrize(
    ("technique", "nearest"),
    [
        ({"name": "early_stopping", "monitor": "acuracy", "mode": "max"}, "accuracy"),
        ({"name": "target_reached", "monitor": "auc", "value": 0.9}, "accuracy"),
        ({"name": "validation_rising", "monitor": "perplexity"}, "loss"),
    ],
)
def test_a_monitor_that_is_not_evaluated_is_refused_before_the_first_step(technique: dict[str, Any], nearest: str) -> None:
    draw = torch.Generator().manual_seed(0)
    data = (torch.randn(24, 4, generator=draw), torch.arange(24) % 3)
    model = torch.nn.Linear(4, 3)
    before = model.weight.clone()
    recipe = stepwell.Recipe(optimizer="sgd", techniques=[technique], batch_size=8)
    with pytest.raises(JobError, match=rf"{technique['name']}\.monitor is '{technique['monitor']}'") as refusal:
        stepwell.fit(model, data, val=data, recipe=recipe, budget="2 epochs")
    assert nearest in refusal.value.fix
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(("task", "objective"), [("segmentation", "bce_dice"), ("pairs", "contrastive"), ("regression", "mse")])
def test_no_objective_is_proposed_that_the_task_would_refuse(task: str, objective: str) -> None:
    recipe = stepwell.Recipe(objective=objective, optimizer="sgd", techniques=["label_smoothing"])
    with pytest.raises(JobError, match="label_smoothing needs class_scores") as refusal:
        check_recipe(recipe, task=task)
    assert refusal.value.fix == "Change the task to one that cross_entropy or focal can learn, or leave label_smoothing out"
