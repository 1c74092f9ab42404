"""Three ways to regularise, each added to a copy on its own: batch norm, dropout, weight decay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.core.modules.dropout_places import bare_activations, dropout_places, insert_dropout_
from stepwell.core.modules.norms import is_norm, norm
from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.findings import Number
from stepwell.doctor.setup import Setup

SHARE = 0.2  # of dropout: seed 002 section 7.10 has 0.1 to 0.5
DECAYS = {"adam": 0.1, "sgd": 1e-3}  # decoupled, which is multiplied by the rate; and as a penalty
FEWEST_ROWS = 8  # of a batch: statistics of fewer are mostly noise
_LAYERS = {nn.Linear: 0, nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}


class NotApplicable(Exception):
    """A way to regularise that a setup has no place for; the reason."""


@dataclass(frozen=True)
class Step:
    """One way to regularise.

    Args:
        name: as evidence calls it.
        text: what to do.
        change: gives a copy with it; raises `NotApplicable`.
        job: the same as changes of a job file.
    """

    name: str
    text: str
    change: Callable[[Setup], Setup]
    job: Callable[[Setup], Mapping[str, Number]]


def with_batch_norm(setup: Setup) -> Setup:
    """Batch norm behind each hidden linear and convolutional layer.

    Raises:
        NotApplicable: there is a norm, batches are too small, the optimizer holds a part only, or no layer's outputs fit.
    """
    if any(is_norm(part) for part in setup.model.modules()):
        raise NotApplicable("the model has a norm")
    if min(setup.batch_size, len(setup.train)) < FEWEST_ROWS or len(setup.train) % setup.batch_size == 1:
        raise NotApplicable("batches are too small")
    if setup.optimizer.get("params") is not None:
        raise NotApplicable("the optimizer holds tensors of its own")
    copied = setup.copied()
    layers = _hidden(copied)
    if not layers:
        raise NotApplicable("no hidden layer gives (rows, channels, ...) once a pass")
    for name, layer in layers:
        kind: Any = type(layer)
        width = int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]
        parent, _, own = name.rpartition(".")
        copied.model.get_submodule(parent).register_module(own, nn.Sequential(layer, norm("batch", width, _LAYERS[kind])))
    return copied


def _hidden(setup: Setup) -> list[tuple[str, nn.Module]]:
    """Layers that are called once with one row of channels each, but the last one called."""
    calls: list[tuple[str, nn.Module, Tensor]] = []
    hooks = [
        part.register_forward_hook(lambda module, args, output, name=name: calls.append((name, module, output)))
        for name, part in setup.model.named_modules()
        if type(part) in _LAYERS and name
    ]
    modes = [(part, part.training) for part in setup.model.modules()]
    try:
        with torch.no_grad(), seeded_defaults(0):
            setup.model.eval()(setup.train.take(slice(0, 2)).inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for part, training in modes:
            part.training = training
    names = [name for name, _, _ in calls]
    return [
        (name, part)
        for name, part, output in calls[:-1]
        if names.count(name) == 1 and part is not calls[-1][1] and output.dim() == _LAYERS[type(part)] + 2
    ]


def with_dropout(setup: Setup) -> Setup:
    """Dropout of `SHARE` behind each activation, or in the places that a model has for it and doesn't use.

    Raises:
        NotApplicable: it drops already, or has no activation that is a module.
    """
    copied = setup.copied()
    places = dropout_places(copied.model)
    if any(place.probability > 0 for place in places):
        raise NotApplicable("the model has dropout")
    if not places:
        for activation in bare_activations(copied.model):
            insert_dropout_(activation)
        places = dropout_places(copied.model)
    if not places:
        raise NotApplicable("no activation is a module")
    for place in places:
        place.set_(SHARE)
    return copied


def with_decay(setup: Setup) -> Setup:
    """Weight decay: decoupled for Adam, a penalty for SGD.

    Raises:
        NotApplicable: there is some, or the optimizer is another.
    """
    if setup.optimizer.get("weight_decay", 0.01 if setup.optimizer["name"] == "adamw" else 0.0):
        raise NotApplicable("there is weight decay")
    settings = _decay(setup)
    if not settings:
        raise NotApplicable(f"{setup.optimizer['name']} isn't known to take it well")
    return setup.with_optimizer(**settings)


def _decay(setup: Setup) -> dict[str, Any]:
    name = setup.optimizer["name"]
    if name in ("adam", "adamw"):
        return {"name": "adamw", "weight_decay": DECAYS["adam"]}
    return {"weight_decay": DECAYS["sgd"]} if name == "sgd" else {}


STEPS = (
    Step("batch_norm", "Add batch norm behind the hidden layers", with_batch_norm, lambda setup: {}),
    Step(
        "dropout",
        f"Add dropout of {SHARE:g} behind the activations",
        with_dropout,
        lambda setup: {"recipe.techniques+": [{"name": "dropout", "probability": SHARE}]},
    ),
    Step(
        "weight_decay",
        "Add weight decay",
        with_decay,
        lambda setup: {f"recipe.optimizer.{key}": value for key, value in _decay(setup).items()},
    ),
)
