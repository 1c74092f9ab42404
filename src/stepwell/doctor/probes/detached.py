"""Parameters that outputs depend on and gradients don't reach.

Rule: a trainable parameter whose gradient is missing or exactly 0 over a batch, while a nudge of it (1 % and 10 % of its norm)
changes the outputs by more than 1e-4 of their spread. Gradients are those of a random mix of the outputs, so that the loss has
no say. A dead unit or a branch behind a zero gain passes: nudges change nothing there, or bring a gradient with the change.
Certain where nothing can be tried; where the call that cuts is known (detach, no_grad, rounding), mending it must help.
Source: torch.Tensor.detach; GitHub zhuangdizhu/FedGen#15.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.bench import Bench
from stepwell.doctor.calls import Call, calls_of
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.probes.held import held_tensors
from stepwell.doctor.remedies.modules import Action, Change, nothing, rewired, straight_through, untouched
from stepwell.doctor.rows import tensors

CUTS = ("detach", "detach_", "numpy", "tolist", "item", "from_numpy", "tensor", "as_tensor", "_set_grad_enabled", "data")
STEPS = (
    "round",
    "floor",
    "ceil",
    "sign",
    "trunc",
    "argmax",
    "heaviside",
    "gt",
    "ge",
    "lt",
    "le",
    "long",
    "int",
    "one_hot",
    "sgn",
)
_LEFT = ("numpy", "from_numpy", "tolist", "item")  # after these, nothing of a graph can be mended from outside
_OPENED: dict[str, Action] = {"detach": untouched, "detach_": untouched, "_set_grad_enabled": nothing}


def probe(bench: Bench) -> Iterator[Suspicion]:
    if _cut_by_loss(bench):
        yield _of_loss()
        return
    setup = bench.setup.copied()
    model = setup.model.eval()
    held = held_tensors(setup)
    theirs = None if held is None else {id(part) for part in held}
    rows = bench.some
    with seeded_defaults(0), torch.enable_grad():
        _shake_(model)
        try:
            outputs, calls = calls_of(model, rows.inputs)
            mixed = [(torch.randn(part.shape) * part).sum() for part in tensors(outputs) if part.requires_grad]
            sum(mixed, torch.zeros(())).backward()  # type: ignore[no-untyped-call]
        except RuntimeError:
            return  # what fails is told as a crash
        without = {
            name: part
            for name, part in model.named_parameters()
            if part.requires_grad and (theirs is None or id(part) in theirs) and _still(part)
        }
        cut = [name for name, part in without.items() if _moves(model, part, rows.inputs, outputs)]
    if not cut:
        return
    num_cut = sum(without[name].numel() for name in cut)
    total = sum(part.numel() for part in model.parameters())
    ops = culprits(calls)
    change = mended(ops)
    yield Suspicion(
        "detached_graph",
        f"outputs depend on {', '.join(cut[:3])}" + (" and others" if len(cut) > 3 else "") + ", but no gradient reaches them",
        "the way from the loss back to them is cut" + (f" by {', '.join(ops)}" if ops else ""),
        {"names": cut[:20], "num_cut": num_cut, "share": num_cut / max(total, 1), "calls": ops},
        Remedy(
            "Leave the call out that cuts it, or use one with a gradient (a straight-through estimate for rounding)"
            + (f": {', '.join(ops)}" if ops else ""),
            change,
        ),
        proof="mechanism" if change is not None else "certain",
        weight=0.9,
        explains=("underfitting", "capacity_too_small", "vanishing_gradient", "lr_too_low", "too_few_epochs", "frozen_params"),
    )


def _cut_by_loss(bench: Bench) -> bool:
    """Whether the loss has a gradient, the outputs take one, and none comes from the one to the other."""
    setup = bench.setup.copied()
    rows = bench.first_batch
    with seeded_defaults(0), torch.enable_grad():
        try:
            outputs = setup.model.train()(rows.inputs)
            loss = setup.loss(outputs, rows.targets)
        except Exception:  # what fails is told as a crash
            return False
        parts = [part for part in tensors(outputs) if part.requires_grad]
        if not parts or not isinstance(loss, Tensor) or not loss.requires_grad or loss.numel() != 1:
            return False
        held = [part for part in setup.model.parameters() if part.requires_grad]
        return all(slope is None for slope in torch.autograd.grad(loss, [*parts, *held], allow_unused=True))


def _of_loss() -> Suspicion:
    return Suspicion(
        "detached_graph",
        "the loss asks for a gradient, and none of it reaches the outputs",
        "the loss is computed from something that has no gradient: classes by argmax, rounded or copied values",
        {},
        Remedy("Compute the loss from the outputs themselves; requires_grad on a loss joins it to nothing"),
        proof="certain",
        weight=0.95,
        explains=("underfitting", "vanishing_gradient", "lr_too_low", "too_few_epochs", "frozen_params", "wrong_loss"),
    )


def _shake_(model: torch.nn.Module) -> None:
    """Move weights off the bends of their units, where a gradient is 0 by convention."""
    with torch.no_grad():
        for part in model.parameters():
            if part.is_floating_point():
                part.add_(1e-3 * torch.randn(part.shape) * part.abs().mean().clamp(min=1e-3))


def _still(part: Tensor) -> bool:
    return part.grad is None or not bool(part.grad.any())


def _moves(model: torch.nn.Module, part: Tensor, inputs: object, outputs: object) -> bool:
    """Whether outputs follow a nudge of this parameter, and no gradient comes with it."""
    before = torch.cat([one.detach().flatten().float() for one in tensors(outputs)])
    spread = float(before.std()) + 1e-6 * float(before.abs().max()) + 1e-12
    draw = torch.Generator().manual_seed(0)
    direction = torch.randn(part.shape, generator=draw)
    with torch.no_grad():
        old = part.detach().clone()
        for size in (0.01, 0.1):
            step = size * max(float(old.norm()), 1e-3 * old.numel() ** 0.5) / float(direction.norm())
            part.add_(step * direction)
            after = torch.cat([one.flatten().float() for one in tensors(model(inputs))])
            moved = after.shape == before.shape and float((after - before).abs().max()) > 1e-4 * spread
            reached = moved and _reached(model, part, inputs)
            part.copy_(old)
            if moved:
                return not reached
    return False


def _reached(model: torch.nn.Module, part: Tensor, inputs: object) -> bool:
    """Whether a gradient reaches a parameter where it is now: then it was only a unit that no row activated."""
    with torch.enable_grad():
        mixed = [(torch.randn(one.shape) * one).sum() for one in tensors(model(inputs)) if one.requires_grad]
        if not mixed:
            return False
        slope = torch.autograd.grad(sum(mixed, torch.zeros(())), part, allow_unused=True)[0]
    return slope is not None and bool(slope.any())


def culprits(calls: list[Call]) -> list[str]:
    """Calls that give tensors without a way back out of tensors that have one."""
    found: list[str] = []
    for call in calls:
        gone = call.name in ("_set_grad_enabled", *_LEFT)
        stopped = call.name in CUTS and (gone or any(part.requires_grad for part in call.inputs))
        stepped = call.name in STEPS and any(part.requires_grad for part in call.inputs)
        if (stopped or stepped) and call.name not in found:
            found.append(call.name)
    return found


def mended(ops: list[str]) -> Change | None:
    """The model without these calls, or with a straight-through estimate for a rounding; None where that can't be."""
    actions: dict[tuple[str, int | None], Action] = {}
    for name in ops:
        if name in _OPENED:
            actions[(name, None)] = _OPENED[name]
        elif name in ("round", "floor", "ceil", "trunc", "sign", "sgn"):
            actions[(name, None)] = straight_through
        elif name in _LEFT:
            return None
    return rewired(actions) if actions else None
