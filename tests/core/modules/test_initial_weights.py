"""Draws of initial weights are keyed by the layer's name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.modules.initial_weights import draw_weights_, fill_, initialise_, named, weight_layers
from stepwell.core.randomness import Rng


def net(**layers: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict(layers)


def drawn(model: nn.Module) -> dict[str, Tensor]:
    return dict(initialise_(model, Rng(5), lambda fan: 0.1, "normal").named_parameters())


def test_a_layer_more_before_or_after_does_not_change_another_s_draws() -> None:
    alone = drawn(net(body=nn.Linear(3, 4)))["body.weight"]
    among = drawn(net(stem=nn.Linear(7, 3), body=nn.Linear(3, 4), norm=nn.BatchNorm1d(4), head=nn.Linear(4, 2)))
    assert torch.equal(alone, among["body.weight"])


def test_layers_of_the_same_shape_have_draws_of_their_own() -> None:
    weights = drawn(net(a=nn.Linear(3, 3), b=nn.Linear(3, 3)))
    assert not torch.equal(weights["a.weight"], weights["b.weight"])


def test_the_generator_of_a_tensor_is_a_function_of_seed_and_name() -> None:
    first, again = (torch.rand(3, generator=named(Rng(1), "a")) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.rand(3, generator=named(Rng(1), "b")))
    assert not torch.equal(first, torch.rand(3, generator=named(Rng(2), "a")))


def test_each_weight_is_listed_once_and_one_shared_with_an_embedding_not_at_all() -> None:
    model = net(
        embedding=nn.Embedding(7, 4), first=nn.Linear(4, 4), second=nn.Linear(4, 4), head=nn.Linear(4, 7), conv=nn.Conv1d(2, 3, 1)
    )
    model["second"].weight, model["head"].weight = model["first"].weight, model["embedding"].weight
    assert [layer.name for layer in weight_layers(model)] == ["first", "conv"]


def test_what_is_filled_knows_its_layer_and_has_its_shape_and_dtype() -> None:
    seen: list[tuple[str, tuple[int, ...], torch.dtype]] = []

    def fill(layer, weight: Tensor, generator: torch.Generator) -> None:
        seen.append((layer.name, tuple(weight.shape), weight.dtype))
        weight.fill_(2.0)

    model = draw_weights_(net(a=nn.Linear(3, 2).double(), b=nn.Conv2d(1, 2, 3, bias=False)), Rng(0), fill)
    assert seen == [("a", (2, 3), torch.float64), ("b", (2, 1, 3, 3), torch.float32)]
    assert [parameter.mean().item() for parameter in model.parameters()] == [2.0, 0.0, 2.0]


def test_a_uniform_fill_lies_within_the_square_root_of_three_deviations() -> None:
    weight = torch.empty(20_000, dtype=torch.float64)
    fill_(weight, 0.5, "uniform", torch.Generator().manual_seed(0))
    assert weight.abs().max().item() == pytest.approx(0.5 * 3**0.5, rel=1e-3)
    # A uniform draw's squares have relative standard deviation sqrt(4 / 5): six standard errors of the mean of 20,000.
    assert weight.square().mean().item() == pytest.approx(0.25, rel=6 * (0.8 / 20_000) ** 0.5)


def test_a_layer_without_its_size_is_refused_by_its_class() -> None:
    with pytest.raises(JobError, match="LazyConv2d whose size is not known"):
        weight_layers(nn.Sequential(nn.LazyConv2d(3, 1)))
