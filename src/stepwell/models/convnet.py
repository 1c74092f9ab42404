"""A small plain convolutional network for images."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.signature import Signature
from stepwell.models.parts import Activation, ChannelNorm, centres_channels, channel_norm, check_dropout, check_sizes
from stepwell.models.parts import activation as make_activation
from stepwell.models.registry import model

__all__ = ["Convnet", "convnet"]


@final
class ChannelsLast(nn.Module):
    """The same numbers with the channels of a pixel side by side, which CPUs convolve, pool and normalise faster."""

    stepwell_role = "layout"  # initialisation by activation looks past it

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.contiguous(memory_format=torch.channels_last)


@final
class Convnet(nn.Module):
    """Convolutions, then a linear head. Shapes: (N, channels, height, width) -> (N, num_outputs); made by `convnet`."""

    def __init__(self, body: nn.Sequential, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(inputs))
        return outputs


@model("convnet", kinds=("image",))
def convnet(
    signature: Signature,
    *,
    channels: list[int] = [16, 64, 96],  # noqa: B006 (a job shows it; nothing changes it)
    activation: Activation = "relu",
    norm: ChannelNorm = "batch",
    dropout: float = 0.0,
) -> nn.Module:
    """A plain convolutional network: 3 x 3 convolution, 2 x 2 max pooling, norm, activation per stage, then a linear head.

    Pooling comes before the norm, which then has a quarter of the numbers to work on. The default has 73,658
    parameters on 1 x 28 x 28 images of 10 classes.

    Args:
        signature: of image data.
        channels: of each stage, each >= 1; every stage halves height and width.
        activation: relu, gelu, silu or tanh.
        norm: none, batch, layer, group, instance or rms, before the activation.
        dropout: probability in [0, 1), on the inputs of the head.

    Raises:
        JobError: a setting is out of range, or the images are too small to be halved so often.

    >>> net = convnet(Signature("image", (1, 28, 28), 10))
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 73658)
    """
    check_sizes("model.channels", channels)
    check_dropout("model.dropout", dropout)
    width, height, breadth = signature.shape
    layers: list[nn.Module] = []
    for index, size in enumerate(channels):
        height, breadth = height // 2, breadth // 2
        if min(height, breadth) < 1:
            raise JobError(
                f"{len(channels)} stages can't halve images of {signature.shape[1]} x {signature.shape[2]} pixels",
                expected=f"images of at least {2 ** len(channels)} x {2 ** len(channels)} pixels",
                fix="Give model.channels fewer entries",
            )
        layers.append(nn.Conv2d(width, size, 3, padding=1, bias=not centres_channels(norm)))
        if index == 0:
            layers.append(ChannelsLast())
        layers += [nn.MaxPool2d(2), *channel_norm(norm, size), make_activation(activation)]
        width = size
    layers += [nn.Flatten(), nn.Dropout(dropout)]
    return Convnet(nn.Sequential(*layers), nn.Linear(width * height * breadth, signature.num_outputs))
