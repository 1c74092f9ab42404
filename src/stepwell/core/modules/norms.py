"""Norm layers: what is one, of which kind, and a new one of any kind for a width and a number of dimensions."""

from __future__ import annotations

import math
from typing import Literal, final, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from stepwell.core.check import require, require_one_of
from stepwell.core.errors import JobError

__all__ = ["AnyBatchNorm", "ChannelRms", "NormKind", "PerPosition", "default_groups", "is_norm", "kind_of", "norm"]

NormKind = Literal["batch", "layer", "group", "instance", "rms"]

_MOST_GROUPS, _LEAST_PER_GROUP = 32, 4
_BATCH: dict[int, type[_BatchNorm]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE: dict[int, type[_InstanceNorm]] = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


@final
class ChannelRms(nn.Module):
    """RMS norm of a whole sample, with a weight per channel: what group norm with one group is, without the mean.

    torch's RMSNorm works on the last dimensions; this one on channels that come second.

    Args:
        width: channels.
        eps: added to the mean square, > 0.
        affine: whether there is a weight.

    Shapes: (N, width, ...) -> same.

    Paper: Zhang and Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019, arXiv:1910.07467.

    >>> ChannelRms(2, eps=1e-12)(torch.tensor([[[3.0], [4.0]]])).square().mean().item()
    1.0
    """

    def __init__(self, width: int, *, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.width = width
        self.eps = eps
        self.weight: nn.Parameter | None = nn.Parameter(torch.ones(width)) if affine else None

    def forward(self, inputs: Tensor) -> Tensor:
        # Squares of 16-bit numbers overflow or lose their small digits.
        wide = inputs.float() if inputs.dtype in (torch.float16, torch.bfloat16) else inputs
        moment = wide.square().mean(dim=tuple(range(1, inputs.ndim)), keepdim=True)
        scaled = (wide * torch.rsqrt(moment + self.eps)).to(inputs.dtype)
        if self.weight is None:
            return scaled
        return scaled * self.weight.to(inputs.dtype).view(-1, *[1] * (inputs.ndim - 2))

    def extra_repr(self) -> str:
        return f"{self.width}, eps={self.eps}"


@final
class AnyBatchNorm(_BatchNorm):
    """Batch norm of channels that come second, for any number of dimensions after them: (N, width, ...) -> same."""

    def _check_input_dim(self, input: Tensor) -> None:
        require(input.ndim >= 2, "input", tuple(input.shape), "(N, channels, ...)", "Add a dimension for the samples")


@final
class PerPosition(nn.Module):
    """A norm of vectors, used at every position of (..., width) as if each position were a sample.

    Args:
        norm: (M, width) -> (M, width).

    >>> PerPosition(nn.GroupNorm(2, 4))(torch.zeros(3, 5, 4)).shape
    torch.Size([3, 5, 4])
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.norm(inputs.reshape(-1, inputs.shape[-1]))
        return outputs.view(inputs.shape)


def kind_of(module: nn.Module) -> NormKind | None:
    """Which kind of norm a module is, None where it is none that torch or stepwell has.

    >>> kind_of(nn.RMSNorm(4)), kind_of(nn.SyncBatchNorm(4)), kind_of(nn.Linear(4, 4))
    ('rms', 'batch', None)
    """
    kinds: dict[NormKind, tuple[type[nn.Module], ...]] = {
        "instance": (_InstanceNorm,),
        "batch": (_BatchNorm,),
        "layer": (nn.LayerNorm,),
        "group": (nn.GroupNorm,),
        "rms": (nn.RMSNorm, ChannelRms),
    }
    return next((kind for kind, types in kinds.items() if isinstance(module, types)), None)


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm layer: one of torch's, ours, or another library's.

    Another library's is known by its class, called ...Norm (LlamaRMSNorm), that holds one vector of weights and no
    other module.

    >>> [is_norm(module) for module in (nn.LayerNorm(4), nn.Linear(4, 4), nn.ReLU())]
    [True, False, False]
    """
    if kind_of(module) is not None:
        return True
    named = type(module).__name__.lower().rstrip("123d_").endswith("norm")
    alone = not any(True for _ in module.children())
    weight = module._parameters.get("weight")
    return named and alone and weight is not None and weight.ndim == 1


def default_groups(width: int) -> int:
    """Groups of a group norm where nobody says: at most 32, the paper's, of at least 4 channels each.

    Group norm of single numbers would leave nothing of them.

    Paper: Wu and He, "Group Normalization", ECCV 2018, arXiv:1803.08494.

    >>> [default_groups(width) for width in (3, 16, 64, 96, 256)]
    [1, 4, 16, 24, 32]
    """
    most = min(_MOST_GROUPS, max(1, width // _LEAST_PER_GROUP))
    return max(groups for groups in range(1, most + 1) if width % groups == 0)


def check_groups(name: str, num_groups: int, width: int) -> None:
    """Refuse a number of groups that doesn't divide the channels.

    Raises:
        JobError: it doesn't.
    """
    fix = f"The nearest that fits is {math.gcd(num_groups, width)}; leave it out to have it chosen by the width"
    require(width % num_groups == 0, name, num_groups, f"a divisor of the {width} channels", fix)


def norm(
    name: NormKind, width: int, dims: int, *, num_groups: int | None = None, eps: float = 1e-5, affine: bool = True
) -> nn.Module:
    """A new norm layer.

    Args:
        name: "batch" over the samples of a channel; "layer" over all numbers of a sample; "group" over groups of its
            channels; "instance" over each of its channels; "rms" as layer, by the root mean square, without the mean.
        width: channels or features, >= 1.
        dims: dimensions after the channels: 0 for vectors and for features that come last (..., width), 1 for series
            (N, width, T), 2 for images, 3 for volumes.
        num_groups: of group norm, a divisor of width; None chooses by `default_groups`.
        eps: added to the variance, > 0.
        affine: whether there is a weight, and (but for rms) a bias, per channel.

    Shapes: the same out as in. With dims 0, "batch" and "group" take (N, width) only.

    Raises:
        JobError: an unknown name; instance norm of vectors, whose channels are single numbers.

    >>> [type(norm("layer", 8, dims)).__name__ for dims in (0, 2)]
    ['LayerNorm', 'GroupNorm']
    """
    require_one_of("norm", name, get_args(NormKind))
    require(dims in (0, 1, 2, 3), "dims", dims, "0, 1, 2 or 3", "Count the dimensions after the channels")
    if name == "batch":
        return _BATCH[max(dims, 1)](width, eps=eps, affine=affine)
    if name == "layer":
        return nn.GroupNorm(1, width, eps, affine) if dims else nn.LayerNorm(width, eps=eps, elementwise_affine=affine)
    if name == "rms":
        return ChannelRms(width, eps=eps, affine=affine) if dims else nn.RMSNorm(width, eps=eps, elementwise_affine=affine)
    if name == "group":
        if num_groups is not None:
            check_groups("num_groups", num_groups, width)
        return nn.GroupNorm(num_groups or default_groups(width), width, eps, affine)
    if dims == 0:
        raise JobError(
            "instance norm was asked for vectors",
            expected="channels of more than one number: series, images or volumes",
            fix="Use layer norm for vectors",
        )
    return _INSTANCE[dims](width, eps=eps, affine=affine)
