"""What the contract tests need to know about single techniques, and nothing else: settings without a default, odd inputs.

A technique whose settings all have defaults needs no line here. Settings without one get a value by their type, or
from `SETTINGS`.
"""

from __future__ import annotations

import typing
from typing import Any, Literal

import torch
from torch import nn

from stepwell.core.batch import Batch
from stepwell.core.catalog import Record
from stepwell.core.randomness import seeded_defaults

NUM_CLASSES = 3


def small_model() -> nn.Sequential:
    """Blocks, batch norm and a head: (N, 4) -> (N, 3), always with the same weights."""
    with seeded_defaults(0):
        blocks = [nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.ReLU()) for width in (4, 8)]
        return nn.Sequential(*blocks, nn.Linear(8, NUM_CLASSES)).double()


# id -> settings for a typical use, where the defaults alone don't make one.
SETTINGS: dict[str, dict[str, Any]] = {
    "mixup": {"num_classes": NUM_CLASSES},
    "class_weights": {"weights": [1.0, 2.0, 0.5]},
    "distillation": {"teacher": small_model()},
    "freeze": {"patterns": ["0"]},
    "target_reached": {"monitor": "accuracy", "value": 0.9, "mode": "max"},
}

# id -> settings with which a technique changes nothing, bit for bit; those without such a value have no line.
NEUTRAL: dict[str, dict[str, Any]] = {
    "clip_norm": {"max_norm": float("inf")},
    "l1_penalty": {"weight": 0.0},
    "l2_penalty": {"weight": 0.0},
    "label_smoothing": {"epsilon": 0.0},
    "distillation": {"weight": 0.0},
}

# "id.field" of numbers that may take any value.
ANY_NUMBER = {"cross_entropy.ignore_index", "target_reached.value"}


def generic_value(name: str, kind: Any) -> Any:
    """A value of a type that is good for most settings."""
    if typing.get_origin(kind) is Literal:
        return typing.get_args(kind)[0]
    values = {float: 0.5, int: 2, str: "10%", bool: True}
    assert kind in values, f"add a line for {name} to SETTINGS in {__file__}"
    return values[kind]


def example(record: Record, **changed: Any) -> Any:
    """A technique object with typical settings."""
    required = {
        name: generic_value(f"{record.id}.{name}", f.type)
        for name, f in record.fields.items()
        if f.required and name not in SETTINGS.get(record.id, {})
    }
    return record.factory(**{**required, **SETTINGS.get(record.id, {}), **changed})


def images(size: int = 16) -> Batch:
    """A batch for batch techniques: (N, 3, 8, 8) in float32, class numbers, a weight per sample."""
    draw = torch.Generator().manual_seed(1)
    inputs = torch.rand(size, 3, 8, 8, generator=draw)
    return Batch(inputs, torch.randint(NUM_CLASSES, (size,), generator=draw), torch.rand(size, generator=draw))


def samples(record: Record, size: int = 11) -> Batch:
    """A batch for objectives: (N, 4) inputs; class numbers where the objective scores classes, else floats in (0, 1)."""
    draw = torch.Generator().manual_seed(2)
    inputs = torch.randn(size, 4, generator=draw, dtype=torch.float64)
    weights = torch.rand(size, generator=draw, dtype=torch.float64)
    if record.role == "modifier" or "class_scores" in record.provides:
        return Batch(inputs, torch.randint(NUM_CLASSES, (size,), generator=draw), weights)
    return Batch(inputs, torch.rand(size, NUM_CLASSES, generator=draw, dtype=torch.float64), weights)
