"""Initialisation by activation: the table of the textbooks, found in the order of a model's layers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.core.signature import Signature
from stepwell.models.registry import build
from stepwell.techniques.model.activation_init import ActivationInit, InitRow, init_table

XAVIER, KAIMING, LECUN = math.sqrt(2 / (50 + 30)), math.sqrt(2 / 50), math.sqrt(1 / 50)


def row(*after: nn.Module, **settings: Any) -> InitRow:
    """What is decided for Linear(50, 30) with these modules and another layer after it."""
    return init_table(nn.Sequential(nn.Linear(50, 30), *after, nn.Linear(30, 2)), **settings)[0]


@pytest.mark.parametrize(
    ("activation", "scheme", "std"),
    [
        (nn.Sigmoid(), "xavier", XAVIER),
        (nn.Tanh(), "xavier", XAVIER),
        (nn.Hardtanh(), "xavier", XAVIER),
        (nn.Softmax(dim=1), "xavier", XAVIER),
        (nn.ReLU(), "kaiming", KAIMING),
        (nn.ReLU6(), "kaiming", KAIMING),
        (nn.ELU(), "kaiming", KAIMING),
        (nn.LeakyReLU(0.5), "kaiming", math.sqrt(2 / 1.25 / 50)),
        (nn.PReLU(init=0.5), "kaiming", math.sqrt(2 / 1.25 / 50)),
        (nn.RReLU(0.25, 0.75), "kaiming", math.sqrt(2 / 1.25 / 50)),
        (nn.SELU(), "lecun", LECUN),
        (nn.GELU(), "kaiming", 1.5335304411 / math.sqrt(50)),
        (nn.SiLU(), "kaiming", 1.6765324703 / math.sqrt(50)),
        (nn.Hardswish(), "kaiming", 1.6765324703 / math.sqrt(50)),
    ],
)
def test_the_activation_decides_the_variance(activation: nn.Module, scheme: str, std: float) -> None:
    found = row(activation)
    assert (found.layer, found.follows, found.scheme) == ("0", type(activation).__name__, scheme)
    assert found.std == pytest.approx(std)


def test_the_output_layer_and_layers_without_an_activation_between_get_xavier() -> None:
    table = init_table(nn.Sequential(nn.Linear(50, 30), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 4)))
    assert [(found.layer, found.follows, found.scheme) for found in table] == [
        ("0", "nothing", "xavier"),
        ("1", "ReLU", "kaiming"),
        ("3", "nothing", "xavier"),
    ]
    assert [found.reason for found in table] == [
        "no activation before the next layer",
        "drops about half of its input",
        "the output",
    ]
    assert table[2].std == pytest.approx(math.sqrt(2 / 24))


@pytest.mark.parametrize(
    "between",
    [
        nn.BatchNorm1d(30),
        nn.LayerNorm(30),
        nn.RMSNorm(30),
        nn.Dropout(0.5),
        nn.Dropout2d(0.5),
        nn.Identity(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.AvgPool1d(2),
        nn.ZeroPad2d(1),
        nn.ReflectionPad1d(1),
        nn.Flatten(),
        nn.Sequential(nn.Dropout(0.1), nn.Identity()),
        nn.Sequential(),
    ],
)
def test_norms_pools_dropout_and_reshaping_are_looked_past(between: nn.Module) -> None:
    assert row(between, nn.Tanh()).follows == "Tanh"


class Code(nn.Module):
    """Its order is in its code."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(50, 30), nn.Sequential(nn.Linear(30, 20), nn.Tanh()), nn.Linear(20, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.second(torch.relu(self.first(inputs))))


def test_where_the_order_is_in_code_the_default_is_taken_but_for_the_last_layer() -> None:
    table = init_table(Code())
    assert [(found.layer, found.follows, found.scheme, found.reason) for found in table] == [
        ("first", "unknown", "kaiming", "the default"),
        ("second.0", "Tanh", "xavier", "saturates on both sides"),
        ("head", "unknown", "xavier", "the output"),
    ]


@pytest.mark.parametrize(
    ("settings", "scheme", "std"),
    [
        ({}, "kaiming", KAIMING),
        ({"default": "linear"}, "xavier", XAVIER),
        ({"default": "tanh"}, "xavier", XAVIER),
        ({"default": "sigmoid"}, "xavier", XAVIER),
        ({"default": "selu"}, "lecun", LECUN),
        ({"default": "gelu"}, "kaiming", 1.5335304411 / math.sqrt(50)),
        ({"default": "leaky_relu", "negative_slope": 0.5}, "kaiming", math.sqrt(2 / 1.25 / 50)),
    ],
)
def test_the_default_is_a_setting(settings: dict[str, Any], scheme: str, std: float) -> None:
    found = init_table(Code(), **settings)[0]
    assert (found.scheme, found.std) == (scheme, pytest.approx(std))


class AvgPoolAndMore(Code):
    """Of a name like those of torch's layers."""


@pytest.mark.parametrize("between", [Code(), AvgPoolAndMore(), nn.Threshold(1.0, 2.0)])
def test_a_module_that_nobody_knows_is_not_looked_past(between: nn.Module) -> None:
    assert row(between, nn.Tanh()).follows == "unknown"


def test_the_search_goes_on_outside_of_a_sequential_and_into_the_next() -> None:
    model = nn.Sequential(
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.Sequential(nn.Identity(), nn.SELU(), nn.Linear(4, 4)), nn.Tanh()
    )
    assert [found.follows for found in init_table(model)] == ["SELU", "Tanh"]


def test_an_activation_before_a_layer_is_not_after_it() -> None:
    assert init_table(nn.Sequential(nn.Tanh(), nn.Linear(4, 4)))[0].follows == "nothing"


def test_in_our_residual_network_the_activation_after_the_sum_counts() -> None:
    net = build("resnet", Signature("image", (3, 8, 8), 2), {"channels": [4, 8], "activation": "silu"}, seed=0)
    follows = {found.layer: found.follows for found in init_table(net)}
    assert follows == {
        "body.0": "SiLU",
        "body.3.branch.0": "SiLU",
        "body.3.branch.3": "SiLU",
        "body.4.branch.0": "SiLU",
        "body.4.branch.3": "SiLU",
        "body.4.shortcut.0": "SiLU",
        "head": "unknown",
    }


def test_the_layout_change_in_our_convolutional_network_is_looked_past() -> None:
    net = build("convnet", Signature("image", (1, 8, 8), 2), {"channels": [4, 8]}, seed=0)
    assert [found.follows for found in init_table(net)] == ["ReLU", "ReLU", "unknown"]


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_weights_are_drawn_as_the_table_says(distribution: Any) -> None:
    model = nn.Sequential(nn.Linear(200, 300), nn.ReLU(), nn.Linear(300, 200), nn.Tanh(), nn.Linear(200, 100))
    rows = init_table(model)
    ActivationInit(distribution=distribution)(model, Rng(0))
    for found in rows:
        layer = model.get_submodule(found.layer)
        num = layer.weight.numel()
        assert layer.weight.detach().std().item() == pytest.approx(found.std, rel=6 / math.sqrt(2 * num))
        assert not layer.bias.any()
        if distribution == "uniform":
            assert layer.weight.abs().max().item() <= math.sqrt(3) * found.std


def test_the_default_setting_reaches_the_weights() -> None:
    weight = ActivationInit(default="linear")(Code(), Rng(0)).first.weight.detach()
    assert weight.std().item() == pytest.approx(XAVIER, rel=6 / math.sqrt(2 * weight.numel()))


@pytest.mark.parametrize("settings", [{"default": "relu6"}, {"distribution": "cauchy"}, {"negative_slope": -0.1}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(JobError, match=f"activation_init.{next(iter(settings))}"):
        ActivationInit(**settings)
