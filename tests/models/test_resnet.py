"""The small residual network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepwell.core.modules.norms import is_norm
from stepwell.core.signature import Signature
from stepwell.models.parts import Residual
from stepwell.models.resnet import residual_block, resnet

CIFAR = Signature("image", (3, 32, 32), 10)


def test_resnet_20_has_the_parameters_counted_by_hand() -> None:
    # He et al. 2016 print 0.27 M for ResNet-20.
    stem = 9 * 3 * 16 + 2 * 16
    first = 3 * 2 * (9 * 16 * 16 + 2 * 16)
    second = (9 * 16 * 32 + 9 * 32 * 32 + 2 * 64 + 16 * 32 + 64) + 2 * 2 * (9 * 32 * 32 + 64)
    third = (9 * 32 * 64 + 9 * 64 * 64 + 2 * 128 + 32 * 64 + 128) + 2 * 2 * (9 * 64 * 64 + 128)
    by_hand = stem + first + second + third + 64 * 10 + 10
    assert by_hand == 272_474
    assert sum(parameter.numel() for parameter in resnet(CIFAR, num_blocks=3).parameters()) == by_hand


@pytest.mark.parametrize("order", ["post", "pre"])
def test_every_block_declares_that_it_is_residual(order) -> None:
    net = resnet(CIFAR, num_blocks=2, order=order)
    marked = [module for module in net.modules() if getattr(module, "stepwell_role", None) == "residual"]
    assert len(marked) == 6
    assert all(isinstance(module, Residual) for module in marked)


@pytest.mark.parametrize("order", ["post", "pre"])
def test_a_block_whose_last_norm_is_zero_passes_its_input_on(order) -> None:
    net = resnet(CIFAR, channels=[4], order=order)
    block = next(module for module in net.modules() if isinstance(module, Residual))
    last = [module for module in block.branch.modules() if isinstance(module, nn.BatchNorm2d)][-1]
    nn.init.zeros_(last.weight)
    inputs = torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))  # not negative: ReLU keeps it
    assert torch.equal(block(inputs), inputs)


def test_in_pre_activation_order_nothing_follows_the_sum() -> None:
    net = resnet(CIFAR, order="pre")
    assert all(module.activation is None for module in net.modules() if isinstance(module, Residual))


def test_each_later_stage_halves_the_image() -> None:
    net = resnet(CIFAR, channels=[4, 8, 16])
    assert net.body(torch.zeros(1, 3, 32, 32)).shape == (1, 16, 8, 8)


def test_convolutions_start_with_the_variance_of_he() -> None:
    torch.manual_seed(0)
    convolution = resnet(CIFAR, channels=[64]).body[3].branch[0]
    # std = sqrt(2 / (9 * 64)); 36,864 draws estimate it to 0.37 % (one sd).
    assert convolution.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("norm", "kinds"),
    [
        ("none", set()),
        ("layer", {"GroupNorm"}),
        ("group", {"GroupNorm"}),
        ("instance", {"InstanceNorm2d"}),
        ("rms", {"ChannelRms"}),
    ],
)
@pytest.mark.parametrize("order", ["post", "pre"])
def test_each_norm_takes_the_place_of_batch_norm(norm, kinds, order) -> None:
    net = resnet(CIFAR, channels=[4, 8], norm=norm, order=order)
    assert {type(module).__name__ for module in net.modules() if is_norm(module)} == kinds
    assert len([module for module in net.modules() if is_norm(module)]) == (0 if norm == "none" else 6 if order == "post" else 5)
    assert net(torch.zeros(2, 3, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    ("norm", "order", "biases"),
    [
        ("batch", "post", 0),
        ("instance", "post", 0),
        ("layer", "post", 6),
        ("rms", "post", 6),
        ("none", "post", 6),
        ("none", "pre", 6),
        ("batch", "pre", 0),
        ("layer", "pre", 0),
    ],
)
def test_convolutions_have_a_bias_from_0_where_no_norm_takes_it_away(norm, order, biases) -> None:
    net = resnet(CIFAR, channels=[4, 8], norm=norm, order=order)
    found = [module.bias for module in net.modules() if isinstance(module, nn.Conv2d) and module.bias is not None]
    assert len(found) == biases
    assert not any(bias.any() for bias in found)


@pytest.mark.parametrize(("size", "stride"), [(4, 1), (6, 1), (4, 2), (6, 2)])
def test_a_block_computes_what_the_textbook_s_does(size, stride) -> None:
    block = residual_block(4, size, stride=stride).eval()
    inputs = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    first, norm1, _, second, norm2 = block.branch
    for place, norm in enumerate([module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]):
        norm.running_mean.fill_(0.1 + place)
        norm.running_var.fill_(2.0 + place)

    def normed(values, norm):
        return (values - norm.running_mean.view(-1, 1, 1)) / (norm.running_var.view(-1, 1, 1) + norm.eps).sqrt()

    hidden = F.relu(normed(F.conv2d(inputs, first.weight, stride=stride, padding=1), norm1))
    total = normed(F.conv2d(hidden, second.weight, padding=1), norm2)
    if (size, stride) == (4, 1):
        assert block.shortcut is None
        total = total + inputs
    else:
        total = total + normed(F.conv2d(inputs, block.shortcut[0].weight, stride=stride), block.shortcut[1])
    torch.testing.assert_close(block(inputs), F.relu(total))
