"""Dropout of a model, whoever calls it: layers, rates that modules hold as numbers, functions in a forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from stepwell.core.modules.dropout_places import dropout_places
from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.calls import Call, calls_of
from stepwell.doctor.remedies.modules import Action, Rewired
from stepwell.doctor.setup import Setup

_CALLS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")


def dropped_shares(model: nn.Module, inputs: Any) -> list[float]:
    """The shares of all dropout functions that a forward pass calls to drop, in order; modes are as the caller set them."""
    with torch.no_grad():
        _, seen = calls_of(model, inputs)
    return [_share(call) for call in seen if call.name in _CALLS and _drops(call)]


def with_less_dropout(setup: Setup, most: float) -> Setup:
    """A copy that drops no share above `most`, 0 to 1."""
    copied = setup.copied()
    for place in dropout_places(copied.model):
        place.set_(min(place.probability, most))
    with seeded_defaults(0):
        rows = setup.train.take(slice(0, max(2, min(setup.batch_size, 64))))
        left = dropped_shares(copied.copied().model.train(), rows.inputs)  # what no module holds as a number
    if not any(share > most for share in left):
        return copied
    return copied.change(model=Rewired(copied.model, {(name, None): at_most(most) for name in _CALLS}))


def at_most(most: float) -> Action:
    """The same call with a share of at most `most`."""

    def lowered(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) > 1:
            return func(args[0], min(float(args[1]), most), *args[2:], **kwargs)
        return func(*args, **{**kwargs, "p": min(float(kwargs.get("p", 0.5)), most)})

    return lowered


def _share(call: Call) -> float:
    return float(call.values[1] if len(call.values) > 1 else call.settings.get("p", 0.5))


def _drops(call: Call) -> bool:
    return bool(call.values[2] if len(call.values) > 2 else call.settings.get("training", True))
