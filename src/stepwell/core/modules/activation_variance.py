"""How large activations are through the depth of a network: measured on any model, and predicted for a plain one.

The prediction. A layer of n inputs x and independent weights of mean 0 and standard deviation s has sums
z = w . x which, given x, are normal with variance s^2 |x|^2 = n s^2 E[x^2]: the *second moment* of what comes in counts,
not its variance, for a rectifier's outputs don't have mean 0. A rectifier keeps half of it, so

    E[x_l^2] = (n s^2 / 2)^l E[x_0^2]

in the mean over weights, exactly and at every width. He et al. 2015 (arXiv:1502.01852) choose s^2 = 2 / n for this
reason. At n = 512 and s = 0.01 the factor is 0.0256, and after 20 layers 1.5e-32 is left (the variance about the mean is
1 - 1/pi = 0.68 of it); at s = 1 it is 256^20 = 1.5e48, more than float32 holds. A text that prints 1.2e-18 for the first
experiment can't have run it.

One network strays from the mean: a layer's mean square has relative variance 5 / n around its expectation
(E[relu(z)^4] / E[relu(z)^2]^2 - 1 = 1.5 / 0.25 - 1 = 5), and the layers' factors multiply.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.core.batch import Tree
from stepwell.core.check import require, require_one_of
from stepwell.core.errors import JobError
from stepwell.core.modules.initial_weights import LAYERS, draw_, named
from stepwell.core.randomness import Rng, seeded_defaults
from stepwell.core.slots import call_model

__all__ = ["ActivationMoments", "activation_variance", "plain_network", "predicted_moments", "relative_spread", "weight_stds"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "linear": nn.Identity}


@dataclass(frozen=True, slots=True)
class ActivationMoments:
    """Size of what comes out of one place of a network, over all samples and units.

    Args:
        name: the place ("body.3"), "inputs" for what goes in.
        mean: E[x].
        second_moment: E[x^2].
    """

    name: str
    mean: float
    second_moment: float

    @property
    def variance(self) -> float:
        """E[x^2] - E[x]^2; not a number where the activations overflowed."""
        return self.second_moment - self.mean**2


def activation_variance(model: nn.Module, inputs: Tree) -> list[ActivationMoments]:
    """What goes into a model and what comes out of each of its activations (of each layer, where it has none), in order.

    The model runs once, as a copy, in the mode it is in; nothing about it or about the global generators changes.

    Args:
        model: any module.
        inputs: what it is called with: a tensor, a dict of keyword arguments, or a tuple.

    Raises:
        JobError: a model without activations and layers.

    >>> rows = activation_variance(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.ones(2, 4))
    >>> [row.name for row in rows], rows[0].second_moment, rows[0].variance
    (['inputs', '1'], 1.0, 0.0)
    """
    found: list[ActivationMoments] = []
    if isinstance(inputs, Tensor) and inputs.is_floating_point():
        found.append(_moments("inputs", inputs))
    copied = copy.deepcopy(model)
    places = [(name, part) for name, part in copied.named_modules() if _is_activation(part)]
    places = places or [(name, part) for name, part in copied.named_modules() if isinstance(part, LAYERS)]
    if not places:
        raise JobError(
            "the model has no activation and no layer to measure",
            expected="modules such as nn.ReLU or nn.Linear",
            fix="Make its activations modules: what functions compute inside a forward pass can't be seen from outside",
        )
    for name, part in places:
        part.register_forward_hook(_recorder(name, found))
    with torch.no_grad(), seeded_defaults(0):
        call_model(copied, inputs)
    return found


def _is_activation(module: nn.Module) -> bool:
    return type(module).__module__ == "torch.nn.modules.activation" and not any(True for _ in module.children())


def _moments(name: str, values: Tensor) -> ActivationMoments:
    wide = values.detach().double()
    return ActivationMoments(name, wide.mean().item(), wide.square().mean().item())


def _recorder(name: str, found: list[ActivationMoments]) -> Callable[[nn.Module, Any, Any], None]:
    def record(module: nn.Module, args: Any, outputs: Any) -> None:
        if isinstance(outputs, Tensor):
            found.append(_moments(name, outputs))

    return record


def weight_stds(width: int) -> dict[str, float]:
    """Standard deviations that are usually compared, for square layers: name -> standard deviation of a weight.

    torch's default for linear layers is none of the named schemes: uniform within 1 / sqrt(fan_in).

    >>> {name: round(std, 4) for name, std in weight_stds(512).items()}
    {'too small': 0.01, "torch's default": 0.0255, 'Xavier': 0.0442, 'He': 0.0625, 'too large': 1.0}
    """
    default, xavier, he = (math.sqrt(share / width) for share in (1 / 3, 1, 2))
    return {"too small": 0.01, "torch's default": default, "Xavier": xavier, "He": he, "too large": 1.0}


def plain_network(*, depth: int, width: int, std: float, activation: str = "relu", seed: int = 0) -> nn.Sequential:
    """Square linear layers without biases, each followed by an activation, with normal weights.

    Args:
        depth: layers, >= 1.
        width: units of each, >= 1.
        std: standard deviation of a weight, >= 0.
        activation: "relu", "tanh" or "linear".
        seed: of the weights.

    Shapes: (N, width) -> (N, width).

    >>> len(plain_network(depth=3, width=4, std=0.5))
    6
    """
    require_one_of("activation", activation, tuple(_ACTIVATIONS))
    require(depth >= 1 and width >= 1, "depth, width", (depth, width), "numbers from 1 up", "Make them 1 or more")
    parts: list[nn.Module] = []
    for layer in range(depth):
        linear = nn.utils.skip_init(nn.Linear, width, width, bias=False)  # type: ignore[no-untyped-call]
        draw_(linear.weight, named(Rng(seed), f"{layer}.weight"), lambda weight, g: weight.normal_(0.0, std, generator=g))
        parts += [linear, _ACTIVATIONS[activation]()]
    return nn.Sequential(*parts)


def predicted_moments(
    *, depth: int, width: int, std: float, activation: str = "relu", second_moment: float = 1.0
) -> list[ActivationMoments]:
    """The moments after 0, 1, ... depth layers of a plain network, by theory (see the head of this module).

    For relu and linear the second moments are exact in the mean over weights; for tanh they hold for wide layers.

    Args:
        depth: layers, >= 1.
        width: units of each, >= 1.
        std: standard deviation of a weight, >= 0.
        activation: "relu", "tanh" or "linear".
        second_moment: E[x^2] of the inputs.

    >>> f"{predicted_moments(depth=20, width=512, std=0.01)[-1].second_moment:.2e}"
    '1.46e-32'
    """
    require_one_of("activation", activation, tuple(_ACTIVATIONS))
    rows = [ActivationMoments("inputs", 0.0, second_moment)]
    for layer in range(depth):
        spread = width * std**2 * rows[-1].second_moment  # of the sums, before the activation
        rows.append(ActivationMoments(str(2 * layer + 1), *_after(activation, spread)))
    return rows


def _after(activation: str, spread: float) -> tuple[float, float]:
    """Mean and second moment of an activation of N(0, spread)."""
    if activation == "relu":
        return math.sqrt(spread / (2 * math.pi)), spread / 2
    if activation == "linear":
        return 0.0, spread
    # An even function against the normal density: the trapezoid rule, which is exact to rounding for such integrals.
    step = 1 / 64
    grid = step * torch.arange(-640, 641, dtype=torch.float64)
    mass = step * torch.exp(-grid.square() / 2) / math.sqrt(2 * math.pi)
    return 0.0, float((mass * torch.tanh(math.sqrt(spread) * grid).square()).sum())


def relative_spread(*, depth: int, width: int) -> float:
    """How far one rectifier network's last second moment strays from the prediction: relative standard deviation.

    sqrt((1 + 5 / width)^depth - 1) for one sample; more samples through the same weights don't lower it much.

    >>> round(relative_spread(depth=20, width=512), 2)
    0.46
    """
    return math.sqrt((1 + 5 / width) ** depth - 1)
