"""Swap norm: one kind of norm layer in place of another, on an existing model."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal, get_args

import torch
from torch import nn

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_one_of
from stepwell.core.errors import JobError, nearest
from stepwell.core.modules.norms import AnyBatchNorm, ChannelRms, NormKind, PerPosition, check_groups, kind_of, norm
from stepwell.core.randomness import Rng

__all__ = ["SwapNorm", "swapped_norm"]

# Exactly these: a subclass may do more (a norm and an activation in one), which would be lost. Dimensions after the
# channels; None where the class works for any number of them.
_CHANNELS: dict[type[nn.Module], int | None] = {
    nn.BatchNorm2d: 2,
    nn.BatchNorm3d: 3,
    nn.InstanceNorm1d: 1,
    nn.InstanceNorm2d: 2,
    nn.InstanceNorm3d: 3,
    **dict.fromkeys((nn.BatchNorm1d, nn.SyncBatchNorm, AnyBatchNorm, nn.GroupNorm, ChannelRms)),
}
_FEATURES = (nn.LayerNorm, nn.RMSNorm)


def swapped_norm(old: nn.Module, to: NormKind | Literal["none"], num_groups: int | None = None) -> nn.Module:
    """A norm of another kind for the place of `old`: same width, eps, device and dtype, and its weight and bias.

    Raises:
        JobError: instance norm for features, which are single numbers; groups that don't divide the width.

    >>> swapped_norm(nn.BatchNorm2d(8), "group").num_groups, type(swapped_norm(nn.LayerNorm(8), "rms")).__name__
    (2, 'RMSNorm')
    """
    if to == "none":
        return nn.Identity()
    width, affine = _width(old), old._parameters.get("weight") is not None
    if to == "group" and num_groups is not None:
        check_groups("swap_norm.num_groups", num_groups, width)
    known = getattr(old, "eps", None)
    eps = 1e-5 if known is None else float(known)
    dims = 0 if isinstance(old, _FEATURES) else _CHANNELS[type(old)]
    if to == "instance" and dims == 0:
        raise JobError(
            "swap_norm can't put instance norm in the place of a norm of features",
            expected="channels of more than one number: a feature of a position is a single one",
            fix="Swap to group or rms",
        )
    if to == "batch" and dims is None:
        new: nn.Module = AnyBatchNorm(width, eps=eps, affine=affine)
    elif to == "instance" and dims is None:
        # A group per channel is the same, for any number of dimensions, and refuses channels of a single number.
        new = nn.GroupNorm(width, width, eps, affine)
    else:
        new = norm(to, width, 1 if dims is None else dims, num_groups=num_groups, eps=eps, affine=affine)
    if dims == 0 and to in ("batch", "group"):
        new = PerPosition(new)
    _take_over_(new, old)
    return new


def _width(old: nn.Module) -> int:
    if isinstance(old, _FEATURES):
        if len(old.normalized_shape) != 1:
            raise JobError(
                f"swap_norm can't swap a {type(old).__name__} over {tuple(old.normalized_shape)}",
                expected="one over the features of the last dimension",
                fix="Leave it out of swap_norm.patterns",
            )
        return int(old.normalized_shape[0])
    name = {nn.GroupNorm: "num_channels", ChannelRms: "width"}.get(type(old), "num_features")
    return int(getattr(old, name))


@torch.no_grad()
def _take_over_(new: nn.Module, old: nn.Module) -> None:
    tensors = [*old._parameters.values(), *old._buffers.values()]
    like = next((tensor for tensor in tensors if tensor is not None and tensor.is_floating_point()), None)
    if like is not None:
        new.to(device=like.device, dtype=like.dtype)
    new.train(old.training)
    inner = new.norm if isinstance(new, PerPosition) else new
    for name in ("weight", "bias"):
        source, target = old._parameters.get(name), inner._parameters.get(name)
        if source is not None and target is not None and source.shape == target.shape:
            target.copy_(source)
            target.requires_grad_(source.requires_grad)


def _matched(model: nn.Module, old: str, patterns: Sequence[str] | None) -> list[str]:
    kinds = {name: kind_of(module) for name, module in model.named_modules(remove_duplicate=False)}
    norms = {name: kind for name, kind in kinds.items() if kind is not None and old in (kind, "any")}
    norms = {name: kind for name, kind in norms.items() if type(model.get_submodule(name)) in (*_CHANNELS, *_FEATURES)}
    if not norms:
        found = sorted({type(module).__name__ for module in model.modules() if kind_of(module) is not None})
        raise JobError(
            f"swap_norm found no {old} norm in the model" if old != "any" else "swap_norm found no norm in the model",
            expected=f"one that is torch's own class; the model has {', '.join(found) or 'none'}",
            fix="Set swap_norm.old to the kind that the model has, or leave swap_norm out",
        )
    chosen: list[str] = []
    for pattern in patterns or ["*"]:
        covered = [name for name in norms if any(fnmatchcase(part, pattern) for part in _prefixes(name))]
        if not covered:
            raise JobError(
                f"swap_norm.patterns has {pattern!r}, which covers no {old} norm",
                expected="the name of a module, or a pattern such as 'layer1*'",
                fix=nearest(pattern, norms),
            )
        chosen += covered
    return list(dict.fromkeys(chosen))


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


@technique(id="swap_norm", slot="model", stage="structure", paper="Wu and He 2018, arXiv:1803.08494")
class SwapNorm:
    """Put one kind of norm in the place of another, everywhere or where patterns say.

    What: each norm gets a successor of the same width, eps, weight and bias (as far as the new kind has them). Layer
    and rms norm in the place of a norm of channels work on all numbers of a sample, with a weight per channel; batch
    and group norm in the place of a norm of features work on each position. Why: batches too small for batch norm
    (group), a cheaper layer norm (rms), networks without norms (none, for `fixup`). When not: a trained model, whose
    weights were fitted to the norm they had; running statistics are lost. Batch norm per position lets positions see
    each other: never in a causal model.

    Args:
        old: the kind to be replaced, "any" for all kinds. Only torch's own classes are.
        to: the kind that takes its place; "none" leaves nothing there.
        num_groups: of group norm, a divisor of every width, >= 1; None takes at most 32 groups of at least 4 channels.
        patterns: modules, e.g. ["layer[1-3]", "body.*"]; a module covers everything inside it; None for all.

    Raises:
        JobError: no norm of the old kind; a pattern that covers none; groups that don't divide the width; old and
            new kinds are the same; instance norm for features.

    Paper: Wu and He, "Group Normalization", ECCV 2018, arXiv:1803.08494.

    >>> SwapNorm(old="batch", to="group", num_groups=2)(nn.Sequential(nn.BatchNorm2d(8)), Rng(0))[0].num_groups
    2
    """

    old: Literal["batch", "layer", "group", "instance", "rms", "any"] = "batch"
    to: Literal["group", "layer", "batch", "instance", "rms", "none"] = "group"
    num_groups: int | None = None
    patterns: list[str] | None = None

    def __post_init__(self) -> None:
        require_one_of("swap_norm.old", self.old, (*get_args(NormKind), "any"))
        require_one_of("swap_norm.to", self.to, (*get_args(NormKind), "none"))
        require(self.old != self.to, "swap_norm.to", self.to, "another kind than swap_norm.old", "Leave swap_norm out")
        groups = self.num_groups
        require(groups is None or 1 <= groups <= 65536, "swap_norm.num_groups", groups, "a number from 1 up", "Leave it out")
        names = self.patterns
        good = names is None or (isinstance(names, (list, tuple)) and bool(names) and all(isinstance(n, str) for n in names))
        require(good, "swap_norm.patterns", names, "a list of names", 'Write e.g. ["layer1"], or leave it out')

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        made: dict[int, nn.Module] = {}
        for name in _matched(model, self.old, self.patterns):
            module = model.get_submodule(name)
            if id(module) not in made:  # one norm in two places stays one
                made[id(module)] = swapped_norm(module, self.to, self.num_groups)
            if not name:
                return made[id(module)]
            above, _, own = name.rpartition(".")
            parent = model.get_submodule(above)
            parent._modules[own] = made[id(module)]
            if isinstance(parent, nn.TransformerEncoderLayer):
                # Its fast path at evaluation computes layer norm by itself, from a weight and a bias.
                parent.activation_relu_or_gelu = 0
        return model
