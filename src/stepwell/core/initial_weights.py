"""Initial weights of linear and convolution layers: fans, gains and derived draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from stepwell.core.check import require, require_one_of
from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng

__all__ = ["GAINS", "Distribution", "Fan", "Nonlinearity", "check_draw", "fan_of", "gain_of", "initialise_"]

Distribution = Literal["normal", "uniform"]
Nonlinearity = Literal["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu", "gelu", "silu"]

# torch's values; gelu and silu are 1 / sqrt(E[f(z)^2]) for z ~ N(0, 1), which is how relu's sqrt(2) comes about.
GAINS: dict[str, float] = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "selu": 3 / 4,
    "gelu": 1.5335304411,
    "silu": 1.6765324703,
}
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, slots=True)
class Fan:
    """How many inputs feed one unit, and how many units one input feeds."""

    fan_in: int
    fan_out: int


def fan_of(weight: Tensor) -> Fan:
    """Fans of a weight (out, in, *kernel).

    >>> fan_of(torch.zeros(8, 3, 5, 5))
    Fan(fan_in=75, fan_out=200)
    """
    field = math.prod(weight.shape[2:])
    return Fan(weight.shape[1] * field, weight.shape[0] * field)


def gain_of(nonlinearity: str, negative_slope: float = 0.01) -> float:
    """What the weights before an activation are multiplied by, so that it keeps the size of its input.

    >>> gain_of("relu") ** 2
    2.0000000000000004
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + negative_slope**2))
    return GAINS[nonlinearity]


def initialise_(model: nn.Module, rng: Rng, std_of: Callable[[Fan], float], distribution: Distribution) -> nn.Module:
    """Draw the weights of every linear and convolution layer anew and set their biases to 0, in place.

    Each tensor has its own generator, keyed by its place in the model, so one layer's size doesn't change another's
    draws. A weight that is shared with another kind of module (an embedding) is left to that module.

    Args:
        model: changed in place.
        std_of: fans -> standard deviation, > 0; a uniform draw has the same one.
    """
    shared = {
        id(parameter) for module in model.modules() if not isinstance(module, _LAYERS) for parameter in module.parameters(False)
    }
    done: set[int] = set()
    index = {id(parameter): place for place, parameter in enumerate(model.parameters())}
    for module in _layers(model):
        weight, bias = module._parameters.get("weight"), module._parameters.get("bias")
        if isinstance(weight, UninitializedParameter):
            raise JobError(
                f"the model has a {type(module).__name__} whose size is not known yet",
                expected="weights that exist",
                fix="Call the model once on a batch before training it",
            )
        if weight is not None and id(weight) not in shared | done:
            _draw_(weight, std_of(fan_of(weight)), distribution, rng.child(index[id(weight)]).generator())
            done.add(id(weight))
        if bias is not None:
            nn.init.zeros_(bias)
    return model


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    return (module for module in model.modules() if isinstance(module, _LAYERS))


@torch.no_grad()
def _draw_(weight: Tensor, std: float, distribution: Distribution, generator: torch.Generator) -> None:
    # Drawn on the host: the same weights whatever device trains them.
    drawn = torch.empty(weight.shape, dtype=weight.dtype)
    if distribution == "normal":
        drawn.normal_(0.0, std, generator=generator)
    else:
        bound = math.sqrt(3) * std
        drawn.uniform_(-bound, bound, generator=generator)
    weight.copy_(drawn)


def check_draw(technique: str, *, distribution: str, nonlinearity: str, negative_slope: float) -> None:
    """Refuse settings that `initialise_` and `gain_of` don't know.

    Raises:
        JobError: naming the technique's setting.
    """
    fix = f"See `stepwell techniques show {technique}`"
    require_one_of(f"{technique}.distribution", distribution, ("normal", "uniform"), fix)
    require_one_of(f"{technique}.nonlinearity", nonlinearity, (*GAINS, "leaky_relu"), fix)
    require(negative_slope >= 0, f"{technique}.negative_slope", negative_slope, "a number of 0 or above", fix)
