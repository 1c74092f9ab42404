"""Fixup: residual networks without norms that train, by their initialisation and a few scalars."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stepwell.core.catalog import technique
from stepwell.core.errors import JobError, nearest
from stepwell.core.modules.initial_weights import LAYERS, weight_layers
from stepwell.core.modules.norms import is_norm
from stepwell.core.modules.residual import ResidualBlock, branch_modules, check_patterns, residual_blocks
from stepwell.core.randomness import Rng

__all__ = ["Fixup", "fixup_factor"]

_BIAS, _SCALE = "fixup_bias", "fixup_scale"


def fixup_factor(num_blocks: int, num_layers: int) -> float:
    """L^(-1 / (2m - 2)): what the weights inside a branch of m layers are multiplied by, in a network of L branches.

    A branch of one layer has no weights but the last, which are 0.

    >>> fixup_factor(16, 2), fixup_factor(16, 3), fixup_factor(16, 1)
    (0.25, 0.5, 1.0)
    """
    return 1.0 if num_layers == 1 else float(num_blocks ** (-1 / (2 * num_layers - 2)))


def _layers(block: ResidualBlock) -> list[nn.Module]:
    """The linear and convolution layers of a branch.

    Raises:
        JobError: a norm in it, weights of another kind, or none.
    """
    where, parts = block.name or "the model", branch_modules(block)
    for name, part in parts:
        if is_norm(part):
            raise JobError(
                f"fixup found a norm in the branch of the residual block {where}: {name}",
                expected="branches without norms, which is what fixup is for",
                fix="Take them out with {name: swap_norm, old: any, to: none}, or use zero_gamma",
            )
        own = part.parameters(recurse=False)
        if type(part) not in LAYERS and any(parameter.ndim > 1 for parameter in own):
            raise JobError(
                f"fixup can't scale the weights of {name}, a {type(part).__name__}",
                expected="branches of linear and convolution layers",
                fix="Leave its block out of fixup.patterns, or use residual_scaling",
            )
    layers: list[nn.Module] = [part for _, part in parts if isinstance(part, LAYERS)]
    if not layers:
        raise JobError(
            f"fixup found no linear or convolution layer in the branch of the residual block {where}",
            expected="a branch with weights",
            fix="Name the blocks in fixup.patterns",
        )
    return layers


def _output(model: nn.Module, inside: set[int], head: str | None) -> nn.Module:
    outside = {layer.name: layer.module for layer in weight_layers(model) if id(layer.module) not in inside}
    if head is None and outside:
        return list(outside.values())[-1]
    if head not in outside:
        raise JobError(
            "fixup found no output layer of its own" if head is None else f"fixup.head is {head!r}",
            expected="a linear or convolution layer outside the residual blocks, whose weights are not an embedding's too",
            fix=nearest(head or "head", outside),
        )
    return outside[head]


def _is_activation(module: nn.Module) -> bool:
    # A softmax doesn't feel a number that is added to all of its inputs.
    if isinstance(module, (nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin)):
        return False
    return type(module).__module__ == "torch.nn.modules.activation" and not any(True for _ in module.children())


def _give_scalar_(module: nn.Module, name: str, value: float, like: Tensor) -> None:
    if name in module._parameters:
        return
    module.register_parameter(name, nn.Parameter(torch.full((1,), value, dtype=like.dtype, device=like.device)))
    module.__dict__["stepwell_roles"] = {**getattr(module, "stepwell_roles", {}), name: "scale"}
    # A hook on the layer itself: no module is wrapped, so every other tensor keeps its name.
    if name == _BIAS:
        module.register_forward_pre_hook(_add_bias)
    else:
        module.register_forward_hook(_multiply)


def _add_bias(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (args[0] + module._parameters[_BIAS], *args[1:])


def _multiply(module: nn.Module, args: Any, outputs: Tensor) -> Tensor:
    return outputs * module.get_parameter(_SCALE)


@technique(
    id="fixup",
    slot="model",
    stage="refine",
    paper="Zhang et al. 2019, arXiv:1901.09321",
    conflicts={
        "zero_gamma": "fixup is for branches without norms, and zeroes their last layer itself (Zhang et al. 2019, section 3)"
    },
)
class Fixup:
    """Start a residual network without norms so that each step changes its output by as much as the learning rate.

    What: in each of L branches of m layers, all weights but the last are multiplied by L^(-1 / (2m - 2)), the last are
    0; the output layer is 0; before every linear layer, convolution and activation a scalar bias (from 0) is added, and
    each branch has a scalar multiplier (from 1). Why: deep residual networks without norms: batches of one, no
    train-evaluation gap. When not: branches with norms (take them out with `swap_norm` first; refused otherwise);
    trained weights. The weights that are scaled are those the model has: put `kaiming_init` into the recipe to draw
    them as the paper does. The scalars (`fixup_bias`, `fixup_scale`) declare the role "scale", which
    `decay_groups` leaves undecayed.

    Args:
        patterns: places or classes of the residual blocks; None for blocks that declare themselves.
        head: name of the output layer; None for the last layer outside the blocks.

    Raises:
        JobError: no residual block, a norm or unknown weights in a branch, no output layer.

    Paper: Zhang, Dauphin and Ma, "Fixup Initialization: Residual Learning Without Normalization", ICLR 2019,
    arXiv:1901.09321.

    >>> class Block(nn.Module):
    ...     stepwell_role = "residual"
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.branch = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    ...     def forward(self, x):
    ...         return x + self.branch(x)
    >>> model = Fixup()(nn.Sequential(Block(), Block(), nn.Linear(2, 1)), Rng(0))
    >>> model[:2](torch.ones(1, 2)).tolist(), model(torch.ones(1, 2)).tolist()
    ([[1.0, 1.0]], [[0.0]])
    """

    patterns: list[str] | None = None
    head: str | None = None

    def __post_init__(self) -> None:
        check_patterns("fixup.patterns", self.patterns)

    @torch.no_grad()
    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        blocks = residual_blocks(model, self.patterns, "fixup.patterns")
        branches = [_layers(block) for block in blocks]
        inside = {id(module) for block in blocks for module in block.module.modules()}
        head = _output(model, inside, self.head)
        for branch in branches:
            for layer in branch[:-1]:
                layer.get_parameter("weight").mul_(fixup_factor(len(blocks), len(branch)))
        for layer in [head, *(branch[-1] for branch in branches)]:
            for parameter in (layer._parameters[name] for name in ("weight", "bias")):
                if parameter is not None:
                    parameter.zero_()
        like = head.get_parameter("weight")
        for module in list(model.modules()):
            if type(module) in LAYERS or _is_activation(module):
                _give_scalar_(module, _BIAS, 0.0, like)
        for branch in branches:
            _give_scalar_(branch[-1], _SCALE, 1.0, like)
        return model
