"""The multilayer perceptron and its category embeddings."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stepwell.core.errors import DataError
from stepwell.core.signature import Signature
from stepwell.models.mlp import mlp
from stepwell.models.parts import CategoryEmbeddings, embedding_width


def num_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_the_default_on_digits_has_the_parameters_counted_by_hand() -> None:
    assert num_parameters(mlp(Signature("vector", (64,), 10))) == (64 * 128 + 128) + (128 * 64 + 64) + (64 * 10 + 10)


@pytest.mark.parametrize(
    ("norm", "extra"),
    [("none", 8), ("layer", 8 + 16), ("batch", 16)],  # biases; norm weights and biases; batch norm makes biases useless
)
def test_each_norm_adds_the_parameters_counted_by_hand(norm, extra) -> None:
    net = mlp(Signature("vector", (4,), 3), hidden=[8], norm=norm)
    assert num_parameters(net) == 4 * 8 + extra + (8 * 3 + 3)


def test_it_computes_what_the_formula_says() -> None:
    net = mlp(Signature("vector", (4,), 3), hidden=[5], activation="tanh")
    first = net.body[0]
    inputs = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.tanh(inputs @ first.weight.T + first.bias) @ net.head.weight.T + net.head.bias
    torch.testing.assert_close(net(inputs), expected)


def test_without_hidden_layers_it_is_linear() -> None:
    assert num_parameters(mlp(Signature("vector", (4,), 3), hidden=[])) == 4 * 3 + 3


def test_dropout_acts_in_training_only() -> None:
    net = mlp(Signature("vector", (4,), 3), hidden=[64], dropout=0.5)
    inputs = torch.ones(1, 4)
    assert not torch.equal(net(inputs), net(inputs))
    net.eval()
    assert torch.equal(net(inputs), net(inputs))


def test_dropout_doesn_t_change_the_names_in_the_state() -> None:
    signature = Signature("vector", (4,), 3)
    assert mlp(signature, dropout=0.5).state_dict().keys() == mlp(signature).state_dict().keys()


def test_a_table_has_the_parameters_counted_by_hand() -> None:
    # 3 codes: round(1.6 * 3^0.56) = round(2.96) = 3 numbers; 10 codes: round(1.6 * 3.631) = 6.
    net = mlp(Signature("table", (2,), 1, (3, 10)), hidden=[8])
    assert num_parameters(net) == 3 * 3 + 10 * 6 + ((2 + 3 + 6) * 8 + 8) + (8 + 1)


@pytest.mark.parametrize("signature", [Signature("table", (0,), 2, (3, 4)), Signature("table", (3,), 2)])
def test_a_table_may_lack_numbers_or_categories(signature: Signature) -> None:
    inputs = {}
    if signature.cardinalities:
        inputs["categories"] = torch.ones(5, 2, dtype=torch.int64)
    if signature.shape[0]:
        inputs["numeric"] = torch.ones(5, 3)
    assert mlp(signature)(**inputs).shape == (5, 2)


def test_an_empty_tensor_of_numbers_is_no_numbers() -> None:
    net = mlp(Signature("table", (0,), 2, (3,)))
    codes = torch.ones(5, 1, dtype=torch.int64)
    assert torch.equal(net(numeric=torch.zeros(5, 0), categories=codes), net(categories=codes))


def test_a_table_without_any_column_is_refused() -> None:
    with pytest.raises(DataError, match="gave no columns"):
        mlp(Signature("table", (2,), 1))()


def test_code_0_says_nothing_until_it_is_trained() -> None:
    embeddings = CategoryEmbeddings([3, 5], limit=8)
    assert torch.equal(embeddings(torch.zeros(2, 2, dtype=torch.int64)), torch.zeros(2, embeddings.width))
    assert all(column.weight[1:].abs().min() > 0 for column in embeddings.columns)
    embeddings(torch.zeros(1, 2, dtype=torch.int64)).sum().backward()
    assert all((column.weight.grad[0] == 1).all() for column in embeddings.columns)


def test_known_categories_start_with_an_expected_squared_length_of_1() -> None:
    torch.manual_seed(0)
    column = CategoryEmbeddings([20_001], limit=16).columns[0]
    # A sum of 16 squares of N(0, 1/16) has mean 1 and sd sqrt(2/16); the mean of 20,000 has sd 0.0025.
    assert column.weight[1:].square().sum(dim=1).mean().item() == pytest.approx(1.0, abs=0.0125)


def test_the_width_of_an_embedding_grows_slowly_and_is_limited() -> None:
    assert [embedding_width(codes, limit=600) for codes in (3, 10, 100, 10_000)] == [3, 6, 21, 278]
    assert embedding_width(10_000, limit=32) == 32


def test_an_image_is_flattened() -> None:
    net = mlp(Signature("image", (1, 8, 8), 10))
    image = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(net(image), net(image.reshape(2, 64)))


@pytest.mark.parametrize(
    ("norm", "kind"), [("group", nn.GroupNorm), ("rms", nn.RMSNorm), ("layer", nn.LayerNorm), ("batch", nn.BatchNorm1d)]
)
def test_each_norm_comes_between_layer_and_activation(norm, kind) -> None:
    net = mlp(Signature("vector", (4,), 3), hidden=[8], norm=norm)
    assert [type(part) for part in net.body] == [nn.Linear, kind, nn.ReLU, nn.Dropout]
    assert (net.body[0].bias is None) == (norm == "batch")
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    hidden = torch.relu(kind(*((2, 8) if norm == "group" else (8,)), eps=1e-5)(net.body[0](inputs)))
    torch.testing.assert_close(net(inputs), net.head(hidden))
