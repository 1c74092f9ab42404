"""Every shipped recipe trains on real data: handwritten digits, tumours, diabetes, and a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepwell import Job, train

DIGITS = {"data": {"source": "digits"}, "task": "classification", "split": {"validation": 0.2, "test": 0.2, "by": "stratified"}}
IMAGES = {"source": "digits", "layout": "image"}

# preset -> a job, the metric of the test part, and what it must reach; a tenth of the digits is right by chance.
CASES: dict[str, tuple[dict[str, Any], str, float]] = {
    "tabular_small": ({**DIGITS, "model": "mlp", "budget": "15 epochs"}, "accuracy", 0.93),
    "tabular_large": ({**DIGITS, "model": "mlp", "budget": "25 epochs"}, "accuracy", 0.9),
    "image_small": ({**DIGITS, "data": IMAGES, "model": "convnet", "budget": "12 epochs"}, "accuracy", 0.9),
    "complete_configuration": (  # a recipe for a hundred epochs, here for sixteen
        {**DIGITS, "data": IMAGES, "model": {"name": "resnet", "channels": [8, 16]}, "budget": "16 epochs"},
        "accuracy",
        0.5,
    ),
    "train_model": ({**DIGITS, "model": "mlp", "budget": "20 epochs"}, "accuracy", 0.92),
    "eight_points": ({**DIGITS, "model": "mlp", "budget": "60 epochs"}, "accuracy", 0.9),
    "fine_tune": ({**DIGITS, "model": "mlp", "budget": "40 epochs"}, "accuracy", 0.9),
}


@pytest.mark.parametrize("name", CASES)
def test_a_preset_learns_from_real_data(name: str, tmp_path: Path) -> None:
    job, metric, floor = CASES[name]
    size = {"batch_size": 32} if name == "complete_configuration" else {}  # its averages want some hundred steps
    run = train(Job(**job, recipe={"preset": name, **size}, seed=0), out=tmp_path / "run")
    assert run.test_metrics[metric] >= floor


def test_the_transformer_preset_learns_from_a_text(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 200)
    job = Job(
        data={"source": "text", "path": str(tmp_path / "text.txt"), "length": 32},
        task="language_modeling",
        model={"name": "transformer", "width": 32, "num_layers": 2, "num_heads": 2},
        recipe={"preset": {"name": "transformer", "without": ["early_stopping"]}, "optimizer": {"lr": 3e-3}, "batch_size": 16},
        budget="60 steps",
    )
    run = train(job, out=tmp_path / "run")
    assert run.metrics["accuracy"] > 0.5  # one character in ten by always saying the space
