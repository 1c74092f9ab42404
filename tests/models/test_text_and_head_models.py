"""Models of whole texts, and of several targets: what they compute, by hand."""

from __future__ import annotations

import pytest
import torch

from stepwell.core.errors import JobError
from stepwell.core.signature import Signature
from stepwell.models.bag_of_words import bag_of_words
from stepwell.models.last_token import LastToken
from stepwell.models.multi_head import multi_head
from stepwell.models.recurrent import recurrent
from stepwell.models.registry import build
from stepwell.models.transformer import transformer

TEXTS = Signature("document", (6,), 2, vocab_size=9)


def test_a_bag_of_words_is_a_linear_layer_on_the_mean_of_the_words_that_are_there() -> None:
    net = bag_of_words(TEXTS, width=4)
    table, head = net.embedding.weight, net.head  # type: ignore[attr-defined, union-attr]
    text = torch.tensor([[3, 5, 5, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    mean = (table[3] + 2 * table[5]) / 3  # type: ignore[index]
    expected = torch.stack([head(mean), head.bias])  # type: ignore[operator, list-item, arg-type]
    torch.testing.assert_close(net(text), expected)


def test_the_order_of_words_and_padding_dont_matter_to_a_bag_and_hidden_layers_do() -> None:
    net = bag_of_words(TEXTS, width=4, hidden=[7])
    one = net(torch.tensor([[3, 5, 2]]))
    torch.testing.assert_close(one, net(torch.tensor([[2, 3, 5, 0, 0]])))
    assert sum(p.numel() for p in net.parameters()) == 9 * 4 + 4 * 7 + 7 + 7 * 2 + 2


@pytest.mark.parametrize("builder", [recurrent, transformer])
def test_padding_after_a_text_changes_nothing_and_every_word_counts(builder) -> None:
    settings = {"num_units": 5} if builder is recurrent else {"width": 8, "num_heads": 2, "num_layers": 1}
    torch.manual_seed(0)
    net = builder(TEXTS, **settings).eval()
    assert isinstance(net, LastToken)
    short = net(torch.tensor([[4, 2, 7]]))
    assert short.shape == (1, 2)
    torch.testing.assert_close(net(torch.tensor([[4, 2, 7, 0, 0, 0]])), short)
    for place in range(3):
        other = torch.tensor([[4, 2, 7]])
        other[0, place] = 8
        assert not torch.allclose(net(other), short)


def test_what_is_said_after_the_last_word_is_taken_text_by_text() -> None:
    class Numbered(torch.nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return torch.arange(tokens.numel()).reshape(*tokens.shape, 1).float()

    texts = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]])
    assert LastToken(Numbered())(texts).flatten().tolist() == [2.0, 3.0, 6.0, 10.0]


def test_heads_share_one_body_and_have_a_name_and_a_width_each() -> None:
    signature = Signature("table", (2,), 4, (3,), heads=(("kind of", 3), ("price.eur", 1)))
    net = multi_head(signature, hidden=[5], norm="batch")
    inputs = {"numeric": torch.randn(6, 2), "categories": torch.tensor([[0], [1], [2]] * 2)}
    outputs = net(**inputs)
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {"kind of": (6, 3), "price.eur": (6, 1)}
    outputs["price.eur"].sum().backward()
    assert net.heads[0].weight.grad is None  # type: ignore[index, union-attr]
    assert all(p.grad is not None for p in net.body.parameters())  # type: ignore[union-attr]
    assert net(torch.randn(6, 2), inputs["categories"])["kind of"].shape == (6, 3)


def test_images_are_flattened_for_the_heads() -> None:
    net = multi_head(Signature("image", (1, 3, 3), 2, heads=(("a", 1), ("b", 1))), hidden=[4])
    assert net(torch.zeros(2, 1, 3, 3))["b"].shape == (2, 1)


@pytest.mark.parametrize(
    ("signature", "settings", "said"),
    [
        (Signature("vector", (4,), 1), {}, "multi_head got data with one target"),
        (Signature("vector", (4,), 2, heads=(("a", 1), ("b", 1))), {"hidden": []}, "model.hidden is empty"),
        (Signature("vector", (4,), 2, heads=(("a", 1), ("b", 1))), {"dropout": 1.0}, "model.dropout is 1.0"),
    ],
)
def test_what_several_heads_can_not_be_made_of_is_refused(signature, settings, said: str) -> None:
    with pytest.raises(JobError, match=said):
        multi_head(signature, **settings)


@pytest.mark.parametrize(("name", "kind"), [("mlp", "document"), ("convnet", "mask"), ("bag_of_words", "tokens")])
def test_a_model_for_other_data_is_refused_with_those_that_fit(name: str, kind: str) -> None:
    signature = Signature(kind, (1, 8, 8) if kind == "mask" else (6,), 2, vocab_size=9)  # type: ignore[arg-type]
    with pytest.raises(JobError, match=rf"model '{name}' can't take {kind} data"):
        build(name, signature, {}, seed=0)
