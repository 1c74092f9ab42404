"""Residual scaling: the last layer of each residual branch starts smaller, so that the sum of all keeps its size."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stepwell.core.catalog import technique
from stepwell.core.errors import JobError
from stepwell.core.modules.initial_weights import LAYERS
from stepwell.core.modules.residual import ResidualBlock, branch_modules, check_patterns, residual_blocks
from stepwell.core.randomness import Rng

__all__ = ["ResidualScaling", "residual_factor"]


def residual_factor(num_branches: int) -> float:
    """1 / sqrt(branches), which for N transformer layers of two branches is GPT-2's 1 / sqrt(2 N).

    >>> residual_factor(4)
    0.5
    """
    return 1 / math.sqrt(num_branches)


def _last_weight(block: ResidualBlock) -> Tensor:
    layers = [part for _, part in branch_modules(block) if isinstance(part, LAYERS)]
    if not layers:
        raise JobError(
            f"residual_scaling found no linear or convolution layer in the branch of {block.name or 'the model'}",
            expected="a branch that ends with a layer with weights",
            fix="Name the blocks in residual_scaling.patterns",
        )
    return layers[-1].get_parameter("weight")


@technique(id="residual_scaling", slot="model", stage="refine", paper="Radford et al. 2019, GPT-2, section 2.3")
class ResidualScaling:
    """Multiply the weights of the last layer of each residual branch by 1 / sqrt(number of branches).

    What: the residual stream is a sum of all branches, whose variance grows with their number; scaled, it doesn't.
    Why: deep transformers, and residual networks without norms at the ends of their branches. When not: trained weights;
    branches that end with a norm, which undoes it (`zero_gamma`); stepwell's own transformer as it is built, which
    starts so already and needs it only after an initialisation technique.

    Args:
        patterns: places or classes of the residual blocks, or of the branches themselves where a block has several
            (["blocks.*.attn", "blocks.*.mlp"]); None for blocks that declare themselves. Each counts as one branch.

    Raises:
        JobError: no residual block; a branch without a linear or convolution layer.

    Paper: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.3.

    >>> class Block(nn.Module):
    ...     stepwell_role = "residual"
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.branch = nn.Linear(1, 1)
    >>> model = nn.Sequential(*(Block() for _ in range(4)))
    >>> before = model[0].branch.weight.item()
    >>> ResidualScaling()(model, Rng(0))[0].branch.weight.item() == before / 2
    True
    """

    patterns: list[str] | None = None

    def __post_init__(self) -> None:
        check_patterns("residual_scaling.patterns", self.patterns)

    @torch.no_grad()
    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        blocks = residual_blocks(model, self.patterns, "residual_scaling.patterns")
        for weight in [_last_weight(block) for block in blocks]:
            weight.mul_(residual_factor(len(blocks)))
        return model
