"""Truncated normal initialisation: a normal draw without its tails."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.modules.initial_weights import DRAWS_ANEW, WeightLayer, draw_weights_
from stepwell.core.randomness import Rng

__all__ = ["TruncatedNormalInit", "truncated_normal_"]


def truncated_normal_(weight: Tensor, std: float, cut: float, generator: torch.Generator) -> Tensor:
    """Fill a tensor with N(0, std^2), given that a value lies within `cut` standard deviations of 0.

    By inversion: a uniform number between the two ends' probabilities, through the normal's quantile function.

    >>> drawn = truncated_normal_(torch.empty(1000), 0.02, 2.0, torch.Generator())
    >>> bool(drawn.abs().max() <= 0.04)
    True
    """
    inside = math.erf(cut / math.sqrt(2))  # the probability of lying within the cut
    uniform = torch.empty(weight.shape, dtype=torch.float64).uniform_(-inside, inside, generator=generator)
    drawn = std * math.sqrt(2) * torch.erfinv(uniform)
    return weight.copy_(drawn.clamp_(-cut * std, cut * std))


@technique(
    id="truncated_normal_init",
    slot="model",
    stage="init",
    paper="Dosovitskiy et al. 2021, arXiv:2010.11929",
    search={"std": (0.005, 0.1, "log")},
    provides=("initial_weights",),
    conflicts={"initial_weights": DRAWS_ANEW},
)
class TruncatedNormalInit:
    """Draw linear and convolution weights from a normal distribution cut at 2 standard deviations; set biases to 0.

    What: small random weights, none of them large. Why: vision and language transformers start so (standard deviation
    0.02, BERT and ViT). When not: trained weights (it overwrites them); deep networks without norms, whose weights
    must depend on the width (`kaiming_init`). The standard deviation is that of the normal before the cut, as in torch
    and JAX; what is left after a cut at 2 has 0.88 of it.

    Args:
        std: standard deviation before the cut, > 0.
        cut: where the tails are cut off, in standard deviations, in (0, 8]. (Some code cuts at the absolute values -2 and 2,
            which for a standard deviation of 0.02 cuts nothing.)

    Shapes: weights of Linear (out, in), Conv1d, Conv2d, Conv3d (out, in / groups, *kernel). Others are left alone.

    Raises:
        JobError: a setting is out of range.

    Paper: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv:2010.11929 (its released code).

    >>> model = TruncatedNormalInit(std=0.1)(nn.Linear(50, 50), Rng(0))
    >>> bool(model.weight.abs().max() <= 0.2)
    True
    """

    std: float = 0.02
    cut: float = 2.0

    def __post_init__(self) -> None:
        good = 0 < self.std < math.inf
        require(good, "truncated_normal_init.std", self.std, "a finite number above 0", "Transformers start with 0.02")
        fix = "Write 2.0; beyond 8 nothing is cut"
        require_between("truncated_normal_init.cut", self.cut, 0.0, 8.0, fix, ends="(]")

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        def fill(layer: WeightLayer, weight: Tensor, generator: torch.Generator) -> None:
            truncated_normal_(weight, self.std, self.cut, generator)

        return draw_weights_(model, rng, fill)
