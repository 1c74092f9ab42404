"""Zero gamma: blocks start as their shortcut, gammas move at once, dead branches are refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.core.signature import Signature
from stepwell.models.parts import Residual
from stepwell.models.registry import build
from stepwell.techniques.model.zero_gamma import ZeroGamma

IMAGES = Signature("image", (3, 8, 8), 4)


def resnet(**settings: object) -> nn.Module:
    return build("resnet", IMAGES, {"channels": [4, 8], "num_blocks": 2, **settings}, seed=0)


class Bottleneck(nn.Module):
    """As other libraries write it; the shortcut's norm is registered last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.relu = nn.ReLU()
        self.downsample = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(inputs))))) + self.downsample(inputs))


def test_only_the_last_norm_of_each_branch_starts_at_zero() -> None:
    model = ZeroGamma()(resnet(), Rng(0))
    zero = [name for name, parameter in model.named_parameters() if name.endswith("weight") and not parameter.any()]
    assert zero == [f"body.{block}.branch.4.weight" for block in (3, 4, 5, 6)]


def test_each_block_starts_as_its_shortcut() -> None:
    model = ZeroGamma()(resnet(), Rng(0))
    inputs = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for block in [module for module in model.modules() if isinstance(module, Residual)]:
        expected = inputs if block.shortcut is None else torch.relu(block.shortcut(inputs))
        inputs = block(inputs)
        assert torch.equal(inputs, expected)


def test_gammas_move_at_the_first_step_and_what_lies_before_them_at_the_second() -> None:
    model = ZeroGamma()(resnet(), Rng(0)).double()
    inputs = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gamma, first = model.get_parameter("body.3.branch.4.weight"), model.get_parameter("body.3.branch.0.weight")
    moved = []
    for _ in range(2):
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        moved.append((bool(gamma.grad.any()), bool(first.grad.any())))
        optimizer.step()
    assert moved == [(True, False), (True, True)]


def test_blocks_of_another_library_are_named_by_class() -> None:
    model = ZeroGamma(patterns=["Bottleneck"])(nn.Sequential(Bottleneck(), Bottleneck()), Rng(0))
    for block in model:
        assert [norm.weight.tolist() for norm in (block.bn1, block.bn2, block.downsample[1])] == [[1.0] * 3, [0.0] * 3, [1.0] * 3]


def test_a_pre_activation_branch_is_refused_for_it_would_never_train() -> None:
    model = resnet(order="pre")
    with pytest.raises(
        JobError, match=r"body\.1\.branch\.5 \(Conv2d\) comes after the last norm, body\.1\.branch\.3.*order: post"
    ):
        ZeroGamma()(model, Rng(0))
    # What the refusal says, shown: with that norm at zero, neither it nor its neighbours ever get a gradient.
    branch = model.get_submodule("body.1.branch")
    nn.init.zeros_(branch[3].weight)
    model(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert not any(parameter.grad.any() for parameter in branch.parameters())


def test_a_branch_without_a_norm_is_refused() -> None:
    with pytest.raises(JobError, match="found no norm with a weight in the branch of the residual block body"):
        ZeroGamma()(resnet(norm="none"), Rng(0))


def test_a_norm_without_a_weight_is_no_last_norm() -> None:
    branch = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.BatchNorm1d(2, affine=False))
    model = ZeroGamma()(Residual(branch), Rng(0))
    assert model.branch[1].weight.tolist() == [0.0, 0.0]
    with pytest.raises(JobError, match="found no norm with a weight in the branch of the residual block the model"):
        ZeroGamma()(Residual(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False))), Rng(0))


def test_nothing_is_changed_when_one_block_is_refused() -> None:
    good, bad = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 2))
    model = nn.Sequential(Residual(good), Residual(bad))
    with pytest.raises(JobError, match=r"1\.branch\.1 \(Linear\) comes after"):
        ZeroGamma()(model, Rng(0))
    assert good[1].weight.tolist() == [1.0, 1.0]


def test_layers_without_weights_may_follow_the_norm() -> None:
    branch = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Dropout(0.1))
    assert not ZeroGamma()(Residual(branch), Rng(0)).branch[1].weight.any()


def test_a_model_without_residual_blocks_is_refused() -> None:
    with pytest.raises(JobError, match="no residual block that declares itself"):
        ZeroGamma()(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), Rng(0))


def test_patterns_must_be_a_list_of_names() -> None:
    with pytest.raises(JobError, match=r"zero_gamma\.patterns is 'layer1'"):
        ZeroGamma(patterns="layer1")  # type: ignore[arg-type]
