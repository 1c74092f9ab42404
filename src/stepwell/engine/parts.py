"""From techniques to the parts of a training step: the model as changed, parameter groups, drives."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from stepwell.core.catalog import STAGES, Record, record_of
from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError, nearest
from stepwell.core.modules.freezing import release_claims
from stepwell.core.randomness import Rng, derive
from stepwell.core.slots import Average, Drive, Objective, Probe
from stepwell.core.updates.elementwise import ElementwiseOptimizer
from stepwell.parallel.group import Group
from stepwell.precision import Precision


@dataclass(frozen=True)
class Execution:
    """How a step is carried out; none of it changes what is learned beyond rounding.

    Args:
        precision: fp32, bf16 (autocast) or fp16 (autocast with loss scaling), or a Precision.
        micro_batch_size: samples per forward pass; None for the whole batch.
        memory: "flat" lays parameters and gradients out in flat buffers, "tensors" leaves them as they are.
        process_group: a torch.distributed group whose ranks train this model together.
        finite_check: "at_once" reads the check of every step; "late" reads it one step later, so that nothing waits
            for the device, while the device itself leaves weights alone in a bad step; "auto" is late on accelerators
            where the optimizer can do that and no loss scale has to know.
    """

    precision: str | Precision = "fp32"
    micro_batch_size: int | Sequence[int] | None = None
    memory: Literal["flat", "tensors"] = "flat"
    process_group: Group = None
    finite_check: Literal["auto", "at_once", "late"] = "auto"


@dataclass
class Parts:
    """What a TrainStep is made of, in the order in which the step uses it. Keys name each technique's draws and state."""

    model: nn.Module
    base: Objective
    optimizer: Optimizer
    moving: dict[str, Any] = field(default_factory=dict)  # model techniques that act in time
    modifiers: dict[str, Any] = field(default_factory=dict)
    batch: dict[str, Any] = field(default_factory=dict)
    grad: dict[str, Any] = field(default_factory=dict)
    schedules: dict[str, Any] = field(default_factory=dict)
    averages: dict[str, Average] = field(default_factory=dict)
    observers: dict[str, Any] = field(default_factory=dict)
    probes: list[Probe] = field(default_factory=list, init=False)  # observers that look into a step while it is taken
    values: list[Drive] = field(default_factory=list, init=False)  # one for each scheduled field
    drives: list[Callable[[float], None]] = field(default_factory=list, init=False)  # what writes them
    objective: Objective = field(init=False)  # the base inside its modifiers

    def __post_init__(self) -> None:
        self.objective = modified(self.base, self.modifiers)


def assemble(
    model: nn.Module,
    *,
    objective: Objective,
    optimizer: Any,
    techniques: Iterable[Any],
    horizon: Horizon,
    seed: int,
    memory: Literal["flat", "tensors"] = "flat",
) -> Parts:
    """Apply the model techniques, then build the optimizer, schedules and averages on the changed model.

    Args:
        optimizer: a technique of the optimizer slot, or any callable (groups) -> Optimizer.
        techniques: technique objects in list order; each goes to its own slot.
    """
    keyed: dict[str, Any] = {}
    for item in techniques:
        record = _record(item)
        number = sum(_record(other).id == record.id for other in keyed.values())
        keyed[record.id if number == 0 else f"{record.id}#{number + 1}"] = item

    def chosen(slot: str, role: str = "") -> dict[str, Any]:
        return {k: t for k, t in keyed.items() if _record(t).slot == slot and _record(t).role == role}

    model_techniques = chosen("model")
    release_claims(model)
    for key, item in sorted(model_techniques.items(), key=lambda pair: STAGES.index(_record(pair[1]).stage)):
        model = item(model, Rng(derive(seed, f"model/{key}")))
    moving = {key: item for key, item in model_techniques.items() if hasattr(item, "at")}
    thaws = any(getattr(item, "thaws", False) for item in moving.values())
    modifiers = chosen("objective", "modifier")
    groups = parameter_groups(model, optimizer, list(chosen("optimizer", "groups").values()), with_frozen=thaws)
    built = optimizer(groups)
    parts = Parts(model, objective, built, moving, modifiers, grad=chosen("grad"))
    parts.batch = {k: t for k, t in keyed.items() if _record(t).slot == "batch" or hasattr(t, "on_batch")}
    if memory == "flat" and isinstance(built, ElementwiseOptimizer):
        built.lay_out()
    drives = []
    for key, item in (chosen("schedule") | chosen("schedule", "factor")).items():
        parts.schedules[key] = schedule = item(horizon)
        if hasattr(schedule, "watches"):
            parts.observers[key] = schedule
        drives += schedule.drives
    parts.values = combined(drives)
    parts.drives = [_writer(drive, parts) for drive in parts.values]
    parts.averages = {key: item(model, horizon) for key, item in chosen("average").items()}
    if hasattr(built, "average"):
        parts.averages["optimizer"] = built.average
    parts.observers |= {key: item(horizon) for key, item in chosen("observer").items()}
    parts.probes = [item for item in parts.observers.values() if isinstance(item, Probe)]
    return parts


def modified(objective: Objective, modifiers: dict[str, Any]) -> Objective:
    """The objective inside its modifiers, the first of them innermost."""
    for modifier in modifiers.values():
        objective = modifier(objective)
    return objective


def combined(drives: Iterable[Drive]) -> list[Drive]:
    """One drive for each target: factors multiply, on the value that a "set" drive gives where there is one.

    Raises:
        JobError: two drives set one target.

    >>> half, third = (Drive("optimizer.lr", lambda done, f=f: f) for f in (0.5, 1 / 3))
    >>> [drive.value(0) for drive in combined([half, third])]
    [0.16666666666666666]
    """
    targets: dict[str, list[Drive]] = {}
    for drive in drives:
        targets.setdefault(drive.target, []).append(drive)
    return [group[0] if len(group) == 1 else _product(target, group) for target, group in targets.items()]


def _product(target: str, group: list[Drive]) -> Drive:
    values, num_set = [drive.value for drive in group], sum(drive.mode == "set" for drive in group)
    if num_set > 1:
        raise JobError(
            f"{num_set} schedules set {target}", expected="one schedule that sets it", fix="Leave all but one of them out"
        )
    return Drive(target, lambda done: math.prod(value(done) for value in values), "set" if num_set else "scale")


def _record(item: Any) -> Record:
    record = record_of(item)
    if record is None:
        raise JobError(
            f"{item!r} is not a technique",
            expected="objects of classes made with stepwell.techniques' catalog",
            fix="Pass e.g. stepwell.techniques.ClipNorm(max_norm=1.0)",
        )
    return record


def parameter_groups(
    model: nn.Module, optimizer: Any, rules: Sequence[Any], *, with_frozen: bool = False
) -> list[dict[str, Any]]:
    """Parameters bucketed by their settings: each rule multiplies the optimizer's own values, tensor by tensor.

    Args:
        rules: group techniques, (model) -> {parameter name: {field: factor}}.
        with_frozen: whether parameters that don't train now may train later.

    Returns:
        torch parameter groups, each with "params", their "names", and the settings that differ from the default.
    """
    factors: dict[str, dict[str, float]] = {}
    for rule in rules:
        for name, changes in rule(model).items():
            for key, factor in changes.items():
                factors.setdefault(name, {})[key] = factors.get(name, {}).get(key, 1.0) * factor
    buckets: dict[tuple[tuple[str, float], ...], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not (parameter.requires_grad or with_frozen):
            continue
        changes = factors.get(name, {})
        settings = {key: getattr(optimizer, key) * factor for key, factor in changes.items() if hasattr(optimizer, key)}
        group = buckets.setdefault(tuple(sorted(settings.items())), {"params": [], "names": [], **settings})
        group["params"].append(parameter)
        group["names"].append(name)
    if not buckets:
        raise JobError(
            "the model has no parameter that trains",
            expected="at least one parameter with requires_grad",
            fix="Check what is frozen, and that layers are attributes of the module",
        )
    return list(buckets.values())


def _writer(drive: Drive, parts: Parts) -> Callable[[float], None]:
    owner, _, name = drive.target.partition(".")
    if owner == "optimizer":
        return _optimizer_writer(drive, name, parts.optimizer)
    for holder in (parts.moving, parts.modifiers, parts.batch, parts.grad):
        if owner in holder:
            return _technique_writer(drive, owner, name, holder, parts)
    raise JobError(
        f"a schedule drives {drive.target!r}",
        expected="optimizer.FIELD, or ID.FIELD of a technique in the recipe that acts in every step",
        fix=nearest(owner, ["optimizer", *parts.moving, *parts.modifiers, *parts.batch, *parts.grad]),
    )


def _optimizer_writer(drive: Drive, name: str, optimizer: Optimizer) -> Callable[[float], None]:
    groups, value, scale = optimizer.param_groups, drive.value, drive.mode == "scale"
    if name == "momentum" and "betas" in groups[0]:
        bases = [group["betas"] for group in groups]

        def write_betas(done: float) -> None:
            now = value(done)
            for group, base in zip(groups, bases, strict=True):
                group["betas"] = (base[0] * now if scale else now, base[1])

        return write_betas
    if name not in groups[0]:
        raise JobError(
            f"a schedule drives optimizer.{name}",
            expected="a field that the optimizer has",
            fix=nearest(name, [key for key in groups[0] if key not in ("params", "names")]),
        )
    numbers = [group[name] for group in groups]
    if not scale:  # a value that is set keeps the factors that groups have on the configured one
        configured = optimizer.defaults.get(name)
        numbers = [number / configured if configured else 1.0 for number in numbers]

    def write(done: float) -> None:
        now = value(done)
        for group, base in zip(groups, numbers, strict=True):
            group[name] = base * now

    return write


def _technique_writer(drive: Drive, owner: str, name: str, holder: dict[str, Any], parts: Parts) -> Callable[[float], None]:
    original = holder[owner]
    if name not in {item.name for item in dataclasses.fields(original)}:
        raise JobError(
            f"a schedule drives {drive.target!r}",
            expected=f"a field of {owner}",
            fix=nearest(name, [item.name for item in dataclasses.fields(original)]),
        )
    base, value, scale = getattr(original, name), drive.value, drive.mode == "scale"

    def write(done: float) -> None:
        now = value(done)
        changed = dataclasses.replace(original, **{name: base * now if scale else now})
        for slot in (parts.moving, parts.modifiers, parts.batch, parts.grad):
            if owner in slot:
                slot[owner] = changed
        if owner in parts.modifiers:
            parts.objective = modified(parts.base, parts.modifiers)

    return write


def float_buffers(model: nn.Module) -> list[torch.Tensor]:
    """Buffers that a forward pass may change (running statistics, counters)."""
    return [buffer for buffer in model.buffers() if buffer.numel() > 0]
