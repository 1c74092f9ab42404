"""Kaiming (He) initialisation: weights sized so that activations keep their variance through rectifiers."""

from __future__ import annotations

import math
from typing import Literal

from torch import nn

from stepwell.core.catalog import technique
from stepwell.core.check import require_one_of
from stepwell.core.modules.initial_weights import DRAWS_ANEW, Distribution, Fan, Nonlinearity, check_draw, gain_of, initialise_
from stepwell.core.randomness import Rng

__all__ = ["KaimingInit", "kaiming_std"]


def kaiming_std(fan: int, nonlinearity: str = "relu", negative_slope: float = 0.01) -> float:
    """gain / sqrt(fan).

    >>> kaiming_std(50)
    0.2
    """
    return gain_of(nonlinearity, negative_slope) / math.sqrt(fan)


@technique(
    id="kaiming_init",
    slot="model",
    stage="init",
    paper="He et al. 2015, arXiv:1502.01852",
    provides=("initial_weights",),
    conflicts={"initial_weights": DRAWS_ANEW},
)
class KaimingInit:
    """Draw linear and convolution weights with standard deviation gain / sqrt(fan); set biases to 0.

    What: a rectifier passes half of its input's second moment, so weights need twice the variance, 2 / fan_in. Why:
    deep rectifier networks whose signal neither dies nor explodes. When not: trained weights (it overwrites them);
    tanh or sigmoid networks (`xavier_init`). It is not what torch's layers do by themselves: their default is
    uniform with standard deviation 1 / sqrt(3 * fan_in).

    Args:
        mode: "fan_in" keeps the variance forwards, "fan_out" backwards.
        distribution: "normal" or "uniform", with the same standard deviation.
        nonlinearity: the activation after the layers; fixes the gain.
        negative_slope: of leaky_relu only, >= 0.

    Shapes: weights of Linear (out, in), Conv1d, Conv2d, Conv3d (out, in / groups, *kernel). Others are left alone.

    Raises:
        JobError: an unknown mode, distribution or nonlinearity.

    Paper: He et al., "Delving Deep into Rectifiers", ICCV 2015, arXiv:1502.01852.

    >>> model = KaimingInit()(nn.Linear(50, 50), Rng(0))
    >>> abs(model.weight.detach().std().item() - 0.2) < 0.01, model.bias.tolist() == [0.0] * 50
    (True, True)
    """

    mode: Literal["fan_in", "fan_out"] = "fan_in"
    distribution: Distribution = "normal"
    nonlinearity: Nonlinearity = "relu"
    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        fix = "See `stepwell techniques show kaiming_init`"
        require_one_of("kaiming_init.mode", self.mode, ("fan_in", "fan_out"), fix)
        check_draw(
            "kaiming_init", distribution=self.distribution, nonlinearity=self.nonlinearity, negative_slope=self.negative_slope
        )

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        def std(fan: Fan) -> float:
            size = fan.fan_in if self.mode == "fan_in" else fan.fan_out
            return kaiming_std(size, self.nonlinearity, self.negative_slope)

        return initialise_(model, rng, std, self.distribution)
