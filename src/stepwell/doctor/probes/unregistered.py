"""Modules and tensors that take part in the outputs, but aren't parts of the model.

Rule: a layer's weights are another tensor in each forward pass. Or: found in lists, dicts, attributes or closures of the
model's modules, not among its parameters and buffers, not held by the optimizer, and outputs change once they are nudged.
Modules with weights that ask for gradients are certain; a bare tensor may be a constant on purpose, so training it must help.
Source: GitHub pytorch/pytorch#715, #1053, #632 (layers in plain lists).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.bench import Bench
from stepwell.doctor.calls import WEIGHTED, calls_of
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.hidden import Hidden, hidden_parts, matters
from stepwell.doctor.probes.held import held_tensors
from stepwell.doctor.remedies.modules import registered
from stepwell.doctor.rows import tree


def probe(bench: Bench) -> Iterator[Suspicion]:
    copied = bench.setup.copied()
    model = copied.model.eval()
    held = {id(part) for part in held_tensors(copied) or ()}
    inputs = tree(bench.some.inputs, lambda part: part[:16])
    made = _made_in_forward(model, inputs)
    if made:
        yield _made_anew(made)
        return
    sure: list[Hidden] = []
    possible: list[Hidden] = []
    with seeded_defaults(0):
        for part in hidden_parts(model):
            weights = [one for one in part.tensors if id(one) not in held]
            if not weights or not matters(model, inputs, weights):
                continue
            trains = any(one.requires_grad for one in weights)
            (sure if trains else possible).append(part)
    if sure:
        yield _found(bench, sure, certain=True)
    elif possible:
        yield _found(bench, possible, certain=False)


def _made_in_forward(model: nn.Module, inputs: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Calls with weights that are no two times the same tensor: their layers are made during the forward pass."""
    with seeded_defaults(0), torch.no_grad():
        passes = [calls_of(model, inputs)[1] for _ in range(2)]
    first, second = (
        [(call, part) for call in calls for part in call.inputs if isinstance(part, nn.Parameter)] for calls in passes
    )
    known = {id(part) for part in model.parameters()}
    if len(first) != len(second):
        return []
    return [
        (call.name, tuple(part.shape))
        for (call, part), (_, other) in zip(first, second, strict=True)
        if part is not other and id(part) not in known and part.dim() > 1 and call.name in WEIGHTED
    ]


def _made_anew(made: list[tuple[str, tuple[int, ...]]]) -> Suspicion:
    shapes = ", ".join(f"{name} with weights {shape}" for name, shape in made[:3])
    return Suspicion(
        "unregistered_params",
        f"{shapes}: made anew in each forward pass",
        "such a layer has other random weights each time, and no optimizer ever holds them",
        {"calls": [name for name, _ in made], "shapes": [list(shape) for _, shape in made]},
        Remedy("Make the layer once, in __init__, and keep it in an attribute of the module"),
        proof="certain",
        weight=0.95,
        explains=(
            "params_not_in_optimizer",
            "underfitting",
            "batch_dependence",
            "detached_graph",
            "too_few_epochs",
            "lr_too_low",
        ),
    )


def _found(bench: Bench, parts: list[Hidden], *, certain: bool) -> Suspicion:
    num_hidden = sum(one.numel() for part in parts for one in part.tensors)
    num_known = sum(one.numel() for one in bench.setup.model.parameters())
    names = ", ".join(part.where for part in parts[:4])
    users = {id(part.value) for part in hidden_parts(bench.setup.model)}
    copied = not any(id(part.value) in users for part in parts)  # what a closure holds isn't copied with the model
    return Suspicion(
        "unregistered_params",
        f"{names}: used by the model, but not among its parameters ({num_hidden} numbers, beside {num_known} known)",
        "model.parameters() doesn't find them, so the optimizer never trains them",
        {"hidden": [part.where for part in parts], "num_hidden": num_hidden, "num_known": num_known},
        Remedy(
            "Keep layers in nn.ModuleList or nn.ModuleDict, and tensors that train in nn.Parameter",
            registered([(part.owner, part.path) for part in parts]) if copied else None,
        ),
        proof="certain" if certain else "mechanism",
        weight=0.9 if certain else 0.6,
        explains=("params_not_in_optimizer", "capacity_too_small", "underfitting", "frozen_params", "detached_graph"),
    )
