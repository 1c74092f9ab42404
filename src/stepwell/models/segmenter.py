"""A small U-net: scores for every pixel of an image."""

from __future__ import annotations

from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepwell.core.signature import Signature
from stepwell.models.parts import Activation, check_dropout, check_sizes
from stepwell.models.parts import activation as make_activation
from stepwell.models.registry import model

__all__ = ["Segmenter", "segmenter"]


@final
class Segmenter(nn.Module):
    """A U-net; made by `segmenter`. Shapes: (N, channels, height, width) -> (N, num_outputs, height, width)."""

    def __init__(self, down: nn.ModuleList, up: nn.ModuleList, dropout: nn.Module, head: nn.Conv2d) -> None:
        super().__init__()
        self.down = down
        self.up = up
        self.dropout = dropout
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        states, kept = inputs, []
        for stage in self.down[:-1]:
            states = stage(states)
            kept.append(states)
            # Rounded up, so that no row or column is lost where a size is odd.
            states = F.max_pool2d(states, 2, ceil_mode=True)
        states = self.dropout(self.down[-1](states))
        for stage, beside in zip(self.up, reversed(kept), strict=True):
            wider = F.interpolate(states, size=beside.shape[2:], mode="nearest")
            states = stage(torch.cat([wider, beside], dim=1))
        outputs: Tensor = self.head(states)
        return outputs


def _stage(width: int, size: int, act: Activation) -> nn.Sequential:
    # Batch norm subtracts the mean, and with it any bias.
    layers: list[nn.Module] = []
    for given in (width, size):
        layers += [nn.Conv2d(given, size, 3, padding=1, bias=False), nn.BatchNorm2d(size), make_activation(act)]
    return nn.Sequential(*layers)


@model("segmenter", kinds=("mask",))
def segmenter(
    signature: Signature,
    *,
    channels: list[int] = [16, 32, 64],  # noqa: B006 (a job shows it; nothing changes it)
    activation: Activation = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """A small U-net: stages that halve the image, then stages that double it and see the same-sized stage beside them.

    Each stage is two 3 x 3 convolutions, each with batch norm and an activation. Images of any height and width do.
    Two classes are one score per pixel, a logit; more are one score per class.

    Args:
        signature: of images with masks.
        channels: of each stage on the way down, each >= 1; every stage but the last halves height and width.
        activation: relu, gelu, silu or tanh.
        dropout: probability in [0, 1), on the lowest stage's outputs.

    Raises:
        JobError: a setting is out of range.

    Paper: Ronneberger, Fischer & Brox 2015, arXiv:1505.04597 (with padding, batch norm, and fewer channels).

    >>> net = segmenter(Signature("mask", (3, 21, 30), 1), channels=[4, 8])
    >>> net(torch.zeros(2, 3, 21, 30)).shape
    torch.Size([2, 1, 21, 30])
    """
    check_sizes("model.channels", channels)
    check_dropout("model.dropout", dropout)
    widths = [signature.shape[0], *channels]
    down = [_stage(width, size, activation) for width, size in pairwise(widths)]
    pairs = list(zip(reversed(channels[1:]), reversed(channels[:-1]), strict=True))
    up = [_stage(low + high, high, activation) for low, high in pairs]
    head = nn.Conv2d(channels[0], signature.num_outputs, 1)
    return Segmenter(nn.ModuleList(down), nn.ModuleList(up), nn.Dropout(dropout), head)
