"""What holds for two techniques in one recipe, each checked by training a small model for a few steps."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from settings import EXCEPTED, INSTEAD, NEUTRAL, OTHERWISE, made, world_of
from torch import Tensor
from world import World

from stepwell.core.catalog import Record, discover
from stepwell.core.errors import JobError
from stepwell.engine.state import join, separate, snapshot
from stepwell.recipe.compatibility import check_recipe
from stepwell.recipe.fit import ingredients
from stepwell.recipe.job import Job, Recipe
from stepwell.recipe.run import Assembly

BUDGET, MIDDLES = "8 steps", (1, 5)  # a run that stops early has its middle early
EXCLUSIVE = {("objective", "base"), ("optimizer", "base"), ("schedule", ""), ("average", "")}


def catalog() -> dict[str, Record]:
    """Every technique of stepwell's own."""
    return {name: record for name, record in discover().items() if record.factory.__module__.startswith("stepwell.")}


def exclusive(one: Record, other: Record) -> bool:
    """Whether the two fill one place that holds one technique."""
    if any(tag in one.provides and tag in other.provides for tag in ("average", "initial_weights")):
        return True
    if (one.slot, other.slot) in (("average", "optimizer"), ("optimizer", "average")):
        return "average" in (*one.provides, *other.provides)
    return (one.slot, one.role) == (other.slot, other.role) and (one.slot, one.role) in EXCLUSIVE


@dataclass(frozen=True)
class Part:
    """A technique of a recipe: its id, and whether it has its usual settings, those that do nothing, or others."""

    id: str
    variant: str = "usual"


def recipe_of(parts: Iterable[Part], world: World, **settings: Any) -> Recipe:
    """A recipe of these techniques, with what they leave open filled in so that every one of them can act."""
    records, techniques = catalog(), []
    places: dict[str, Any] = {"objective": None, "optimizer": None, "schedule": None}
    for part in parts:
        record, technique = records[part.id], made(part.id, part.variant, world)
        if (record.slot, record.role) in (("objective", "base"), ("optimizer", "base"), ("schedule", "")):
            places[record.slot] = technique
        else:
            techniques.append(technique)
    if places["optimizer"] is None:
        places["optimizer"] = {"name": "adamw", "lr": 1e-2, "weight_decay": 0.1}
    return Recipe(**places, techniques=techniques, batch_size=12, **settings)


@dataclass
class Trace:
    """What is left of a run, to be compared.

    Args:
        delivered: digest of the weights that the run gives back.
        state: digest of everything that changes while training.
        train, validation, layers: metrics of training windows, of evaluations, and of single layers.
        ended: why and when, and how often the model was called.
        middle: what a checkpoint at half time holds.
        weights: the delivered weights, where they are needed as numbers.
    """

    delivered: str
    state: str
    train: list[dict[str, float]]
    validation: list[dict[str, float]]
    layers: list[dict[str, Any]]
    ended: tuple[str, int, int]
    middle: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def rows(self) -> list[dict[str, float]]:
        """All of them."""
        return [*self.train, *self.validation, *self.layers]


def digest(tensors: dict[str, Tensor]) -> str:
    """A hash of names and bits."""
    summary = hashlib.blake2b()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        summary.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        summary.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return summary.hexdigest()


def assembled(parts: tuple[Part, ...], world: World, **settings: Any) -> Assembly:
    """A run of these techniques, ready to train."""
    train, validation = world.data()
    job = Job(
        recipe=recipe_of(parts, world, **settings),
        budget=BUDGET,
        seed=3,
        task=world.task,
        evaluate_every="2 steps",
        log_every="1 steps",
    )
    return Assembly(ingredients(world.model(), train, validation, job))


def finished(run: Assembly, *, keep_weights: bool = False) -> Trace:
    """Train to the end, keeping the state at half time."""
    middle: dict[str, Any] = {}
    after = run.trainer._after

    def keep(report: Any) -> None:
        after(report)
        if run.step.clock.steps in MIDDLES and run.trainer.stop_reason is None:
            tensors, rest = separate(snapshot(run.trainer.state_dict()))
            middle.clear()
            middle.update(join(tensors, json.loads(json.dumps(rest))))

    run.trainer._after = keep  # type: ignore[method-assign]
    result = run.finish()
    tensors, rest = separate(snapshot(run.trainer.state_dict()))
    weights = {name: tensor.clone() for name, tensor in result.model.state_dict().items()}
    history = run.trainer.recorder.history
    return Trace(
        delivered=digest(weights),
        state=digest(tensors) + json.dumps(rest, sort_keys=True, default=str),
        train=list(history.train),
        validation=list(history.validation),
        layers=list(history.layers),
        ended=(run.trainer.stop_reason or "", result.steps, result.model.num_calls),
        middle=middle,
        weights=weights if keep_weights else {},
    )


@lru_cache(maxsize=4096)
def single(parts: tuple[Part, ...], world: World) -> Trace:
    """A run that several pairs are compared with."""
    return replace(finished(assembled(parts, world)), middle={})


def without(one: str, kept: str, world: World) -> tuple[Part, ...]:
    """The recipe with one of two techniques switched off: left out, or in another form where something must be there."""
    if one in OTHERWISE:
        return (Part(one, "otherwise"), Part(kept))
    return (Part(kept),)


def differs(one: Trace, other: Trace) -> bool:
    """Whether anything that a user can see differs: weights, metrics of evaluations, stopping, calls of the model."""
    return (one.delivered, one.rows, one.ended) != (other.delivered, other.rows, other.ended)


def same_course(one: Trace, other: Trace) -> bool:
    """Whether two runs are the same in bits, apart from columns that only one of them measures."""
    if (one.delivered, one.ended[:2]) != (other.delivered, other.ended[:2]):
        return False
    pairs = [*zip(one.train, other.train, strict=True), *zip(one.validation, other.validation, strict=True)]
    return all(left[key] == right[key] for left, right in pairs for key in left.keys() & right.keys())


@dataclass
class Verdict:
    """What came of a pair.

    Args:
        kind: "composes", "exclusive" or "refused".
        reason: of a refusal.
        failures: what should hold and doesn't.
        checked: names of the checks that were made; excepted: name -> reason of those that can't be.
    """

    kind: str
    reason: str = ""
    failures: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    excepted: dict[str, str] = field(default_factory=dict)


def standing(one: str, other: str) -> Verdict:
    """Whether a pair composes, is exclusive or is refused: decided as a job decides it, without training."""
    records = catalog()
    if exclusive(records[one], records[other]):
        return Verdict("exclusive", "one of them at a time")
    world = world_of(one, other)
    try:
        check_recipe(recipe_of((Part(one), Part(other)), world), task=world.task)
    except JobError as error:
        return Verdict("refused", str(error))
    return Verdict("composes")


def exceptions(check: str, ids: Iterable[str]) -> dict[str, str]:
    """Why a check can't be made for these techniques: the reasons of those that rule it out."""
    return {f"{check}: {id}": EXCEPTED[id][check] for id in ids if check in EXCEPTED.get(id, {})}


def verdict(one: str, other: str) -> Verdict:
    """Everything that must hold for a pair, tried out."""
    found = standing(one, other)
    if found.kind != "composes":
        return found
    logging.disable(logging.WARNING)
    try:
        _try(found, one, other, world_of(one, other))
    finally:
        logging.disable(logging.NOTSET)
    return found


def _try(found: Verdict, one: str, other: str, world: World) -> None:
    parts = (Part(one), Part(other))
    run = assembled(parts, world)
    whole = finished(run)
    _record(found, "trains", all(_finite(row) for row in [*whole.train, *whole.validation]) and whole.ended[1] > 0)
    for switched, kept in ((one, other), (other, one)):
        excepted = exceptions("acts", [switched]) | exceptions(f"acts beside {kept}", [switched])
        found.excepted |= excepted
        if not excepted:
            plain = single(without(switched, kept, world), world)
            acts = differs(whole, plain)
            if not acts and switched in INSTEAD:
                acts = differs(single((Part(switched, "instead"), Part(kept)), world), plain)
            _record(found, f"{switched} acts", acts)
    _resumes(found, parts, world, whole)
    _accumulates(found, parts, one, other)
    for idle, kept in ((one, other), (other, one)):
        if idle not in NEUTRAL:
            found.excepted[f"neutral: {idle}"] = "has no value that does nothing"
            continue
        nothing = single((Part(idle, "neutral"), Part(kept)), world)
        _record(found, f"{idle} without effect is as left out", same_course(nothing, single((Part(kept),), world)))


def _record(found: Verdict, check: str, holds: bool) -> None:
    found.checked.append(check)
    if not holds:
        found.failures.append(check)


def _finite(row: dict[str, float]) -> bool:
    return all(value is None or abs(value) < float("inf") for value in row.values() if isinstance(value, (int, float)))


def _resumes(found: Verdict, parts: tuple[Part, ...], world: World, whole: Trace) -> None:
    again = assembled(parts, world)
    # Without a folder the rows come from the caller; those written later are dropped by the loaded state.
    history = again.trainer.recorder.history
    history.train, history.validation, history.layers = list(whole.train), list(whole.validation), list(whole.layers)
    again.trainer.load_state_dict(whole.middle)
    resumed = finished(again)
    _record(found, "resumes", (resumed.state, resumed.delivered, resumed.rows) == (whole.state, whole.delivered, whole.rows))


def _accumulates(found: Verdict, parts: tuple[Part, ...], one: str, other: str) -> None:
    excepted = exceptions("accumulates", [one, other])
    if excepted:
        found.excepted |= excepted
        return
    world = world_of(one, other)
    world = replace(world, norm={"batch": "group"}.get(world.norm, world.norm), entry="group", dropout=0.0, dtype=torch.float64)
    whole = finished(assembled(parts, world), keep_weights=True)
    cut = finished(assembled(parts, world, micro_batch_size=5), keep_weights=True)
    names = whole.weights.keys() == cut.weights.keys()
    close = names and all(torch.allclose(whole.weights[n], cut.weights[n], rtol=0, atol=1e-10) for n in whole.weights)
    _record(found, "accumulates", close and whole.ended[:2] == cut.ended[:2])
