"""The small residual network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stepwell.core.signature import Signature
from stepwell.models.parts import Residual
from stepwell.models.resnet import resnet

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
