"""LeCun initialisation: weights sized so that a sum of inputs keeps their variance."""

from __future__ import annotations

import math

from torch import nn

from stepwell.core.catalog import technique
from stepwell.core.check import require_one_of
from stepwell.core.modules.initial_weights import DRAWS_ANEW, Distribution, Fan, initialise_
from stepwell.core.randomness import Rng

__all__ = ["LecunInit", "lecun_std"]


def lecun_std(fan_in: int) -> float:
    """1 / sqrt(fan_in).

    >>> lecun_std(25)
    0.2
    """
    return 1 / math.sqrt(fan_in)


@technique(
    id="lecun_init",
    slot="model",
    stage="init",
    paper="LeCun et al. 1998, Efficient BackProp",
    provides=("initial_weights",),
    conflicts={"initial_weights": DRAWS_ANEW},
)
class LecunInit:
    """Draw linear and convolution weights with variance 1 / fan_in; set biases to 0.

    What: a sum of fan_in inputs of variance 1 gets variance 1. Why: SELU networks, whose fixed point is derived for
    exactly this variance (arXiv:1706.02515). When not: trained weights (it overwrites them); rectifiers, which pass
    half of what comes in (`kaiming_init`). It is not what torch's layers do by themselves: their default has a third
    of this variance.

    Args:
        distribution: "normal" or "uniform", with the same standard deviation.

    Shapes: weights of Linear (out, in), Conv1d, Conv2d, Conv3d (out, in / groups, *kernel). Others are left alone.

    Raises:
        JobError: an unknown distribution.

    Paper: LeCun, Bottou, Orr and Mueller, "Efficient BackProp", in Neural Networks: Tricks of the Trade, 1998.

    >>> model = LecunInit()(nn.Linear(25, 400), Rng(0))
    >>> abs(model.weight.detach().std().item() - 0.2) < 0.01
    True
    """

    distribution: Distribution = "normal"

    def __post_init__(self) -> None:
        require_one_of("lecun_init.distribution", self.distribution, ("normal", "uniform"))

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        def std(fan: Fan) -> float:
            return lecun_std(fan.fan_in)

        return initialise_(model, rng, std, self.distribution)
