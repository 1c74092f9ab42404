"""Units that no row activates, or that every row drives to its rail, at the start.

Rules, over at most 256 rows, seen in modules and functions alike: a rectifier (its outputs are its inputs where they are
positive, else 0) more than half of whose units give 0 for all rows; a bounded activation more than half of whose outputs lie
within 1 % of its range of a rail. The activation that gives the outputs themselves is left out. A symptom of weights, biases or
inputs: where standard inputs mend it nothing is said here, else drawing the weights anew, smaller numbers into the units, or
another activation must help.
Sources: DeepDiagnosis (ICSE 2022), SageMaker's rules; Glorot & Bengio (AISTATS 2010).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.doctor.bench import Bench
from stepwell.doctor.calls import Call, Key, calls_of
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.modules import Action, Change, drawn_anew, instead, rewired, untouched
from stepwell.doctor.rows import tree

RAILS: dict[str, tuple[float, float]] = {
    "sigmoid": (0.0, 1.0),
    "sigmoid_": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "tanh_": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
}
HALF, ALL = 0.5, 0.95
SURE = 0.72  # weight where nearly all units of a layer have no gradient
FEW = 0.7  # at most, where only a minority of the layers has such units beside others: what fades on the way comes first
_FOLLOWS = ("vanishing_gradient", "lr_too_low", "underfitting", "capacity_too_small", "too_few_epochs")


def probe(bench: Bench) -> Iterator[Suspicion]:
    model = bench.setup.copied().model.eval()
    inputs = bench.some.inputs
    dead, stuck = shares_of(model, inputs)
    for found, name in ((dead, "dead_relu"), (stuck, "saturated_activation")):
        worst = {key: share for key, share in found.items() if share > HALF}
        if not worst:
            continue
        few = len(worst) < HALF * len(found) and max(worst.values()) < ALL
        standard = shares_of(model, _standard(inputs))[0 if name == "dead_relu" else 1]
        if all(standard.get(key, 0.0) < HALF for key in worst):
            continue  # the inputs' scale is the cause
        redrawn = drawn_anew()
        anew = shares_of(redrawn(bench.setup).model.eval(), inputs)[0 if name == "dead_relu" else 1]
        helped = all(anew.get(key, 0.0) <= HALF for key in worst)
        weight = 0.75 if helped else SURE if max(worst.values()) > ALL else 0.6
        weight = min(weight, FEW) if few else weight
        if helped:
            yield _suspicion(name, worst, Remedy("Draw the weights anew, with biases near 0", redrawn), weight)
            continue
        if name == "saturated_activation":
            words = "Make what goes into these units smaller: a gentler slope, smaller weights, or a norm layer before them"
            yield _suspicion(name, worst, Remedy(words, _gentler(model, inputs, worst)), weight)
        words = "Take LeakyReLU" if name == "dead_relu" else "Take ReLU"
        yield _suspicion(name, worst, Remedy(words, _other(name, worst)), weight)


def _suspicion(name: str, worst: dict[Key, float], remedy: Remedy, weight: float) -> Suspicion:
    key, share = max(worst.items(), key=lambda pair: pair[1])
    layers = [f"{one} {number + 1}" for one, number in worst]
    dead = name == "dead_relu"
    what = "of the units are 0 for every row" if dead else "of the outputs lie within 1 % of a rail"
    return Suspicion(
        name,
        f"{share:.0%} {what} after {key[0]} {key[1] + 1}, before the first step",
        "no gradient comes through them" if dead else "hardly any gradient comes through them",
        {"share": share, "layers": layers, "num_layers": len(worst)},
        remedy,
        proof="mechanism",
        weight=weight,
        explains=_FOLLOWS,
    )


def _gentler(model: nn.Module, inputs: Any, worst: dict[Key, float]) -> Change:
    """What goes into these units, brought to a spread of 1 by one factor for each of them."""
    with torch.no_grad():
        _, calls = calls_of(model, inputs)
    sizes = {call.key: float(call.inputs[0].float().std()) for call in calls if call.key in worst}

    def scaled(size: float) -> Action:
        return lambda func, args, kwargs: func(untouched(func, args, kwargs) / max(size, 1.0))

    return rewired({key: scaled(size) for key, size in sizes.items()})


def _other(name: str, worst: dict[Key, float]) -> Change:
    """A leaky rectifier where units are dead, a rectifier where they are at their rails."""
    if name == "dead_relu":
        return rewired({key: instead(nn.functional.leaky_relu) for key in worst})
    actions: dict[tuple[str, int | None], Action] = {key: instead(torch.relu) for key in worst}
    return rewired(actions)


def shares_of(model: nn.Module, inputs: Any) -> tuple[dict[Key, float], dict[Key, float]]:
    """Of each activation, the share of dead units, and of outputs at a rail."""
    with torch.no_grad():
        outputs, calls = calls_of(model, inputs)
    dead: dict[Key, float] = {}
    stuck: dict[Key, float] = {}
    for call in calls:
        if not call.inputs or not isinstance(call.output, Tensor) or _same(call.output, outputs):
            continue
        if call.name in RAILS:
            low, high = RAILS[call.name]
            near = 0.01 * (high - low)
            stuck[call.key] = float(((call.output - low).abs().le(near) | (high - call.output).abs().le(near)).float().mean())
        elif _rectifies(call):
            flat = call.output.movedim(_units(call.output), -1).reshape(-1, call.output.shape[_units(call.output)])
            dead[call.key] = float((flat <= 0).all(0).float().mean())
    return dead, stuck


def _rectifies(call: Call) -> bool:
    given, output = call.inputs[0], call.output
    if call.name in ("relu_", "clamp_", "clamp_min_"):  # in place: what it was given is gone
        return True
    if not given.is_floating_point() or given.shape != output.shape or output.dim() < 2 or call.name not in _RECTIFIERS:
        return False
    return torch.equal(output, given.clamp(min=0))


_RECTIFIERS = ("relu", "clamp", "clip", "clamp_min", "maximum", "relu_", "threshold", "where", "mul", "max", "rrelu")


def _units(output: Tensor) -> int:
    """Channels of images lie in the second place, units of all else in the last."""
    return 1 if output.dim() == 4 else output.dim() - 1


def _same(output: Tensor, outputs: Any) -> bool:
    return isinstance(outputs, Tensor) and output.shape == outputs.shape and torch.equal(output, outputs)


def _standard(inputs: Any) -> Any:
    """Inputs of mean 0 and spread 1, cell by cell."""

    def scaled(part: Tensor) -> Tensor:
        if not part.is_floating_point() or part.dim() < 2:
            return part
        return (part - part.mean(0)) / part.std(0).clamp(min=1e-8)

    return tree(inputs, scaled)
