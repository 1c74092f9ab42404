"""Orthogonal initialisation: weights that turn their inputs without stretching them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stepwell.core.catalog import technique
from stepwell.core.modules.initial_weights import DRAWS_ANEW, Nonlinearity, WeightLayer, check_draw, draw_weights_, gain_of
from stepwell.core.modules.orthogonal import orthogonal
from stepwell.core.randomness import Rng

__all__ = ["OrthogonalInit", "orthogonal_weight"]


def orthogonal_weight(shape: torch.Size, gain: float, generator: torch.Generator) -> Tensor:
    """A weight (out, in, *kernel) whose rows, or columns where there are fewer, are orthogonal and of length `gain`.

    >>> weight = orthogonal_weight(torch.Size([2, 3, 1, 1]), 2.0, torch.Generator())
    >>> (weight.flatten(1) @ weight.flatten(1).T).round(decimals=4).tolist()
    [[4.0, 0.0], [0.0, 4.0]]
    """
    return gain * orthogonal(shape[0], math.prod(shape[1:]), generator).view(shape)


@technique(
    id="orthogonal_init",
    slot="model",
    stage="init",
    paper="Saxe et al. 2014, arXiv:1312.6120",
    provides=("initial_weights",),
    conflicts={"initial_weights": DRAWS_ANEW},
)
class OrthogonalInit:
    """Draw linear and convolution weights as random orthogonal matrices times a gain; set biases to 0.

    What: a square layer keeps the length of every input, not only the mean over inputs, and of every gradient too.
    Why: very deep or recurrent networks, small reinforcement-learning networks. When not: trained weights (it
    overwrites them); huge layers, where the QR decomposition takes its time.

    Args:
        nonlinearity: the activation after the layers; fixes the gain. "linear" has gain 1, the paper's.
        negative_slope: of leaky_relu only, >= 0.

    Shapes: weights of Linear (out, in), Conv1d, Conv2d, Conv3d (out, in / groups, *kernel), the latter seen as
        matrices (out, the rest). Others are left alone; `recurrent_init` is for recurrent layers.

    Raises:
        JobError: an unknown nonlinearity.

    Paper: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks", ICLR 2014, arXiv:1312.6120.

    >>> model, vector = OrthogonalInit()(nn.Linear(9, 9), Rng(0)), torch.arange(9.0)
    >>> bool((model(vector).norm() / vector.norm() - 1).abs() < 1e-5)
    True
    """

    nonlinearity: Nonlinearity = "linear"
    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        check_draw("orthogonal_init", distribution="normal", nonlinearity=self.nonlinearity, negative_slope=self.negative_slope)

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        gain = gain_of(self.nonlinearity, self.negative_slope)

        def fill(layer: WeightLayer, weight: Tensor, generator: torch.Generator) -> None:
            weight.copy_(orthogonal_weight(weight.shape, gain, generator))

        return draw_weights_(model, rng, fill)
