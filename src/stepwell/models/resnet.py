"""A small residual network for small images."""

from __future__ import annotations

from typing import Literal, final

from torch import Tensor, nn

from stepwell.core.signature import Signature
from stepwell.models.parts import Activation, ChannelNorm, Residual, centres_channels, channel_norm, check_sizes
from stepwell.models.parts import activation as make_activation
from stepwell.models.registry import model

__all__ = ["Resnet", "residual_block", "resnet"]

Order = Literal["post", "pre"]


def _convolution(width: int, size: int, *, kernel: int = 3, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    convolution = nn.Conv2d(width, size, kernel, stride=stride, padding=kernel // 2, bias=bias)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


def _bias(order: Order, norm: ChannelNorm) -> bool:
    # In "post" order a norm follows each convolution, and one that centres the channels takes any bias away again.
    return norm == "none" or (order == "post" and not centres_channels(norm))


def residual_block(
    width: int,
    size: int,
    *,
    stride: int = 1,
    order: Order = "post",
    activation: Activation = "relu",
    norm: ChannelNorm = "batch",
) -> Residual:
    """A residual block of two 3 x 3 convolutions, ready to be put into any model of images.

    Where the shape changes, the shortcut is a 1 x 1 convolution (with a norm in "post" order), else the identity.

    Args:
        width: channels in, >= 1.
        size: channels out, >= 1.
        stride: of the first convolution, >= 1; 2 halves height and width.
        order: "post" (convolution, norm, activation) or "pre" (norm, activation, convolution: the sum stays untouched).
        activation: relu, gelu, silu or tanh.
        norm: none, batch, layer, group, instance or rms.

    Shapes: (N, width, height, width) -> (N, size, height / stride, width / stride).

    Papers: He et al., CVPR 2016, arXiv:1512.03385 (post); He et al., ECCV 2016, arXiv:1603.05027 (pre).

    >>> import torch
    >>> residual_block(4, 8, stride=2)(torch.zeros(2, 4, 6, 6)).shape
    torch.Size([2, 8, 3, 3])
    """
    bias = _bias(order, norm)
    first, second = _convolution(width, size, stride=stride, bias=bias), _convolution(size, size, bias=bias)
    shortcut: nn.Module | None = None
    if width != size or stride != 1:
        projection = _convolution(width, size, kernel=1, stride=stride, bias=bias)
        shortcut = nn.Sequential(projection, *channel_norm(norm, size)) if order == "post" else projection
    if order == "post":
        branch = nn.Sequential(first, *channel_norm(norm, size), make_activation(activation), second, *channel_norm(norm, size))
        return Residual(branch, shortcut=shortcut, activation=make_activation(activation))
    before = nn.Sequential(*channel_norm(norm, width), make_activation(activation), first)
    return Residual(nn.Sequential(*before, *channel_norm(norm, size), make_activation(activation), second), shortcut=shortcut)


@final
class Resnet(nn.Module):
    """Stem, residual blocks, mean over places, linear head.

    Shapes: (N, channels, height, width) -> (N, num_outputs); made by `resnet`.
    """

    def __init__(self, body: nn.Sequential, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(inputs).mean(dim=(2, 3)))
        return outputs


@model("resnet", kinds=("image",))
def resnet(
    signature: Signature,
    *,
    channels: list[int] = [16, 32, 64],  # noqa: B006 (a job shows it; nothing changes it)
    num_blocks: int = 1,
    order: Order = "post",
    activation: Activation = "relu",
    norm: ChannelNorm = "batch",
) -> nn.Module:
    """A residual network of 3 x 3 convolutions: a stem, stages of residual blocks, the mean over places, a linear head.

    Every stage after the first halves height and width. Each block is a `stepwell.models.parts.Residual`, whose
    `stepwell_role = "residual"` is where techniques for residual networks act. Convolutions start as He et al. 2015
    (arXiv:1502.01852) draw them, from a normal distribution scaled by the number of outputs.

    Args:
        signature: of image data.
        channels: of each stage, each >= 1.
        num_blocks: blocks in each stage, >= 1, two convolutions each; 3 with the default channels is ResNet-20.
        order: "post" (convolution, norm, activation) or "pre" (norm, activation, convolution: the sum stays untouched).
        activation: relu, gelu, silu or tanh.
        norm: none, batch, layer, group, instance or rms.

    Raises:
        JobError: a setting is out of range.

    Paper: He et al., CVPR 2016, arXiv:1512.03385 (post); He et al., ECCV 2016, arXiv:1603.05027 (pre).

    >>> import torch
    >>> resnet(Signature("image", (3, 32, 32), 10))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    check_sizes("model.channels", channels)
    check_sizes("model.num_blocks", num_blocks)
    width = channels[0] if channels else signature.shape[0]
    layers: list[nn.Module] = [_convolution(signature.shape[0], width, bias=_bias(order, norm))]
    if order == "post":
        layers += [*channel_norm(norm, width), make_activation(activation)]
    for stage, size in enumerate(channels):
        for block in range(num_blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(residual_block(width, size, stride=stride, order=order, activation=activation, norm=norm))
            width = size
    if order == "pre":
        layers += [*channel_norm(norm, width), make_activation(activation)]
    return Resnet(nn.Sequential(*layers), nn.Linear(width, signature.num_outputs))
