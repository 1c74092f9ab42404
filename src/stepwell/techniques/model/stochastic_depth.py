"""Stochastic depth: residual branches are left out at random, sample by sample, while the model trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stepwell.core.catalog import technique
from stepwell.core.check import require_between, require_one_of
from stepwell.core.clock import Clock, Horizon
from stepwell.core.errors import JobError
from stepwell.core.modules.residual import ResidualBlock, check_patterns, residual_blocks
from stepwell.core.randomness import Rng

__all__ = ["StochasticDepth", "depth_probabilities", "drop_branch"]

_PLACE = "_stepwell_stochastic_depth"


def depth_probabilities(probability: float, num_blocks: int, decay: str = "linear") -> list[float]:
    """How often each block's branch is left out, first to last.

    Args:
        probability: of the last block, in [0, 1).
        decay: "linear": l / num_blocks * probability for block l = 1 ... (the paper's rule); "uniform": all alike.

    >>> depth_probabilities(0.5, 5)
    [0.1, 0.2, 0.3, 0.4, 0.5]
    """
    if decay == "uniform":
        return [probability] * num_blocks
    return [probability * block / num_blocks for block in range(1, num_blocks + 1)]


def drop_branch(branch: Tensor, probability: float) -> Tensor:
    """Set a branch's output to 0 for whole samples, and scale the others by 1 / (1 - probability).

    Draws one number a sample from torch's default generator; none where the probability is 0.

    Shapes: (N, ...) -> same.

    >>> drop_branch(torch.ones(2, 3), 0.0).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    if probability == 0:
        return branch
    keep = 1 - probability
    # The factor in single precision at least: in bf16 it would be rounded, and with it the mean.
    kept = torch.empty((branch.shape[0],) + (1,) * (branch.dim() - 1), device=branch.device).bernoulli_(keep)
    return (branch * kept.to(branch.dtype)) * (1 / keep)


class _Place:
    """A forward hook of a branch; copied with it."""

    def __init__(self, share: float) -> None:
        self.share, self.probability = share, 0.0

    def __call__(self, branch: nn.Module, args: Any, outputs: Tensor) -> Tensor:
        return drop_branch(outputs, self.probability) if branch.training else outputs


@technique(
    id="stochastic_depth",
    slot="model",
    stage="structure",
    paper="Huang et al. 2016, arXiv:1603.09382",
    search={"probability": (0.0, 0.5, "linear")},
)
class StochasticDepth:
    """Leave residual branches out at random while training, deeper ones more often.

    What: for each sample, block l of L adds nothing with probability l / L * probability; otherwise its branch counts
    1 / (1 - that) times, so that evaluation uses every block as it is. Why: deep networks that train as short ones
    and generalise as ensembles of them; 0.1 to 0.2 on large data. When not: a few blocks (the paper's have 54).
    All branches are computed: it regularises, it doesn't save time.

    Args:
        probability: of leaving out the last block's branch, in [0, 1). Paper: 0.5 at 54 blocks.
        decay: "linear" from the first block to the last, "uniform" for one probability.
        patterns: residual blocks by place or class, wildcards allowed; None for those that declare themselves with
            `stepwell_role = "residual"` (the models resnet and transformer). Each needs its branch in an attribute `branch`.

    Shapes: branches (N, ...) -> same.

    Raises:
        JobError: a probability out of range; no residual block, or one whose branch is no module.

    Paper: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016, arXiv:1603.09382.

    >>> from stepwell.core.signature import Signature
    >>> from stepwell.models import build
    >>> model = build("resnet", Signature("image", (1, 16, 16), 3), {}, seed=0)
    >>> StochasticDepth(probability=0.3).report(StochasticDepth(probability=0.3)(model, Rng(0)))
    'stochastic_depth drops the branches of 3 blocks at 0.1 to 0.3'
    """

    probability: float = 0.1
    decay: Literal["linear", "uniform"] = "linear"
    patterns: list[str] | None = None

    def __post_init__(self) -> None:
        fix = "To train with every block, set it to 0"
        require_between("stochastic_depth.probability", self.probability, 0.0, 1.0, fix, ends="[)")
        require_one_of("stochastic_depth.decay", self.decay, ("linear", "uniform"))
        check_patterns("stochastic_depth.patterns", self.patterns)

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        branches = _branches(residual_blocks(model, self.patterns, "stochastic_depth.patterns"))
        for branch, share in zip(branches, depth_probabilities(1.0, len(branches), self.decay), strict=True):
            if _PLACE not in branch.__dict__:
                # A hook: what a branch is called, and its state_dict, stay as they are.
                branch.__dict__[_PLACE] = _Place(share)
                branch.register_forward_hook(branch.__dict__[_PLACE])
            branch.__dict__[_PLACE].share = share
        self._set(model)
        return model

    def at(self, model: nn.Module, clock: Clock, horizon: Horizon | None) -> bool:
        """Apply the probability of the moment; which tensors train never changes."""
        self._set(model)
        return False

    def report(self, model: nn.Module) -> str:
        """How many blocks there are, and how often their branches are left out."""
        rates = [place.probability for place in _places(model)]
        return f"stochastic_depth drops the branches of {len(rates)} blocks at {min(rates):.3g} to {max(rates):.3g}"

    def _set(self, model: nn.Module) -> None:
        for place in _places(model):
            place.probability = self.probability * place.share


def _places(model: nn.Module) -> list[_Place]:
    return [module.__dict__[_PLACE] for module in model.modules() if _PLACE in module.__dict__]


def _branches(blocks: Sequence[ResidualBlock]) -> list[nn.Module]:
    for block in blocks:
        if block.branch is None:
            what = f"{block.name or 'the model'} ({type(block.module).__name__})"
            raise JobError(
                f"stochastic_depth can't tell the branch of {what} from the rest",
                expected="residual blocks with their branch in an attribute `branch`",
                fix="Keep what is added in one module self.branch, as stepwell.models.parts.Residual does",
            )
    return [block.branch for block in blocks if block.branch is not None]
