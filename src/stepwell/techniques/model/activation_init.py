"""Initialisation by activation: Xavier, Kaiming or LeCun for each layer, by what follows it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from stepwell.core.catalog import technique
from stepwell.core.check import require_one_of
from stepwell.core.modules.initial_weights import (
    DRAWS_ANEW,
    GAINS,
    LAYERS,
    Distribution,
    Fan,
    Nonlinearity,
    WeightLayer,
    check_draw,
    draw_weights_,
    fan_of,
    fill_,
    gain_of,
    weight_layers,
)
from stepwell.core.modules.norms import is_norm
from stepwell.core.randomness import Rng

__all__ = ["ActivationInit", "InitRow", "init_table"]

Scheme = Literal["xavier", "kaiming", "lecun"]

_SATURATING = (
    *(nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Hardtanh, nn.Softsign, nn.LogSigmoid, nn.Tanhshrink),
    *(nn.Softmax, nn.LogSoftmax),
)
# Smooth rectifiers pass large inputs and drop negative ones, as relu does: He's argument holds with their own E[f(z)^2].
_RECTIFIERS: dict[type[nn.Module], str] = {
    **dict.fromkeys((nn.ReLU, nn.ReLU6, nn.ELU, nn.CELU, nn.Softplus), "relu"),
    **dict.fromkeys((nn.SiLU, nn.Hardswish, nn.Mish), "silu"),
    nn.GELU: "gelu",
}
_POOLS = ("MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool", "Dropout", "Pad", "Upsample", "PixelShuffle")
_PASSING = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.AlphaDropout)


@dataclass(frozen=True, slots=True)
class InitRow:
    """What was decided for one layer.

    Args:
        layer: its place in the model.
        follows: the class of the activation after it, or "nothing", "unknown".
        scheme: whose variance its weights get.
        std: their standard deviation.
        reason: why.
    """

    layer: str
    follows: str
    scheme: Scheme
    std: float
    reason: str


def init_table(model: nn.Module, default: str = "relu", negative_slope: float = 0.01) -> list[InitRow]:
    """For every linear and convolution layer: what follows it, and what its weights are drawn with.

    What follows is read from the order in nn.Sequential, past norms, dropout, pooling and reshaping, and from the
    activation after the sum of a declared residual block. In any other module the order is in its code, which nobody
    reads: there `default` is taken, but for the model's last layer, which is taken for the output.

    >>> [(row.layer, row.follows, row.scheme) for row in init_table(nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1)))]
    [('0', 'ReLU', 'kaiming'), ('2', 'nothing', 'xavier')]
    """
    layers = weight_layers(model)
    return [_row(model, layer, layer is layers[-1], default, negative_slope) for layer in layers]


def _row(model: nn.Module, layer: WeightLayer, last: bool, default: str, negative_slope: float) -> InitRow:
    after, fan = _after(model, layer.name), fan_of(layer.weight)
    follows = after if isinstance(after, str) else type(after).__name__
    xavier = math.sqrt(2 / (fan.fan_in + fan.fan_out))
    if isinstance(after, _SATURATING) and type(after) not in _RECTIFIERS:  # torch makes ReLU6 a Hardtanh
        return InitRow(layer.name, follows, "xavier", xavier, "saturates on both sides")
    if isinstance(after, nn.SELU):
        return InitRow(layer.name, follows, "lecun", 1 / math.sqrt(fan.fan_in), "its fixed point assumes it")
    if isinstance(after, nn.Module):
        return InitRow(layer.name, follows, "kaiming", _gain(after) / math.sqrt(fan.fan_in), "drops about half of its input")
    if after == "nothing" or last:
        return InitRow(layer.name, follows, "xavier", xavier, "the output" if last else "no activation before the next layer")
    return InitRow(layer.name, follows, *_by_name(default, negative_slope, fan), "the default")


def _by_name(nonlinearity: str, negative_slope: float, fan: Fan) -> tuple[Scheme, float]:
    if nonlinearity in ("linear", "sigmoid", "tanh"):
        return "xavier", math.sqrt(2 / (fan.fan_in + fan.fan_out))
    if nonlinearity == "selu":
        return "lecun", 1 / math.sqrt(fan.fan_in)
    return "kaiming", gain_of(nonlinearity, negative_slope) / math.sqrt(fan.fan_in)


def _slope(activation: nn.Module) -> float | None:
    """Of a leaky rectifier, on the negative side; None for anything else."""
    if isinstance(activation, nn.LeakyReLU):
        return float(activation.negative_slope)
    if isinstance(activation, nn.RReLU):
        return (activation.lower + activation.upper) / 2
    if isinstance(activation, nn.PReLU):
        return float(activation.weight.detach().mean())
    return None


def _gain(activation: nn.Module) -> float:
    slope = _slope(activation)
    return gain_of(_RECTIFIERS[type(activation)]) if slope is None else gain_of("leaky_relu", slope)


def _is_activation(module: nn.Module) -> bool:
    return isinstance(module, (*_SATURATING, nn.SELU)) or type(module) in _RECTIFIERS or _slope(module) is not None


def _passes(module: nn.Module) -> bool:
    """Whether a module leaves the signs and sizes of what goes through it alone, or normalises them."""
    named = type(module).__module__.startswith("torch.nn.") and type(module).__name__.startswith(_POOLS)
    declared = getattr(module, "stepwell_role", None) == "layout"
    padding = type(module).__module__ == "torch.nn.modules.padding"
    return isinstance(module, _PASSING) or is_norm(module) or named or declared or padding


def _after(model: nn.Module, place: str) -> nn.Module | str:
    """The activation after a layer; "nothing" where another layer or the model's end comes first; else "unknown"."""
    while place:
        above, _, own = place.rpartition(".")
        parent = model.get_submodule(above)
        if type(parent) is nn.Sequential:
            found = _first(list(parent)[list(parent._modules).index(own) + 1 :])
            if found is not None:
                return found
        elif getattr(parent, "stepwell_role", None) == "residual" and own in ("branch", "shortcut"):
            activation = getattr(parent, "activation", None)
            if isinstance(activation, nn.Module):
                return activation if _is_activation(activation) else "unknown"
        else:
            return "unknown"
        place = above
    return "nothing"


def _first(modules: list[nn.Module]) -> nn.Module | str | None:
    """What comes first in a row of modules: an activation, "nothing" for a layer, "unknown"; None when all pass."""
    for module in modules:
        if _is_activation(module):
            return module
        if isinstance(module, LAYERS):
            return "nothing"
        if type(module) is nn.Sequential:
            found = _first(list(module))
            if found is not None:
                return found
        elif not _passes(module):
            return "unknown"
    return None


@technique(
    id="activation_init",
    slot="model",
    stage="init",
    paper="He et al. 2015, arXiv:1502.01852",
    provides=("initial_weights",),
    conflicts={"initial_weights": DRAWS_ANEW},
)
class ActivationInit:
    """Draw each layer's weights by the activation that follows it: Xavier, Kaiming or LeCun; set biases to 0.

    What: sigmoid and tanh get Xavier's variance 2 / (fan_in + fan_out), SELU gets LeCun's 1 / fan_in, rectifiers get
    Kaiming's gain^2 / fan_in, the output and what no activation follows get Xavier's. GELU and SiLU are rectifiers
    with rounded corners and get Kaiming's with a gain of their own. Why: one line for a model with several activations.
    When not: trained weights (it overwrites them); transformers, which start small (`truncated_normal_init`).
    `init_table(model)` shows what is decided for each layer.

    Args:
        default: the activation that is assumed where the order of layers is written in code ("linear" for Xavier).
        distribution: "normal" or "uniform", with the same standard deviation.
        negative_slope: of a default leaky_relu only, >= 0.

    Shapes: weights of Linear (out, in), Conv1d, Conv2d, Conv3d (out, in / groups, *kernel). Others are left alone.

    Raises:
        JobError: an unknown default or distribution.

    Paper: He et al., "Delving Deep into Rectifiers", ICCV 2015, arXiv:1502.01852; Glorot and Bengio, AISTATS 2010;
    Klambauer et al., "Self-Normalizing Neural Networks", NeurIPS 2017, arXiv:1706.02515.

    >>> model = ActivationInit()(nn.Sequential(nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 50)), Rng(0))
    >>> [round(layer.weight.detach().std().item(), 2) for layer in (model[0], model[2])]
    [0.2, 0.14]
    """

    default: Nonlinearity = "relu"
    distribution: Distribution = "normal"
    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        require_one_of("activation_init.default", self.default, (*GAINS, "leaky_relu"))
        check_draw(
            "activation_init", distribution=self.distribution, nonlinearity=self.default, negative_slope=self.negative_slope
        )

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        stds = {row.layer: row.std for row in init_table(model, self.default, self.negative_slope)}

        def fill(layer: WeightLayer, weight: Tensor, generator: torch.Generator) -> None:
            fill_(weight, stds[layer.name], self.distribution, generator)

        return draw_weights_(model, rng, fill)
