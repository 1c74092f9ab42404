"""Initial weights of linear and convolution layers: fans, gains and derived draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from stepwell.core.check import require, require_one_of
from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng, derive

# Why two of these can't stand in one recipe.
DRAWS_ANEW = (
    "each draws every weight anew, so that the last alone would count (He et al. 2015 compare them one against the other)"
)

__all__ = [
    "DRAWS_ANEW",
    "GAINS",
    "LAYERS",
    "Distribution",
    "Fan",
    "Nonlinearity",
    "WeightLayer",
    "check_draw",
    "draw_",
    "draw_weights_",
    "fan_of",
    "fill_",
    "gain_of",
    "initialise_",
    "named",
    "weight_layers",
]

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
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, slots=True)
class Fan:
    """How many inputs feed one unit, and how many units one input feeds."""

    fan_in: int
    fan_out: int


@dataclass(frozen=True, slots=True)
class WeightLayer:
    """A linear or convolution layer at its place in a model, and its weight (out, in, *kernel)."""

    name: str
    module: nn.Module
    weight: Tensor


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

    Args:
        model: changed in place.
        std_of: fans -> standard deviation, > 0; a uniform draw has the same one.
    """

    def fill(layer: WeightLayer, weight: Tensor, generator: torch.Generator) -> None:
        fill_(weight, std_of(fan_of(weight)), distribution, generator)

    return draw_weights_(model, rng, fill)


def fill_(weight: Tensor, std: float, distribution: Distribution, generator: torch.Generator) -> None:
    """Draw a tensor with mean 0 and a standard deviation; a uniform one lies within sqrt(3) of them."""
    if distribution == "normal":
        weight.normal_(0.0, std, generator=generator)
    else:
        bound = math.sqrt(3) * std
        weight.uniform_(-bound, bound, generator=generator)


def weight_layers(model: nn.Module) -> list[WeightLayer]:
    """The linear and convolution layers of a model, in the order they were registered, each weight once.

    A weight that is shared with another kind of module (an embedding) is left to that module.

    Raises:
        JobError: a layer whose size is not known yet.
    """
    taken = {
        id(parameter) for module in model.modules() if not isinstance(module, LAYERS) for parameter in module.parameters(False)
    }
    found = []
    for name, module in model.named_modules():
        weight = module._parameters.get("weight") if isinstance(module, LAYERS) else None
        if isinstance(weight, UninitializedParameter):
            raise JobError(
                f"the model has a {type(module).__name__} whose size is not known yet",
                expected="weights that exist",
                fix="Call the model once on a batch before training it",
            )
        if weight is not None and id(weight) not in taken:
            found.append(WeightLayer(name, module, weight))
            taken.add(id(weight))
    return found


def draw_weights_(model: nn.Module, rng: Rng, fill: Callable[[WeightLayer, Tensor, torch.Generator], None]) -> nn.Module:
    """Fill the weights of every linear and convolution layer anew and set their biases to 0, in place.

    Each tensor has its own generator, keyed by its layer's name, so neither another layer's size nor a layer more or
    less changes its draws.

    Args:
        model: changed in place.
        fill: (layer, an empty tensor of the weight's shape and dtype, its generator) -> None.
    """
    for layer in weight_layers(model):
        draw_(layer.weight, named(rng, f"{layer.name}.weight"), partial(fill, layer))
    for module in model.modules():
        bias = module._parameters.get("bias") if isinstance(module, LAYERS) else None
        if bias is not None:
            nn.init.zeros_(bias)
    return model


def named(rng: Rng, name: str) -> torch.Generator:
    """The generator of one tensor of a model: a function of the seed and the tensor's name alone."""
    return Rng(derive(rng.seed, name)).generator()


@torch.no_grad()
def draw_(weight: Tensor, generator: torch.Generator, fill: Callable[[Tensor, torch.Generator], object]) -> None:
    """Fill a weight on the host, so that it is the same whatever device trains it."""
    drawn = torch.empty(weight.shape, dtype=weight.dtype)
    fill(drawn, generator)
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
