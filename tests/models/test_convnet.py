"""The plain convolutional network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from stepwell.core.signature import Signature
from stepwell.models.convnet import convnet

FASHION = Signature("image", (1, 28, 28), 10)


def test_the_default_has_the_parameters_counted_by_hand_and_fewer_than_100_000() -> None:
    by_hand = (9 * 16 + 9 * 16 * 64 + 9 * 64 * 96) + 2 * (16 + 64 + 96) + (96 * 3 * 3 * 10 + 10)
    assert sum(parameter.numel() for parameter in convnet(FASHION).parameters()) == by_hand < 100_000


def test_it_computes_convolution_pooling_norm_and_activation_in_this_order() -> None:
    net = convnet(Signature("image", (2, 6, 6), 3), channels=[4], activation="relu").eval()
    convolution, norm = net.body[0], net.body[3]
    norm.running_mean.fill_(0.1)
    norm.running_var.fill_(4.0)
    images = torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    pooled = F.max_pool2d(F.conv2d(images, convolution.weight, padding=1), 2)
    hidden = F.relu((pooled - 0.1) / (4.0 + norm.eps) ** 0.5)
    torch.testing.assert_close(net(images), hidden.flatten(1) @ net.head.weight.T + net.head.bias)


def test_memory_format_changes_no_answer() -> None:
    net = convnet(FASHION).eval()
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(images), net(images.contiguous(memory_format=torch.channels_last)))


def test_it_learns_to_tell_horizontal_from_vertical_stripes() -> None:
    torch.manual_seed(0)
    stripes = torch.tensor([1.0, -1.0]).repeat(4)
    labels = torch.arange(64) % 2
    images = torch.where(labels.view(-1, 1, 1) == 0, stripes.view(8, 1), stripes.view(1, 8)) + 0.5 * torch.randn(64, 8, 8)
    net = convnet(Signature("image", (1, 8, 8), 2), channels=[4, 4])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        F.cross_entropy(net(images.unsqueeze(1)), labels).backward()
        optimizer.step()
    assert (net(images.unsqueeze(1)).argmax(dim=1) == labels).float().mean() == 1.0


@pytest.mark.parametrize(
    ("norm", "extra"),
    # weight and bias per channel; where a norm doesn't centre each channel, the convolutions have a bias too
    [("batch", 2 * 12), ("instance", 2 * 12), ("layer", 3 * 12), ("group", 3 * 12), ("rms", 2 * 12), ("none", 12)],
)
def test_each_norm_adds_the_parameters_counted_by_hand(norm, extra) -> None:
    net = convnet(Signature("image", (1, 8, 8), 3), channels=[4, 8], norm=norm)
    assert sum(parameter.numel() for parameter in net.parameters()) == 9 * 4 + 9 * 4 * 8 + extra + (8 * 2 * 2 * 3 + 3)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


def test_another_norm_is_used_in_the_place_of_batch_norm() -> None:
    net = convnet(Signature("image", (2, 6, 6), 3), channels=[4], norm="layer")
    with torch.no_grad():
        net.body[0].bias.fill_(0.5)
    images = torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    pooled = F.max_pool2d(F.conv2d(images, net.body[0].weight, net.body[0].bias, padding=1), 2)
    hidden = F.relu(F.layer_norm(pooled, pooled.shape[1:]))
    torch.testing.assert_close(net(images), hidden.flatten(1) @ net.head.weight.T + net.head.bias)
