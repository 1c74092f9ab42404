"""Xavier (Glorot) initialisation: weights sized for both directions of a linear or saturating network."""

from __future__ import annotations

import math

from torch import nn

from stepwell.core.catalog import technique
from stepwell.core.modules.initial_weights import DRAWS_ANEW, Distribution, Fan, Nonlinearity, check_draw, gain_of, initialise_
from stepwell.core.randomness import Rng

__all__ = ["XavierInit", "xavier_std"]


def xavier_std(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    """gain * sqrt(2 / (fan_in + fan_out)).

    >>> xavier_std(20, 30)
    0.2
    """
    return gain * math.sqrt(2 / (fan_in + fan_out))


@technique(
    id="xavier_init",
    slot="model",
    stage="init",
    paper="Glorot and Bengio 2010, PMLR 9:249-256",
    provides=("initial_weights",),
    conflicts={"initial_weights": DRAWS_ANEW},
)
class XavierInit:
    """Draw linear and convolution weights with variance 2 / (fan_in + fan_out) times gain^2; set biases to 0.

    What: a compromise between keeping the variance of activations forwards and of gradients backwards. Why: tanh and
    sigmoid networks, output layers, attention. When not: trained weights (it overwrites them); deep rectifier
    networks (`kaiming_init`).

    Args:
        distribution: "uniform" (the paper's) or "normal", with the same standard deviation.
        nonlinearity: the activation after the layers; fixes the gain. The paper's is 1 ("linear").
        negative_slope: of leaky_relu only, >= 0.

    Shapes: weights of Linear (out, in), Conv1d, Conv2d, Conv3d (out, in / groups, *kernel). Others are left alone.

    Raises:
        JobError: an unknown distribution or nonlinearity.

    Paper: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.

    >>> model = XavierInit()(nn.Linear(20, 30), Rng(0))
    >>> bool(model.weight.abs().max() <= 0.2 * math.sqrt(3))
    True
    """

    distribution: Distribution = "uniform"
    nonlinearity: Nonlinearity = "linear"
    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        check_draw(
            "xavier_init", distribution=self.distribution, nonlinearity=self.nonlinearity, negative_slope=self.negative_slope
        )

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        gain = gain_of(self.nonlinearity, self.negative_slope)

        def std(fan: Fan) -> float:
            return xavier_std(fan.fan_in, fan.fan_out, gain)

        return initialise_(model, rng, std, self.distribution)
