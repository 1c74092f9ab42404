"""Outputs and batches for every objective in the catalog, chosen by the tags it provides, so that a new one is tested too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from technique_examples import example
from torch import Tensor, nn

from stepwell.core.batch import Batch, Tree, tree_map
from stepwell.core.catalog import Record, discover, lookup
from stepwell.core.slots import Objective

NUM_CLASSES = 3
IGNORED = -100


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(*shape: int, num: int = NUM_CLASSES, seed: int = 0) -> Tensor:
    return torch.randint(num, shape, generator=torch.Generator().manual_seed(seed))


def teacher() -> nn.Linear:
    made = nn.Linear(4, NUM_CLASSES).double()
    with torch.no_grad():
        made.weight.copy_(draws(NUM_CLASSES, 4, seed=9))
        made.bias.zero_()
    return made


# id -> settings tried beside the usual ones.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "bce": [{"positive_weight": 3.0}],
    "binary_focal": [{"gamma": 0.5}, {"gamma": 2.0, "alpha": None}, {"gamma": 0.0, "alpha": None}],
    "cross_entropy": [{"ignored": "everywhere"}],
    "dice": [{"over": "batch"}, {"smooth": 1e-3}],
    "focal": [{"gamma": 0.0}, {"gamma": 0.5, "alpha": [0.5, 1.0, 0.0]}, {"gamma": 0.0, "alpha": 0.25}],
    "huber": [{"delta": 0.3}],
}
ALWAYS: dict[str, dict[str, Any]] = {"distillation": {"teacher": teacher()}}
# The objectives that a modifier is put around.
BASES = ("cross_entropy", "focal")


@dataclass(frozen=True)
class Case:
    """An objective with outputs (a tree of float64 tensors) and a batch that it takes."""

    name: str
    objective: Objective
    outputs: Tree
    batch: Batch


def loss(objective: Objective, outputs: Tree, batch: Batch) -> Tensor:
    """What a step would minimise: sum over terms of weight * sum / count."""
    counts = objective.counts(batch)
    parts = [term.weight * term.sum / counts[term.unit] for term in objective.terms(outputs, batch).values()]
    return torch.stack(parts).sum()


def rebuilt(outputs: Tree, leaves: Sequence[Tensor]) -> Tree:
    """The tree with other tensors in it."""
    following = iter(leaves)
    return tree_map(lambda _: next(following), outputs)


def objectives(record: Record) -> Iterator[tuple[str, Objective]]:
    for number, settings in enumerate([{}, *VARIANTS.get(record.id, [])]):
        made = example(record, **(ALWAYS.get(record.id, {}) | settings))
        if record.role == "base":
            yield f"{record.id}-{number}", made
            continue
        for base in BASES:
            yield f"{record.id}-{number}-{base}", made(lookup(base).factory())


def material(record: Record) -> list[tuple[str, Tree, Batch]]:
    """(kind, outputs, batch) of every kind that objectives with these tags take."""
    inputs, weights, tags = draws(5, 4, seed=3), draws(5, seed=4).abs(), record.provides
    if record.role == "modifier" or "class_scores" in tags:
        tokens = labels(5, 6, seed=1)
        tokens[0, 3:] = IGNORED
        return [
            ("labels", draws(5, 3), Batch(inputs, labels(5), weights)),
            ("mass", draws(5, 3), Batch(inputs, draws(5, 3, seed=5).softmax(-1) * 0.7)),
            ("tokens", draws(5, 6, 3), Batch(draws(5, 6, 4, seed=6), tokens, weights)),
        ]
    if "mask_targets" in tags:
        numbers = labels(5, 2, 4, seed=2)
        numbers[1, 0, :3] = IGNORED
        single = labels(5, 2, 4, num=2, seed=2)
        return [
            ("binary", draws(5, 1, 2, 4), Batch(inputs, single, weights)),
            ("soft", draws(5, 2, 4), Batch(inputs, draws(5, 2, 4, seed=7).sigmoid(), weights)),
            ("numbers", draws(5, 3, 2, 4), Batch(inputs, numbers, weights)),
            ("mass", draws(5, 3, 2, 4), Batch(inputs, draws(5, 2, 4, 3, seed=8).softmax(-1))),
        ]
    if "pair_inputs" in tags:
        pair = (draws(5, 2), draws(5, 2) + 0.4 * draws(5, 2, seed=1))
        return [("pairs", pair, Batch((inputs, inputs), torch.tensor([1, 0, 0, 0, 1]), weights))]
    if "triplet_inputs" in tags:
        three = tuple(draws(5, 2, seed=seed) for seed in range(3))
        return [("triplets", three, Batch((inputs, inputs, inputs), None, weights))]
    if "task_targets" in tags:
        goal = {"kind": labels(5), "size": draws(5, seed=2)}
        return [("tasks", {"kind": draws(5, 3), "size": draws(5, seed=1)}, Batch(inputs, goal, weights))]
    return [
        ("values", draws(5), Batch(inputs, draws(5, seed=1).sigmoid())),
        ("rows", draws(5, 3), Batch(inputs, draws(5, 3, seed=1).sigmoid(), weights)),
    ]


def every_case() -> list[Case]:
    """Every objective of the catalog, with its variants, on every kind of material."""
    found = []
    for record in discover().values():
        if record.slot != "objective" or not record.factory.__module__.startswith("stepwell."):
            continue
        for name, objective in objectives(record):
            found += [Case(f"{name}-{kind}", objective, outputs, batch) for kind, outputs, batch in material(record)]
    return found
