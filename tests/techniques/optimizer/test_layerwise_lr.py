"""Layer-wise rates: how models of every shape are taken apart, and decay to the power of the depth."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.signature import Signature
from stepwell.models.mlp import mlp
from stepwell.models.resnet import resnet
from stepwell.models.transformer import transformer
from stepwell.techniques import LayerwiseLr, layer_table, layers_of

TOKENS = Signature("tokens", (8,), 11, vocab_size=11)


def modules_of(model: nn.Module, depth: int = 2) -> list[set[str]]:
    """The layers as the names of their modules, cut after `depth` parts."""
    return [{".".join(name.split(".")[:depth]) for name in layer} for layer in layers_of(model)]


def small(**settings: object) -> nn.Module:
    return transformer(TOKENS, num_layers=3, width=8, num_heads=2, **settings)  # type: ignore[arg-type]


def test_a_transformer_is_its_embeddings_its_blocks_and_its_head() -> None:
    assert modules_of(small(embeddings="separate")) == [
        {"embedding.weight", "positions.weight"},
        {"blocks.0"},
        {"blocks.1"},
        {"blocks.2", "norm.weight"},
        {"head.weight"},
    ]


def test_a_tied_head_is_the_embedding_and_the_last_block_comes_out_on_top() -> None:
    assert modules_of(small())[0] == {"embedding.weight", "positions.weight"}
    assert modules_of(small())[-1] == {"blocks.2", "norm.weight"}


def test_a_residual_network_is_its_stem_its_blocks_and_its_head() -> None:
    model = resnet(Signature("image", (3, 8, 8), 4), channels=[4, 8])
    assert modules_of(model) == [{"body.0", "body.1"}, {"body.3"}, {"body.4"}, {"head.weight", "head.bias"}]


def test_the_last_norm_of_a_pre_norm_network_belongs_to_the_last_block() -> None:
    model = resnet(Signature("image", (3, 8, 8), 4), channels=[4, 8], order="pre")
    assert modules_of(model) == [{"body.0"}, {"body.1"}, {"body.2", "body.3"}, {"head.weight", "head.bias"}]


def test_embeddings_of_a_table_are_one_layer_below_the_others() -> None:
    model = mlp(Signature("table", (3,), 4, cardinalities=(3, 4)), hidden=[8, 8], norm="layer")
    assert modules_of(model) == [
        {"embeddings.columns"},
        {"body.0", "body.1"},
        {"body.4", "body.5"},
        {"head.weight", "head.bias"},
    ]


class Encoder(nn.Module):
    """As in vision transformers: a bare position, a list of blocks, a norm."""

    def __init__(self, num_blocks: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(8))
        self.layers = nn.Sequential(*(nn.TransformerEncoderLayer(8, 2, 8) for _ in range(num_blocks)))
        self.norm = nn.LayerNorm(8)


class Vision(nn.Module):
    def __init__(self, num_blocks: int = 2) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(8))
        self.projection = nn.Conv2d(3, 8, 2)
        self.encoder = Encoder(num_blocks)
        self.head = nn.Linear(8, 2)


def test_bare_parameters_of_a_vision_transformer_join_the_first_layer() -> None:
    bottom, first, second, head = layers_of(Vision())
    assert set(bottom) == {"class_token", "encoder.position", "projection.weight", "projection.bias"}
    assert {name.rsplit(".", 1)[0].split(".")[2] for name in first} == {"0"}
    assert {".".join(name.split(".")[:3]) for name in second} == {"encoder.layers.1", "encoder.norm.weight", "encoder.norm.bias"}
    assert head == ["head.weight", "head.bias"]


def test_a_backbone_with_a_list_of_blocks_is_taken_apart_wherever_it_stands() -> None:
    layers = layers_of(nn.Sequential(Vision(), nn.Linear(2, 2)))
    assert [layer[0] for layer in layers] == ["0.class_token", layers[1][0], layers[2][0], "0.head.weight", "1.weight"]
    assert [layer[0][:18] for layer in layers[1:3]] == ["0.encoder.layers.0", "0.encoder.layers.1"]


class Places(nn.Module):
    """Bare parameters that declare themselves on their module."""

    stepwell_roles = {"place": "position", "token": "class_token"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.place, self.token = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))


def test_declared_positions_and_class_tokens_join_the_bottom_wherever_they_stand() -> None:
    model = Wrapper(nn.Linear(4, 4), nn.Linear(4, 4), Places(), nn.Linear(4, 2))
    assert modules_of(model, 1) == [{"part0", "part2"}, {"part1"}, {"part3"}]


class Bottleneck(nn.Module):
    """As in residual networks of other libraries: the shortcut is a list, but not of layers of one class."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 3)
        self.shortcut = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))


class Perceptron(nn.Module):
    """A block with a list of two linear layers inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))


class Wrapper(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        for number, part in enumerate(parts):
            self.add_module(f"part{number}", part)


class Declared(Perceptron):
    stepwell_role = "block"


def test_members_of_a_list_of_one_class_are_one_layer_each_whatever_they_hold() -> None:
    assert modules_of(nn.ModuleList([Perceptron(), Perceptron()]), 1) == [{"0"}, {"1"}]


def test_a_list_inside_a_module_that_stands_alone_makes_it_several_layers() -> None:
    assert modules_of(Wrapper(Perceptron(), nn.Linear(4, 2)), 3) == [
        {"part0.inner.0"},
        {"part0.inner.2"},
        {"part1.weight", "part1.bias"},
    ]


def test_a_shortcut_of_different_layers_makes_no_second_layer() -> None:
    assert modules_of(Wrapper(Bottleneck(), nn.Linear(4, 2)), 1) == [{"part0"}, {"part1"}]


def test_a_declared_block_is_one_layer_and_makes_layers_of_what_holds_it() -> None:
    assert modules_of(Wrapper(Declared(), nn.Linear(4, 2)), 1) == [{"part0"}, {"part1"}]
    assert modules_of(Wrapper(Wrapper(Declared(), Declared()), nn.Linear(4, 2)), 2) == [
        {"part0.part0"},
        {"part0.part1"},
        {"part1.weight", "part1.bias"},
    ]


def test_norms_before_the_first_layer_belong_to_it() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.LayerNorm(3), nn.Linear(3, 3), nn.Linear(3, 1))
    assert modules_of(model, 1) == [{"0", "1", "2"}, {"3"}]


def test_a_norm_between_layers_belongs_to_the_one_before_it() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 1))
    assert modules_of(model, 1) == [{"0", "1", "2"}, {"3"}]


def test_a_relative_position_inside_a_block_of_a_list_stays_in_its_block() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.offsets = nn.Linear(4, 4), nn.Embedding(3, 4)

    model = nn.Sequential(nn.Embedding(5, 4), nn.ModuleList([Attention(), Attention()]), nn.Linear(4, 2))
    assert modules_of(model, 2) == [{"0.weight"}, {"1.0"}, {"1.1"}, {"2.weight", "2.bias"}]


def test_a_module_of_embeddings_and_a_norm_is_the_bottom_layer() -> None:
    model = Wrapper(nn.Linear(4, 4), Wrapper(nn.Embedding(5, 4), nn.LayerNorm(4)), nn.Linear(4, 2))
    assert modules_of(model, 1) == [{"part1"}, {"part0"}, {"part2"}]


@pytest.mark.parametrize("build", [small, Vision, lambda: resnet(Signature("image", (3, 8, 8), 4))])
def test_every_parameter_is_in_exactly_one_layer(build: Callable[[], nn.Module]) -> None:
    model = build()
    names = [name for layer in layers_of(model) for name in layer]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


def test_the_table_gives_depth_from_the_head_and_decay_to_its_power() -> None:
    table = {row.name: row for row in layer_table(small(embeddings="separate"), decay=0.5)}
    assert (table["head.weight"].depth, table["head.weight"].factor) == (0, 1.0)
    assert (table["norm.weight"].depth, table["norm.weight"].factor) == (1, 0.5)
    assert table["blocks.0.attention.branch.1.mix.weight"].factor == 0.125
    assert (table["embedding.weight"].depth, table["embedding.weight"].factor) == (4, 0.0625)
    assert next(iter(table)) == "embedding.weight"


def test_the_technique_gives_every_layer_below_the_head_its_factor() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    assert LayerwiseLr()(model) == {
        "0.weight": {"lr": 0.5625},
        "0.bias": {"lr": 0.5625},
        "1.weight": {"lr": 0.75},
        "1.bias": {"lr": 0.75},
    }


def test_a_decay_of_one_leaves_the_groups_as_they_are() -> None:
    assert LayerwiseLr(decay=1.0)(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))) == {}


class Plain(nn.Module):
    """Children without any list: the model itself is always taken apart."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.second(self.first(inputs))
        return outputs


def test_a_model_without_lists_is_the_row_of_its_children() -> None:
    assert modules_of(Plain(), 1) == [{"first"}, {"second"}]


def test_a_model_of_one_layer_is_refused() -> None:
    with pytest.raises(JobError, match=r"^layerwise_lr finds one layer only in this Linear"):
        LayerwiseLr()(nn.Linear(2, 1))


@pytest.mark.parametrize("decay", [0.0, 1.01, -0.5])
def test_a_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(JobError, match=r"^layerwise_lr\.decay is"):
        LayerwiseLr(decay=decay)
