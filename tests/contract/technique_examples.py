"""What the contract tests need to know about single techniques, and nothing else: settings without a default, odd inputs.

A technique whose settings all have defaults needs no line here. Settings without one get a value by their type, or
from `SETTINGS`.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.catalog import Record
from stepwell.core.randomness import seeded_defaults
from stepwell.models.parts import Residual

NUM_CLASSES = 3


def small_model() -> nn.Sequential:
    """Blocks, batch norm and a head: (N, 4) -> (N, 3), always with the same weights."""
    with seeded_defaults(0):
        blocks = [nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.ReLU()) for width in (4, 8)]
        return nn.Sequential(*blocks, nn.Linear(8, NUM_CLASSES)).double()


class TwoHeads(nn.Module):
    """The small model as one of two tasks: {"kind": (N, 3), "size": (N,)}."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = small_model()

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        scores = self.trunk(inputs)
        return {"kind": scores, "size": scores[:, 0]}


def objective_model(record: Record) -> nn.Module:
    """A model for the batch of `samples`."""
    return TwoHeads() if "task_targets" in record.provides else small_model()


def residual_model(norm: str = "batch") -> nn.Module:
    """The small model's shapes, with two declared residual blocks whose branches end with a batch norm (or have none)."""

    def branch() -> nn.Sequential:
        norms = [nn.BatchNorm1d(8) for _ in range(2)] if norm == "batch" else [nn.Identity(), nn.Identity()]
        return nn.Sequential(nn.Linear(8, 8), norms[0], nn.ReLU(), nn.Linear(8, 8), norms[1])

    with seeded_defaults(0):
        return nn.Sequential(nn.Linear(4, 8), Residual(branch()), Residual(branch()), nn.Linear(8, NUM_CLASSES)).double()


class Reading(nn.Module):
    """The small model's shapes, by embedding the signs of the inputs and reading them with an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.body, self.head = nn.Embedding(2, 5), nn.LSTM(5, 6, batch_first=True), nn.Linear(6, NUM_CLASSES)
        self.double()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(self.embedding((inputs > 0).long()))[0][:, -1])


def reading_model() -> nn.Module:
    with seeded_defaults(0):
        return Reading()


# id -> a model with what a model technique looks for, where the small model doesn't have it.
MODELS: dict[str, Callable[[], nn.Module]] = {
    "zero_gamma": residual_model,
    "residual_scaling": residual_model,
    "stochastic_depth": residual_model,
    "fixup": partial(residual_model, norm="none"),
    "recurrent_init": reading_model,
    "embedding_init": reading_model,
}


def model_for(record: Record) -> nn.Module:
    """A model (N, 4) -> (N, 3) that a model technique can act on, always with the same weights."""
    return MODELS.get(record.id, small_model)()


# The words of the token ids in `texts`; the first is the padding.
VOCABULARY = ["_", "big", "large", "huge", "dog", "fast", "quick", "the"]


def reversed_words(texts: list[str]) -> list[str]:
    """Something like a translation there and back again."""
    return [" ".join(reversed(text.split())) for text in texts]


# id -> settings for a typical use, where the defaults alone don't make one.
SETTINGS: dict[str, dict[str, Any]] = {
    "noam": {"d_model": 16},
    "lora": {"rank": 2},
    "lr_groups": {"patterns": {"0": 0.1}},
    "lr_scaling": {"batch_size": 512},
    "multi_task": {"tasks": {"kind": "cross_entropy", "size": {"objective": "mse", "weight": 0.5}}},
    "mixup": {"num_classes": NUM_CLASSES},
    "cutmix": {"num_classes": NUM_CLASSES},
    "hidden_mixup": {"num_classes": NUM_CLASSES, "at": "0"},
    "erasing": {"probability": 0.5},
    "synonym_replacement": {"probability": 0.5, "vocabulary": VOCABULARY},
    "random_insertion": {"probability": 0.5, "vocabulary": VOCABULARY, "padding": 0},
    "random_deletion": {"probability": 0.5, "padding": 0},
    "back_translation": {"probability": 0.5, "vocabulary": VOCABULARY, "padding": 0, "translate": reversed_words},
    "class_weights": {"weights": [1.0, 2.0, 0.5]},
    "distillation": {"teacher": small_model()},
    "freeze": {"patterns": ["0"]},
    "dropout": {"insert": "after_activations"},
    "new_head": {"num_outputs": NUM_CLASSES},
    "target_reached": {"monitor": "accuracy", "value": 0.9, "mode": "max"},
}

# id -> settings with which a technique changes nothing, bit for bit; those without such a value have no line.
NEUTRAL: dict[str, dict[str, Any]] = {
    "step": {"gamma": 1.0},
    "multistep": {"gamma": 1.0},
    "exponential": {"gamma": 1.0},
    "cosine": {"floor": 1.0},
    "warm_restarts": {"floor": 1.0},
    "warmup": {"start": 1.0},
    "warmup_linear": {"warmup": "0 steps", "floor": 1.0},
    "warmup_stable_decay": {"warmup": "0 steps", "floor": 1.0},
    "fine_tuning_phase": {"lr_factor": 1.0},
    "lr_scaling": {"batch_size": 256},
    "layerwise_lr": {"decay": 1.0},
    "lr_groups": {"patterns": {"*": 1.0}},
    "clip_norm": {"max_norm": float("inf")},
    "clip_value": {"max_value": float("inf")},
    "adaptive_clip": {"clipping": float("inf")},
    "elastic_net": {"l1": 0.0, "l2": 0.0},
    "l1_penalty": {"weight": 0.0},
    "l2_penalty": {"weight": 0.0},
    "label_smoothing": {"epsilon": 0.0},
    "mixup": {"probability": 0.0},
    "cutmix": {"probability": 0.0},
    "hidden_mixup": {"probability": 0.0},
    "random_crop": {"padding": 0},
    "resized_crop": {"probability": 0.0},
    "flip": {"probability": 0.0},
    "rotation": {"degrees": 0.0},
    "affine": {"translate": (0.0, 0.0)},
    "color_jitter": {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0},
    "erasing": {"probability": 0.0},
    "synonym_replacement": {"probability": 0.0},
    "random_insertion": {"probability": 0.0},
    "random_deletion": {"probability": 0.0},
    "back_translation": {"probability": 0.0},
    "distillation": {"weight": 0.0},
    "dropout": {"insert": "after_activations", "probability": 0.0},
    "stochastic_depth": {"probability": 0.0},
}

# "id.field" of numbers that may take any value.
ANY_NUMBER = {
    "cross_entropy.ignore_index",
    "focal.ignore_index",
    "dice.ignore_index",
    "bce_dice.ignore_index",
    "target_reached.value",
    "random_crop.mask_fill",
    "rotation.mask_fill",
    "affine.mask_fill",
}


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


def texts(size: int = 16) -> Batch:
    """A batch for techniques on token ids: (N, 9) of `VOCABULARY`, padded at the end, class numbers, a weight per sample."""
    draw = torch.Generator().manual_seed(3)
    tokens = torch.randint(1, len(VOCABULARY), (size, 9), generator=draw)
    tokens[torch.arange(9) >= torch.randint(2, 10, (size, 1), generator=draw)] = 0
    return Batch(tokens, torch.randint(NUM_CLASSES, (size,), generator=draw), torch.rand(size, generator=draw))


def batch_for(record: Record) -> Batch:
    """A batch for a batch technique: texts where it acts on token ids, else images."""
    return texts() if "token_inputs" in record.provides else images()


def samples(record: Record, size: int = 11) -> Batch:
    """A batch for objectives: (N, 4) inputs; class numbers where the objective scores classes, else floats in (0, 1)."""
    draw = torch.Generator().manual_seed(2)
    inputs = torch.randn(size, 4, generator=draw, dtype=torch.float64)
    weights = torch.rand(size, generator=draw, dtype=torch.float64)
    if record.role == "modifier" or "class_scores" in record.provides:
        return Batch(inputs, torch.randint(NUM_CLASSES, (size,), generator=draw), weights)
    if "pair_inputs" in record.provides:
        return Batch({"left": inputs, "right": inputs.flip(0)}, torch.arange(size) % 2, weights)
    if "triplet_inputs" in record.provides:
        return Batch((inputs, inputs.flip(0), inputs.roll(3, 0)), None, weights)
    if "task_targets" in record.provides:
        return Batch(inputs, {"kind": torch.arange(size) % NUM_CLASSES, "size": torch.rand(size, generator=draw)}, weights)
    return Batch(inputs, torch.rand(size, NUM_CLASSES, generator=draw, dtype=torch.float64), weights)
