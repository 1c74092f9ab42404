"""Zero gamma: residual blocks that start as the identity."""

from __future__ import annotations

from torch import nn

from stepwell.core.catalog import technique
from stepwell.core.errors import JobError
from stepwell.core.modules.norms import is_norm
from stepwell.core.modules.residual import ResidualBlock, branch_modules, check_patterns, residual_blocks
from stepwell.core.randomness import Rng

__all__ = ["ZeroGamma", "last_norm"]


def last_norm(block: ResidualBlock) -> nn.Module:
    """The norm that ends a residual branch.

    Raises:
        JobError: there is no norm with a weight, or layers with weights come after it.

    >>> branch = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    >>> last_norm(ResidualBlock("block", branch, None)) is branch[1]
    True
    """
    own = [(place, part) for place, part in branch_modules(block) if any(True for _ in part.parameters(recurse=False))]
    norms = [place for place, (_, part) in enumerate(own) if is_norm(part) and part._parameters.get("weight") is not None]
    where = block.name or "the model"
    if not norms:
        raise JobError(
            f"zero_gamma found no norm with a weight in the branch of the residual block {where}",
            expected="a branch that ends with a norm",
            fix="Use residual_scaling or fixup, which need none",
        )
    name, norm = own[norms[-1]]
    if norms[-1] + 1 < len(own):
        after, layer = own[norms[-1] + 1]
        raise JobError(
            f"in the residual block {where}, {after} ({type(layer).__name__}) comes after the last norm, {name}",
            expected="a branch that ends with its norm: a rectifier after a zero would cut the branch off from every gradient",
            fix="Use residual_scaling or fixup, or put the norm last (resnet: order: post)",
        )
    return norm


@technique(id="zero_gamma", slot="model", stage="refine", paper="Goyal et al. 2017, arXiv:1706.02677")
class ZeroGamma:
    """Start the last norm of each residual branch with weight 0, so that each block starts as its shortcut.

    What: the branch adds nothing at first; the norm's weight (gamma) gets a gradient at once, the layers before it from
    the second step on. Why: very deep residual networks and large batches start like shallow ones and gain a few
    tenths of a percent. When not: trained weights; branches in which layers follow the last norm (pre-activation,
    pre-norm transformers), which are refused.

    Args:
        patterns: places or classes of the residual blocks ("layer?.*", "Bottleneck"); None for blocks that declare
            themselves.

    Raises:
        JobError: no residual block; a branch that doesn't end with a norm.

    Paper: Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017, arXiv:1706.02677, section
    5.1; He et al. 2019, arXiv:1812.01187.

    >>> class Block(nn.Module):
    ...     stepwell_role = "residual"
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.branch = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> ZeroGamma()(Block(), Rng(0)).branch[1].weight.tolist()
    [0.0, 0.0]
    """

    patterns: list[str] | None = None

    def __post_init__(self) -> None:
        check_patterns("zero_gamma.patterns", self.patterns)

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        for norm in [last_norm(block) for block in residual_blocks(model, self.patterns, "zero_gamma.patterns")]:
            nn.init.zeros_(norm.get_parameter("weight"))
        return model
