"""A small residual network for small images."""

from __future__ import annotations

from typing import Literal, final

from torch import Tensor, nn

from stepwell.core.signature import Signature
from stepwell.models.parts import Activation, Residual, check_sizes
from stepwell.models.parts import activation as make_activation
from stepwell.models.registry import model

__all__ = ["Resnet", "resnet"]

Order = Literal["post", "pre"]


def _convolution(width: int, size: int, *, stride: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(width, size, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def _shortcut(width: int, size: int, stride: int, order: Order) -> nn.Module | None:
    if width == size and stride == 1:
        return None
    projection = nn.Conv2d(width, size, 1, stride=stride, bias=False)
    nn.init.kaiming_normal_(projection.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(projection, nn.BatchNorm2d(size)) if order == "post" else projection


def _block(width: int, size: int, stride: int, act: Activation, order: Order) -> Residual:
    first, second = _convolution(width, size, stride=stride), _convolution(size, size)
    shortcut = _shortcut(width, size, stride, order)
    if order == "post":
        branch = nn.Sequential(first, nn.BatchNorm2d(size), make_activation(act), second, nn.BatchNorm2d(size))
        return Residual(branch, shortcut=shortcut, activation=make_activation(act))
    before = nn.Sequential(nn.BatchNorm2d(width), make_activation(act), first)
    branch = nn.Sequential(*before, nn.BatchNorm2d(size), make_activation(act), second)
    return Residual(branch, shortcut=shortcut)


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
    layers: list[nn.Module] = [_convolution(signature.shape[0], width)]
    if order == "post":
        layers += [nn.BatchNorm2d(width), make_activation(activation)]
    for stage, size in enumerate(channels):
        for block in range(num_blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(_block(width, size, stride, activation, order))
            width = size
    if order == "pre":
        layers += [nn.BatchNorm2d(width), make_activation(activation)]
    return Resnet(nn.Sequential(*layers), nn.Linear(width, signature.num_outputs))
