"""Where a model drops: what can be found, set, switched on, and what can't be reached."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import dropout as imported_dropout

from stepwell.core.modules.dropout import DropoutLayer
from stepwell.core.modules.dropout_places import (
    bare_activations,
    behind_the_last_layer,
    dropout_places,
    insert_dropout_,
    last_with_parameters,
    switch_on_,
    unreachable_dropout,
)
from stepwell.core.own_code import functions_called, weights_read


class HoldsRate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn_drop = 0.1
        self.drop_last = True
        self.dropout_layers = 3.0

    def forward(self, inputs: Tensor) -> Tensor:
        return F.dropout(inputs, self.attn_drop, self.training)


class WrittenIn(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return F.dropout(inputs, 0.3, self.training)


class WrittenInHelper(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return self._noisy(inputs)

    def _noisy(self, inputs: Tensor) -> Tensor:
        return next(imported_dropout(part, 0.3) for part in (inputs,))


class Inherits(WrittenIn):
    pass


class AttendsWithLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.1)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(inputs, inputs, inputs, dropout_p=self.drop.p if self.training else 0.0)


class AttendsWrittenIn(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(inputs, inputs, inputs, dropout_p=0.1)


class AttendsWithout(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(inputs, inputs, inputs)


class LayerBesideWrittenIn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.1)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.dropout(self.drop(inputs), 0.2)


def test_layers_of_every_kind_and_rates_held_as_numbers_are_found() -> None:
    model = nn.ModuleDict(
        {
            "plain": nn.Dropout(0.1),
            "spatial": nn.Dropout2d(0.2),
            "alpha": nn.AlphaDropout(0.3),
            "ours": DropoutLayer(0.4),
            "attention": nn.MultiheadAttention(4, 2, dropout=0.5),
            "stacked": nn.GRU(2, 2, num_layers=2, dropout=0.6),
            "single": nn.GRU(2, 2),
            "holds": HoldsRate(),
        }
    )
    assert {place.name: place.probability for place in dropout_places(model)} == {
        "plain": 0.1,
        "spatial": 0.2,
        "alpha": 0.3,
        "ours": 0.4,
        "attention.dropout": 0.5,
        "stacked.dropout": 0.6,
        "holds.attn_drop": 0.1,
    }
    for number, place in enumerate(dropout_places(model)):
        place.set_(number / 10)
    assert [place.probability for place in dropout_places(model)] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert model["attention"].dropout == 0.4
    assert model["holds"].dropout_layers == 3.0


def test_a_model_that_is_one_layer_is_found_and_a_shared_layer_once() -> None:
    assert [place.name for place in dropout_places(HoldsRate())] == ["attn_drop"]
    shared = nn.Dropout(0.1)
    assert len(dropout_places(nn.Sequential(shared, nn.ReLU(), shared))) == 1


@pytest.mark.parametrize(
    ("module", "found"),
    [
        (HoldsRate(), False),
        (WrittenIn(), True),
        (WrittenInHelper(), True),
        (Inherits(), True),
        (AttendsWithLayer(), False),
        (AttendsWrittenIn(), True),
        (AttendsWithout(), False),
        (LayerBesideWrittenIn(), True),
        (nn.Dropout(0.5), False),
        (nn.TransformerEncoderLayer(4, 2), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_rate_written_into_the_code_is_seen(module: nn.Module, found: bool) -> None:
    expected = [f"0 ({type(module).__name__})"] if found else []
    assert unreachable_dropout(nn.Sequential(module)) == expected
    if found:
        assert unreachable_dropout(module) == [f"the model ({type(module).__name__})"]


def test_an_inserted_place_drops_outputs_in_training_and_keeps_every_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    nn.init.ones_(model[0].weight)
    names = list(model.state_dict())
    insert_dropout_(model[1])
    [place] = dropout_places(model)
    assert (place.name, place.probability) == ("1", 0.0)
    inputs = torch.full((500, 2), 3.0)
    clean = model(inputs)
    place.set_(0.5)
    noisy = model(inputs)
    kept = noisy != 0
    assert torch.equal(noisy[kept], clean[kept] * 2)
    assert int((noisy == 0).sum() - (clean == 0).sum()) > 0
    assert torch.equal(model.eval()(inputs), clean)
    assert list(model.state_dict()) == names
    insert_dropout_(model[1])
    assert len(model[1]._forward_hooks) == 1


def test_a_copy_has_rates_of_its_own() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Dropout(0.1))
    insert_dropout_(model[0])
    twin = copy.deepcopy(model)
    for place in dropout_places(twin):
        place.set_(0.7)
    assert [place.probability for place in dropout_places(model)] == [0.0, 0.1]
    [hook] = twin[0]._forward_hooks.values()
    assert hook.probability == 0.7


def test_layers_become_fast_ones_in_place_and_keep_their_hooks() -> None:
    model = nn.Sequential(nn.Dropout(0.1), nn.Dropout2d(0.2), nn.AlphaDropout(0.3))
    calls: list[str] = []
    model[0].register_forward_hook(lambda *given: calls.append("called"))
    for place in dropout_places(model):
        place.use_(None)
    assert [type(module) for module in model] == [DropoutLayer, nn.Dropout2d, nn.AlphaDropout]
    for place in dropout_places(model):
        place.use_("spatial")
    assert [type(module) for module in model] == [DropoutLayer, DropoutLayer, nn.AlphaDropout]
    assert [getattr(module, "kind", None) for module in model] == ["spatial", "spatial", None]
    model[0](torch.ones(2, 3, 4))
    assert calls == ["called"]


def test_switching_on_touches_what_drops_and_nothing_else() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.1), nn.Dropout(0.0), nn.ReLU(), HoldsRate()).eval()
    insert_dropout_(model[3])
    dropout_places(model)[2].set_(0.5)
    assert switch_on_(model) == 3
    assert [module.training for module in model] == [False, True, False, True, True]


def test_the_last_layer_and_what_stands_behind_it() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Sequential(nn.Linear(2, 2), nn.Tanh()), nn.Dropout(0.1))
    assert last_with_parameters(model) == "2.0"
    assert behind_the_last_layer(model) == [model[3], model[2][1]]
    assert bare_activations(model) == [model[1]]
    assert last_with_parameters(nn.ReLU()) is None
    assert behind_the_last_layer(nn.Sequential(nn.ReLU(), nn.Dropout())) == []


def test_activations_with_dropout_behind_them_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Dropout(0.1), nn.GELU(), nn.Linear(2, 2), nn.Sigmoid())
    assert bare_activations(model) == [model[3]]


def test_weights_that_code_reads_are_named_and_initialisation_is_not_reading() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.other = nn.Embedding(3, 2), nn.Linear(2, 2)
            self.other.weight.data.zero_()

        def reset(self) -> None:
            nn.init.zeros_(self.other.weight)

        def forward(self, inputs: Tensor) -> Tensor:
            return F.linear(self.other(self.embedding(inputs)), self.embedding.weight)

    assert weights_read(Tied) == {"embedding"}
    assert weights_read(nn.Linear) == set()
    assert [function for function, _ in functions_called(Tied, (F.linear, F.relu))] == [F.linear]
