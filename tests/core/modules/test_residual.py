"""Residual blocks are found by what they declare or by what a person names, and nothing is taken for one by guess."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.modules.residual import branch_modules, check_patterns, residual_blocks
from stepwell.core.signature import Signature
from stepwell.models.parts import Residual
from stepwell.models.registry import build


class BasicBlock(nn.Module):
    """As other libraries write it: no declaration, no branch of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.downsample = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, inputs: Tensor) -> Tensor:
        raise AssertionError("not called here")


class Foreign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.layer1 = nn.Sequential(BasicBlock(), BasicBlock())
        self.layer2 = nn.Sequential(BasicBlock())
        self.fc = nn.Linear(4, 2)


def places(model: nn.Module, patterns: list[str] | None = None) -> list[str]:
    return [block.name for block in residual_blocks(model, patterns, "zero_gamma.patterns")]


def test_the_blocks_of_our_models_declare_themselves_with_their_branch() -> None:
    resnet = build("resnet", Signature("image", (3, 8, 8), 2), {"channels": [4, 8], "num_blocks": 2}, seed=0)
    blocks = residual_blocks(resnet)
    assert [block.name for block in blocks] == ["body.3", "body.4", "body.5", "body.6"]
    assert all(block.branch is block.module.branch for block in blocks)
    transformer = build("transformer", Signature("tokens", (8,), 5, vocab_size=5), {"num_layers": 2, "width": 8}, seed=0)
    assert places(transformer) == [f"blocks.{layer}.{part}" for layer in (0, 1) for part in ("attention", "feed_forward")]


def test_a_model_can_be_a_block_itself() -> None:
    [block] = residual_blocks(Residual(nn.Linear(2, 2)))
    assert block.name == ""
    assert [place for place, _ in branch_modules(block)] == ["branch"]


def test_a_declared_block_without_a_branch_is_known_only_as_a_whole() -> None:
    model = nn.Sequential(nn.Linear(2, 2), BasicBlock())
    model[1].stepwell_role = "residual"
    [block] = residual_blocks(model)
    assert (block.name, block.branch) == ("1", None)


@pytest.mark.parametrize("pattern", ["layer?.*", "layer[12].[01]", "BasicBlock", "Basic*"])
def test_blocks_of_another_library_are_named_by_place_or_class(pattern: str) -> None:
    assert places(Foreign(), [pattern]) == ["layer1.0", "layer1.1", "layer2.0"]


def test_several_patterns_name_each_block_once_in_the_model_s_order() -> None:
    assert places(Foreign(), ["layer2.*", "*.0", "layer1.*"]) == ["layer1.0", "layer1.1", "layer2.0"]


def test_what_is_inside_a_named_block_is_no_block_of_its_own() -> None:
    # The wildcard crosses dots, and would reach layer1.0.downsample too.
    assert places(Foreign(), ["layer1*.*"]) == ["layer1.0", "layer1.1"]


def test_a_pattern_over_declared_blocks_restricts_to_those_inside() -> None:
    transformer = build("transformer", Signature("tokens", (8,), 5, vocab_size=5), {"num_layers": 2, "width": 8}, seed=0)
    assert places(transformer, ["blocks.1"]) == ["blocks.1.attention", "blocks.1.feed_forward"]
    assert places(transformer, ["blocks"]) == places(transformer)
    assert places(transformer, ["*.attention"]) == ["blocks.0.attention", "blocks.1.attention"]


def test_the_branch_of_a_foreign_block_is_everything_but_the_shortcut() -> None:
    [block] = residual_blocks(Foreign(), ["layer2.*"])
    assert [place.removeprefix("layer2.0.") for place, _ in branch_modules(block)] == ["conv1", "bn1", "relu", "conv2", "bn2"]


def test_without_a_declared_block_the_message_names_classes_that_could_be_one() -> None:
    with pytest.raises(
        JobError, match=r"no residual block that declares itself.*zero_gamma\.patterns.*Did you mean 'BasicBlock'"
    ):
        residual_blocks(Foreign(), None, "zero_gamma.patterns")


def test_a_pattern_without_a_block_names_the_nearest() -> None:
    with pytest.raises(JobError, match=r"zero_gamma\.patterns has 'layer1\.7'.*Did you mean 'layer1\.[01]'"):
        places(Foreign(), ["layer1.7"])
    with pytest.raises(JobError, match="Did you mean 'BasicBlock'"):
        places(Foreign(), ["BasicBlok"])


def test_one_pattern_of_several_that_matches_nothing_is_refused() -> None:
    with pytest.raises(JobError, match=r"'layer3\.\*'"):
        places(Foreign(), ["layer1.*", "layer3.*"])


def test_a_row_of_blocks_is_no_block() -> None:
    with pytest.raises(JobError, match=r"'layer1', a Sequential.*Name what is inside it: 'layer1\.\*'"):
        places(Foreign(), ["layer1"])


def test_a_single_layer_is_no_block() -> None:
    with pytest.raises(JobError, match="matches no residual block"):
        places(Foreign(), ["stem"])


@pytest.mark.parametrize("patterns", [None, ["a"], ("a", "b")])
def test_patterns_are_a_list_of_names_or_nothing(patterns: object) -> None:
    check_patterns("x.patterns", patterns)  # type: ignore[arg-type]


@pytest.mark.parametrize("patterns", [[], "layer1", [1], ["a", None]])
def test_other_patterns_are_refused(patterns: object) -> None:
    with pytest.raises(JobError, match=r"x\.patterns is"):
        check_patterns("x.patterns", patterns)  # type: ignore[arg-type]


def test_a_shared_block_is_found_once() -> None:
    block = Residual(nn.Linear(2, 2))
    model = nn.Sequential(block, block)
    assert places(model) == ["0"]
    assert torch.equal(model(torch.zeros(1, 2)), block(block(torch.zeros(1, 2))))
