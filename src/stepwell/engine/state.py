"""The state of a step as nested dicts of tensors and plain values, keyed by names rather than positions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from stepwell.core.updates.elementwise import same_groups
from stepwell.engine.records.strict_json import WORDS, worded

if TYPE_CHECKING:
    from stepwell.engine.train_step import TrainStep


def step_state(step: TrainStep) -> dict[str, Any]:
    """Model, optimizer, averages, technique states, loss scale, clock and cursor."""
    parts = step.parts
    state: dict[str, Any] = {
        "model": dict(step.model.state_dict()),
        "optimizer": optimizer_state(step.optimizer),
        "averages": {key: average.state_dict() for key, average in parts.averages.items()},
        "techniques": {key: item.state_dict() for key, item in _stateful(step).items()},
        "clock": step.clock.state_dict(),
        "cursor": step.cursor,
    }
    if step.precision.loss_scale is not None:
        state["loss_scale"] = step.precision.loss_scale.state_dict()
    return state


def load_step_state(step: TrainStep, state: dict[str, Any]) -> None:
    """Put a saved state into a freshly built step."""
    parts = step.parts
    step.clock.load_state_dict(state["clock"])
    step.cursor = int(state["cursor"])
    step.model.load_state_dict(state["model"])
    for technique in parts.moving.values():
        technique.at(step.model, step.clock, step.horizon)
    load_optimizer_state(step.optimizer, state["optimizer"])
    step._trainable_changed()
    for key, average in parts.averages.items():
        average.load_state_dict(state["averages"][key])
    for key, item in _stateful(step).items():
        item.load_state_dict(state["techniques"][key])
    if step.precision.loss_scale is not None:
        step.precision.loss_scale.load_state_dict(state["loss_scale"])


def _stateful(step: TrainStep) -> dict[str, Any]:
    items = {**step.parts.schedules, **step.parts.observers}
    return {key: item for key, item in items.items() if hasattr(item, "state_dict")}


def _names(optimizer: Optimizer) -> list[str]:
    names: list[str] = []
    for number, group in enumerate(optimizer.param_groups):
        names += group.get("names") or [f"group{number}.{index}" for index in range(len(group["params"]))]
    return names


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's state by parameter name; group settings that schedules write follow from the clock, others are kept."""
    raw = optimizer.state_dict()
    names = _names(optimizer)
    groups = [{k: v for k, v in group.items() if k not in ("params", "names")} for group in raw["param_groups"]]
    return {"state": {names[index]: dict(value) for index, value in raw["state"].items()}, "groups": groups}


def load_optimizer_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """The inverse of `optimizer_state`."""
    raw = optimizer.state_dict()
    index_of = {name: index for index, name in enumerate(_names(optimizer))}
    raw["state"] = {index_of[name]: dict(value) for name, value in state["state"].items()}
    for group, saved in zip(raw["param_groups"], state["groups"], strict=True):
        group.update({k: tuple(v) if isinstance(group.get(k), tuple) else v for k, v in saved.items()})
    with same_groups(optimizer):
        optimizer.load_state_dict(raw)


def snapshot(tree: Any) -> Any:
    """A deep copy whose tensors live on the host, cut off from training."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, dict):
        return {key: snapshot(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(snapshot(value) for value in tree)
    return tree


def separate(tree: Any, prefix: str = "") -> tuple[dict[str, Tensor], Any]:
    """Split a state into {path: tensor} and a JSON-able rest in which `{"tensor": path}` marks each place.

    Floats that JSON has no word for are marked too: `{"float": "Infinity"}`.

    >>> import torch
    >>> tensors, rest = separate({"a": {"b": torch.ones(1), "c": 2}})
    >>> list(tensors), rest
    (['a/b'], {'a': {'b': {'tensor': 'a/b'}, 'c': 2}})
    """
    if isinstance(tree, Tensor):
        return {prefix: tree}, {"tensor": prefix}
    if isinstance(tree, float) and not math.isfinite(tree):
        return {}, {"float": worded(tree)}
    if not isinstance(tree, (dict, list, tuple)):
        return {}, tree
    tensors: dict[str, Tensor] = {}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    rest = {}
    for key, value in items:
        more, rest[key] = separate(value, f"{prefix}/{key}" if prefix else str(key))
        tensors |= more
    return tensors, rest if isinstance(tree, dict) else list(rest.values())


def join(tensors: dict[str, Tensor], rest: Any) -> Any:
    """The inverse of `separate`."""
    if isinstance(rest, dict):
        if set(rest) == {"tensor"} and isinstance(rest["tensor"], str):
            return tensors[rest["tensor"]]
        if set(rest) == {"float"} and rest["float"] in WORDS:
            return WORDS[rest["float"]]
        return {key: join(tensors, value) for key, value in rest.items()}
    if isinstance(rest, list):
        return [join(tensors, value) for value in rest]
    return rest
