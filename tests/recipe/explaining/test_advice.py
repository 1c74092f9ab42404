"""Advice: each rule speaks up in its own situation and is silent beside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.catalog import lookup
from stepwell.recipe.explaining.advice import ADVICE, Situation, advice, situation_of
from stepwell.recipe.explaining.explain import explanation
from stepwell.recipe.fit import ingredients
from stepwell.recipe.job import Job
from stepwell.recipe.run import Assembly


def situation(*ids: str, **facts: Any) -> Situation:
    return Situation(records=tuple(lookup(id) for id in ids), **facts)


CASES = [
    ("large batch", situation("sgd", batch_size=2048), situation("sgd", batch_size=2047)),
    ("large batch", situation("adamw", batch_size=4096), situation("lamb", batch_size=4096)),
    ("memory", situation("adamw", num_values=300_000_000), situation("lion", num_values=300_000_000)),
    ("memory", situation("adam", num_values=300_000_000), situation("adam", num_values=299_999_999)),
    ("convolution schedule", situation("sgd", layers={"convolution"}), situation("sgd", "one_cycle", layers={"convolution"})),
    (
        "convolution schedule",
        situation("sgd", "constant", layers={"convolution"}),
        situation("sgd", layers={"convolution", "attention"}),
    ),
    ("transformer schedule", situation("adamw", layers={"attention"}), situation("adamw", "inverse_sqrt", layers={"attention"})),
    ("warmup", situation("adamw", warms_up=False), situation("sgd", warms_up=False)),
    ("warmup", situation("sgd", warms_up=False, layers={"attention"}), situation("adamw", warms_up=True)),
    ("decay of norms", situation("adamw"), situation("adamw", "decay_groups")),
    ("norm of small batches", situation(norm_batch=7, layers={"batch_norm"}), situation(norm_batch=8, layers={"batch_norm"})),
    ("norm of small batches", situation(norm_batch=2, layers={"batch_norm"}), situation(norm_batch=2)),
    ("norm of sequences", situation(layers={"batch_norm", "recurrent"}), situation(layers={"batch_norm"})),
    ("norm of sequences", situation(layers={"batch_norm", "attention"}), situation(layers={"attention"})),
    ("clipping of recurrent nets", situation(layers={"recurrent"}), situation("clip_norm", layers={"recurrent"})),
    ("stopping under a schedule", situation("early_stopping", "one_cycle"), situation("early_stopping")),
    ("fine-tuning of nothing", situation("unfreezing"), situation("unfreezing", starts_trained=True)),
    ("fine-tuning of nothing", situation("lora"), situation("dropout")),
    ("smoothed teacher", situation("label_smoothing", "distillation"), situation("distillation")),
]


@pytest.mark.parametrize(("id", "given", "beside"), CASES, ids=[f"{case[0]}-{place}" for place, case in enumerate(CASES)])
def test_a_rule_speaks_up_where_it_applies_and_is_silent_beside_it(id: str, given: Situation, beside: Situation) -> None:
    assert id in [item.id for item in advice(given)]
    assert id not in [item.id for item in advice(beside)]


def test_every_rule_is_tried_above_and_has_a_source() -> None:
    assert {item.id for item in ADVICE} == {case[0] for case in CASES}
    assert all(item.source and item.text for item in ADVICE)


def assembly(model: nn.Module, inputs: torch.Tensor, **recipe: Any) -> Assembly:
    data = (inputs, torch.arange(len(inputs)) % 3)
    job = Job(recipe={"optimizer": {"name": "adamw"}, "batch_size": 8, **recipe}, budget="20 steps")
    return Assembly(ingredients(model, data, data, job))


def test_a_situation_is_read_off_the_model_and_the_recipe() -> None:
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(16, 3))
    run = assembly(model, torch.randn(24, 2, 6), micro_batch_size=4, schedule="warmup_cosine")
    found = situation_of(run)
    assert (found.batch_size, found.norm_batch, found.layers) == (8, 4, {"convolution", "batch_norm"})
    assert found.warms_up
    assert found.num_values == 2 * 4 * 3 + 4 + 8 + 16 * 3 + 3
    assert not situation_of(assembly(model, torch.randn(24, 2, 6), schedule="plateau")).warms_up


def test_attention_is_found_under_the_names_that_modules_give_it() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=8, batch_first=True)
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(20, 3))
    assert situation_of(assembly(model, torch.randn(12, 5, 4))).has_layer("attention")


def test_explain_shows_the_advice_that_applies_and_nothing_where_none_does() -> None:
    model = nn.Linear(4, 3)
    told = explanation(assembly(model, torch.randn(24, 4)))
    assert "advice:" in told
    assert "decay_groups leaves them out" in told
    quiet = explanation(assembly(model, torch.randn(24, 4), schedule="warmup_cosine", techniques=["decay_groups"]))
    assert "advice:" not in quiet


def test_explain_tells_the_group_of_each_tensor_and_why_it_is_not_decayed() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3))
    text = explanation(assembly(model, torch.randn(24, 4), techniques=["decay_groups", {"name": "freeze", "patterns": ["0"]}]))
    assert "group 1: 1 tensor, 18 values; lr 0.001, weight_decay 0.01" in text
    assert "2.weight  [3, 6]" in text
    assert "1.weight  [6]  (of a LayerNorm)" in text
    assert "before any schedule" not in text
    assert "not trained: 0.weight, 0.bias" in text
    assert "33 of 63 values train (52.38 %)" in text
