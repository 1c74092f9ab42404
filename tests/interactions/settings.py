"""How each technique is set up for the matrix, and what can't be checked of it, each with its reason."""

from __future__ import annotations

from typing import Any

import torch
from technique_examples import NEUTRAL as CONTRACT_NEUTRAL
from technique_examples import SETTINGS as CONTRACT_SETTINGS
from technique_examples import generic_value
from torch import nn
from world import VOCABULARY, World

from stepwell.core.catalog import discover
from stepwell.core.randomness import seeded_defaults

# Techniques that act on token ids: those are tried with images and tokens, all others with images alone.
TOKENS = ("synonym_replacement", "random_insertion", "random_deletion", "back_translation")
# Techniques that need a model without norms in its residual branches.
WITHOUT_NORM = ("fixup",)

# The kind of target that an objective needs; classes where it isn't named.
TASKS = {
    "mse": "regression",
    "mae": "regression",
    "huber": "regression",
    "bce": "multilabel",
    "binary_focal": "multilabel",
    "dice": "segmentation",
    "bce_dice": "segmentation",
    "contrastive": "pairs",
    "triplet": "triplets",
    "multi_task": "multi_task",
}


def reversed_words(texts: list[str]) -> list[str]:
    """Something like a translation there and back again."""
    return [" ".join(reversed(text.split())) for text in texts]


WORDS = {"vocabulary": VOCABULARY, "padding": 0}

_USUAL: dict[str, dict[str, Any]] = {
    "adagrad": {"lr": 0.05, "weight_decay": 0.05},
    "adam": {"lr": 1e-2, "weight_decay": 0.05},
    "adamw": {"lr": 1e-2, "weight_decay": 0.1},
    "lamb": {"lr": 1e-2, "weight_decay": 0.1},
    "lars": {"lr": 5.0, "weight_decay": 0.01},
    "lion": {"lr": 1e-3, "weight_decay": 0.1},
    "muon": {"lr": 1e-2},
    "rmsprop": {"lr": 1e-2, "momentum": 0.5, "weight_decay": 0.05},
    "schedule_free_adamw": {"lr": 1e-2, "weight_decay": 0.1},
    "sgd": {"lr": 0.1, "weight_decay": 0.01},
    "lr_groups": {"patterns": {"blocks": 0.1}},
    "lr_scaling": {"base_batch_size": 4, "batch_size": 12},
    "constant": {"warmup": "4 steps"},
    "converged": {"window": "1 steps", "epsilon": 100.0, "patience": 5},
    "cosine": {"floor": 0.01},
    "early_stopping": {"patience": 2, "min_delta": 100.0},
    "exponential": {"every": "1 steps", "gamma": 0.8},
    "fine_tuning_phase": {"start": "1 steps", "lr_factor": 0.1},
    "inverse_sqrt": {"warmup": "2 steps"},
    "noam": {"d_model": 8, "warmup": "3 steps", "scale": 0.1},
    "plateau": {"patience": 0, "factor": 0.1, "min_delta": 10.0, "threshold": "absolute"},
    "step": {"every": "1 steps", "gamma": 0.5},
    "multistep": {"milestones": ["1 steps", "4 steps"], "gamma": 0.5},
    "target_reached": {"monitor": "loss", "value": 100.0, "mode": "min"},
    "validation_rising": {"patience": 1, "monitor": "loss"},
    "warm_restarts": {"first_cycle": "3 steps"},
    "warmup": {"length": "4 steps"},
    "warmup_linear": {"warmup": "2 steps"},
    "warmup_stable_decay": {"warmup": "2 steps", "decay": "3 steps"},
    "adaptive_clip": {"clipping": 1e-4},
    "clip_norm": {"max_norm": 0.05},
    "clip_value": {"max_value": 1e-3},
    "elastic_net": {"l1": 0.01, "l2": 0.1},
    "l1_penalty": {"weight": 0.01},
    "l2_penalty": {"weight": 0.1},
    "ema": {"half_life": "2 steps"},
    "swa": {"start": "2 steps", "every": "1 steps"},
    "layer_statistics": {"every": "2 steps"},
    "dropout": {"insert": "after_activations", "probability": 0.3},
    "embedding_init": {},
    "freeze": {"patterns": ["stem"]},
    "hidden_mixup": {"at": "norm", "num_classes": 3, "alpha": 0.5},
    "lora": {"rank": 2, "targets": ["hidden.0", "blocks.*.branch.0"], "train_also": ["head"], "dropout": 0.0},
    "new_head": {"module": "head", "num_outputs": None},
    "stochastic_depth": {"probability": 0.5},
    "swap_norm": {"old": "layer", "to": "rms"},
    "unfreezing": {"stages": [{"modules": ["head"], "at": "0 steps"}, {"modules": ["blocks"], "at": "4 steps"}]},
    "class_weights": {"weights": [1.0, 2.0, 0.5]},
    "erasing": {"probability": 0.7},
    "multi_task": {"tasks": {"kind": "cross_entropy", "size": {"objective": "mse", "weight": 0.5}}},
    "random_crop": {"padding": 2},
    "synonym_replacement": {"probability": 0.5, "vocabulary": VOCABULARY},
    "random_insertion": {"probability": 0.5, **WORDS},
    "random_deletion": {"probability": 0.5, "padding": 0},
    "back_translation": {"probability": 0.5, "translate": reversed_words, **WORDS},
}

_NEUTRAL: dict[str, dict[str, Any]] = {
    "lr_scaling": {"batch_size": 4},
    "converged": {"patience": 1000},
    "constant": {"warmup": "0 steps"},
    "cosine": {"floor": 1.0},
    "plateau": {"patience": 1000},
    "stochastic_depth": {"probability": 0.0},
    "target_reached": {"monitor": "loss", "value": -1.0, "mode": "min"},
    "unfreezing": {"stages": [{"modules": ["blocks"], "at": "0 steps"}]},
    "validation_rising": {"patience": 1000},
    "warm_restarts": {"floor": 1.0},
}
NEUTRAL = CONTRACT_NEUTRAL | _NEUTRAL

# What must be there in some form: this is what it is compared with.
OTHERWISE: dict[str, str | dict[str, Any]] = {
    "adamw": "sgd",
    "cross_entropy": {"ignore_index": 0, "ignored": "everywhere"},
    "mse": "mae",
    "bce": "binary_focal",
    "bce_dice": "dice",
    "contrastive": {"margin": 3.0},
    "triplet": {"margin": 2.0},
    "multi_task": {"tasks": {"kind": "cross_entropy", "size": {"objective": "mae", "weight": 0.5}}},
}

# Other settings with which a technique must act where it doesn't with its usual ones: a metric that doesn't rise falls.
INSTEAD: dict[str, dict[str, Any]] = {"validation_rising": {"mode": "max"}}

_DRAWS = "draws in the forward pass, for each micro-batch anew"
_STATISTICS = "statistics of the batch are those of the micro-batch"
_INITIAL = ("kaiming_init", "xavier_init", "lecun_init", "orthogonal_init", "truncated_normal_init", "activation_init")
_STOPS = ("converged", "early_stopping", "target_reached", "validation_rising")


def _beside_other_stops(id: str) -> dict[str, str]:
    return {f"acts beside {other}": "a run is stopped once, by whichever comes first" for other in _STOPS if other != id}


# id -> {check: why it can't be made}.
EXCEPTED: dict[str, dict[str, str]] = {
    **{id: _beside_other_stops(id) for id in _STOPS},
    "new_head": {
        **{f"acts beside {id}": "of a head of the same shape both draw every weight, so nothing shows" for id in _INITIAL},
        "acts beside fixup": "fixup sets the head to zero, whichever it is",
    },
    "residual_scaling": {"acts beside fixup": "fixup sets the last layers of branches to zero, and a scaled zero is zero"},
    "freeze": {"acts beside lora": "lora holds all weights but its own already"},
    "plateau": {
        "acts beside target_reached": "the run ends before there are two evaluations to compare",
        "acts beside validation_rising": "what makes one lower the rate makes the other end the run",
    },
    "dropout": {"accumulates": _DRAWS},
    "stochastic_depth": {"accumulates": _DRAWS},
    "frozen_norm_statistics": {
        "accumulates": "is about batch norm, whose " + _STATISTICS,
        "acts beside lora": "lora holds the statistics of what it freezes already",
    },
    "sync_batch_norm": {
        "accumulates": _STATISTICS,
        "acts": "acts with several ranks; in one process it is batch norm",
    },
}


def world_of(*ids: str) -> World:
    """Where techniques are tried together."""
    tasks = [TASKS[id] for id in ids if id in TASKS]
    return World(
        task=tasks[0] if tasks else "classification",
        inputs="both" if any(id in TOKENS for id in ids) else "image",
        norm="none" if any(id in WITHOUT_NORM for id in ids) else "batch",
        dropout=0.0 if "dropout" in ids else 0.1,  # with a rate of 0 there must be none
    )


def made(id: str, variant: str, world: World) -> Any:
    """A technique object: with its usual settings, with those that do nothing, or in another form."""
    record = discover()[id]
    usual = {**CONTRACT_SETTINGS.get(id, {}), **_USUAL.get(id, {})}
    if id == "distillation":
        usual["teacher"] = _teacher(world)
    if id == "new_head":
        usual["num_outputs"] = world.num_outputs
    if id == "hidden_mixup":
        usual["at"] = "stem" if world.inputs == "image" else "norm"
    if world.task == "segmentation" and "num_classes" in usual:
        usual["num_classes"] = None
    open_ones = [name for name, field in record.fields.items() if field.required and name not in usual]
    settings = {**{name: generic_value(f"{id}.{name}", record.fields[name].type) for name in open_ones}, **usual}
    if variant in ("neutral", "instead"):
        settings |= NEUTRAL[id] if variant == "neutral" else INSTEAD[id]
    if variant == "otherwise":
        other = OTHERWISE[id]
        return discover()[other].factory() if isinstance(other, str) else record.factory(**{**settings, **other})
    return record.factory(**settings)


def _teacher(world: World) -> nn.Module:
    """A model with other weights than the student's."""
    model = world.model()
    with seeded_defaults(5), torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model
