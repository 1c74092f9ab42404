"""Parts that several models are made of: activations, residual branches, embeddings of categories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from stepwell.core.check import require, require_between
from stepwell.core.modules.norms import norm as make_norm

__all__ = [
    "Activation",
    "CategoryEmbeddings",
    "ChannelNorm",
    "Residual",
    "activation",
    "centres_channels",
    "channel_norm",
    "check_dropout",
    "check_sizes",
    "embedding_width",
]

Activation = Literal["relu", "gelu", "silu", "tanh"]
ChannelNorm = Literal["none", "batch", "layer", "group", "instance", "rms"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


def activation(name: Activation) -> nn.Module:
    """The layer of an activation.

    >>> activation("relu")(torch.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return _ACTIVATIONS[name]()


def channel_norm(name: ChannelNorm, width: int) -> list[nn.Module]:
    """The norm layer after a convolution of images, as a list that is empty for "none".

    >>> channel_norm("none", 4), len(channel_norm("rms", 4))
    ([], 1)
    """
    return [] if name == "none" else [make_norm(name, width, 2)]


def centres_channels(name: ChannelNorm) -> bool:
    """Whether a norm subtracts each channel's mean, and with it any bias of the convolution before it."""
    return name in ("batch", "instance")


@final
class Residual(nn.Module):
    """shortcut(x) + branch(x), then an activation: the place where techniques for residual networks act.

    `stepwell_role = "residual"` says so: zero-gamma looks for the last norm in `branch`, stochastic depth drops it.

    Args:
        branch: what is added, (N, ...) -> (N, ...).
        shortcut: the other way, identity where None.
        activation: applied to the sum, none where None.

    Paper: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.

    >>> Residual(nn.Identity())(torch.ones(2)).tolist()
    [2.0, 2.0]
    """

    stepwell_role = "residual"

    def __init__(self, branch: nn.Module, *, shortcut: nn.Module | None = None, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, inputs: Tensor) -> Tensor:
        kept: Tensor = inputs if self.shortcut is None else self.shortcut(inputs)
        total: Tensor = kept + self.branch(inputs)
        return total if self.activation is None else self.activation(total)


def embedding_width(cardinality: int, *, limit: int) -> int:
    """How many numbers stand for one category: about 1.6 n^0.56, at least 1, at most `limit`.

    The rule is that of Howard & Gugger 2020 (fastai, arXiv:2002.04688), found by trying tables.

    Args:
        cardinality: number of codes, >= 1.
        limit: widest embedding, in numbers, >= 1.

    >>> [embedding_width(codes, limit=32) for codes in (1, 2, 10, 1000)]
    [2, 2, 6, 32]
    """
    wide: int = round(1.6 * float(cardinality) ** 0.56)
    return max(1, min(limit, wide))


@final
class CategoryEmbeddings(nn.Module):
    """One embedding per categorical column, side by side.

    Code 0 stands for what training may never have shown (an unseen category, a missing cell). It starts at zero, so
    that it says nothing until it is trained. The other rows start with an expected length of 1, as a standardised
    number has.

    Args:
        cardinalities: how many codes each column has, code 0 included.
        limit: widest embedding, in numbers.

    Shapes: codes (N, C) int64 -> (N, width).

    >>> CategoryEmbeddings([3, 5], limit=8)(torch.zeros(2, 2, dtype=torch.int64)).abs().max().item()
    0.0
    """

    def __init__(self, cardinalities: Sequence[int], *, limit: int) -> None:
        super().__init__()
        widths = [embedding_width(codes, limit=limit) for codes in cardinalities]
        self.columns = nn.ModuleList(nn.Embedding(codes, width) for codes, width in zip(cardinalities, widths, strict=True))
        self.width = sum(widths)
        with torch.no_grad():
            for column in self.columns:
                column.__dict__["stepwell_zero_row"] = 0  # says so to what draws embeddings anew
                weight: Any = column.weight
                weight.normal_(0.0, weight.shape[1] ** -0.5)
                weight[0].zero_()

    def forward(self, codes: Tensor) -> Tensor:
        return torch.cat([column(codes[:, index]) for index, column in enumerate(self.columns)], dim=1)


def check_dropout(name: str, value: float) -> None:
    """Refuse a dropout probability outside [0, 1).

    Raises:
        JobError: it is.
    """
    require_between(name, value, 0.0, 1.0, "To train without dropout, set it to 0", ends="[)")


def check_sizes(name: str, value: int | Sequence[int]) -> None:
    """Refuse a width, a count or a list of them that isn't positive.

    Raises:
        JobError: one of them isn't.
    """
    values = value if isinstance(value, Sequence) else [value]
    require(all(size >= 1 for size in values), name, value, "whole numbers above 0", "Make it 1 or more")
