"""The dropout technique: rates by place, by name and by position on any model; what it can't reach is refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.clock import Clock, Horizon
from stepwell.core.errors import JobError
from stepwell.core.modules.dropout import DropoutLayer
from stepwell.core.modules.dropout_places import dropout_places
from stepwell.core.randomness import Rng
from stepwell.core.signature import Signature
from stepwell.engine.train_step import TrainStep
from stepwell.models import build
from stepwell.recipe.fit import fit
from stepwell.recipe.job import Recipe
from stepwell.techniques import Sgd
from stepwell.techniques.model.dropout import DROPOUT_RATES, Dropout, dropout_position
from stepwell.techniques.objective.mse import Mse


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 6), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 2)
    )


def rates(model: nn.Module) -> dict[str, float]:
    return {place.name: place.probability for place in dropout_places(model)}


def test_every_layer_gets_the_one_rate_and_draws_fast() -> None:
    model = Dropout(probability=0.2)(mlp(), Rng(0))
    assert rates(model) == {"2": 0.2, "5": 0.2}
    assert [type(model[place]) for place in (2, 5)] == [DropoutLayer, DropoutLayer]
    assert Dropout().probability == 0.1


def test_rates_go_by_name_and_the_first_pattern_that_covers_a_place_counts() -> None:
    model = build("transformer", Signature("tokens", (8,), 11, vocab_size=11), {"num_layers": 2, "width": 8}, seed=0)
    Dropout(probability=0.05, patterns={"blocks.0.attention": 0.2, "blocks.*": 0.3})(model, Rng(0))
    assert rates(model) == {
        "dropout": 0.05,
        "blocks.0.attention.branch.1.dropout": 0.2,
        "blocks.0.attention.branch.2": 0.2,
        "blocks.0.feed_forward.branch.3": 0.3,
        "blocks.0.feed_forward.branch.5": 0.3,
        "blocks.1.attention.branch.1.dropout": 0.3,
        "blocks.1.attention.branch.2": 0.3,
        "blocks.1.feed_forward.branch.3": 0.3,
        "blocks.1.feed_forward.branch.5": 0.3,
    }


def test_rates_that_modules_hold_as_numbers_are_set_and_counted() -> None:
    model = nn.ModuleList([nn.MultiheadAttention(4, 2, dropout=0.5), nn.LSTM(2, 2, num_layers=3, dropout=0.5)])
    technique = Dropout(probability=0.2)
    technique(model, Rng(0))
    assert (model[0].dropout, model[1].dropout) == (0.2, 0.2)
    assert technique.report(model) == "dropout sets 2 places to 0.2"
    assert Dropout(probability=0.2).report(Dropout(probability=0.2)(nn.Sequential(nn.Dropout(), nn.Linear(1, 1)), Rng(0))) == (
        "dropout sets 1 place to 0.2"
    )


def test_positions_are_told_by_the_modules_around() -> None:
    image = nn.Sequential(
        nn.Dropout(), nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Dropout2d(), nn.Flatten(), nn.Linear(8, 8), nn.Dropout()
    )
    assert [dropout_position(image, place) for place in dropout_places(image)] == ["input", "convolution", "head"]
    vector = mlp()
    assert {dropout_position(vector, place) for place in dropout_places(vector)} == {"hidden"}
    tokens = build("transformer", Signature("tokens", (8,), 11, vocab_size=11), {"num_layers": 1, "width": 8}, seed=0)
    assert [dropout_position(tokens, place) for place in dropout_places(tokens)] == [
        "embedding",
        "attention",
        *["feed_forward"] * 3,
    ]
    series = build("recurrent", Signature("series", (5, 3), 1), {"num_layers": 2}, seed=0)
    assert [dropout_position(series, place) for place in dropout_places(series)] == ["recurrent", "recurrent"]


class Hidden(nn.Module):
    """A layer that holds its rate as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(4, 4), 0.5


def test_a_rate_held_as_a_number_belongs_to_attention_only_in_attention() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Hidden(), nn.Linear(4, 2))
    assert [dropout_position(model, place) for place in dropout_places(model)] == ["hidden"]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # MLP hidden 0.5, CNN after conv 0.25, CNN head 0.5, transformer attention 0.1 and FFN 0.1, RNN 0.2-0.5.
        (
            "typical",
            {
                "input": 0.0,  # beside those: none on inputs, 0.1 on embeddings (Vaswani et al. 2017)
                "hidden": 0.5,
                "convolution": 0.25,
                "head": 0.5,
                "embedding": 0.1,
                "attention": 0.1,
                "feed_forward": 0.1,
                "recurrent": 0.35,
            },
        ),
        # Middles of: input 0-0.2, hidden 0.3-0.5, convolution 0.1-0.3, transformer 0.1-0.3, recurrent 0.2-0.5.
        (
            "guideline",
            {
                "input": 0.1,
                "hidden": 0.4,
                "convolution": 0.2,
                "head": 0.4,
                "embedding": 0.2,
                "attention": 0.2,
                "feed_forward": 0.2,
                "recurrent": 0.35,
            },
        ),
    ],
)
def test_rates_by_position_are_those_of_the_tables(table: Any, expected: dict[str, float]) -> None:
    assert DROPOUT_RATES[table] == expected
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Dropout(), nn.Flatten(), nn.Linear(8, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2)
    )
    Dropout(rates=table, patterns={"5": 0.05})(model, Rng(0))
    assert rates(model) == {"1": expected["convolution"], "5": 0.05}


def test_behind_bare_activations_dropout_is_put_in_but_never_behind_the_last_layer() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 2), nn.Sigmoid())
    names = list(model.state_dict())
    Dropout(probability=0.3, insert="after_activations")(model, Rng(0))
    assert rates(model) == {"1": 0.3, "4": 0.3}
    assert list(model.state_dict()) == names


def test_a_dropout_layer_behind_the_last_layer_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 2), nn.Dropout(0.7))
    Dropout(probability=0.2)(model, Rng(0))
    assert rates(model) == {"1": 0.2, "3": 0.7}


def test_kinds_are_kept_unless_told() -> None:
    def model() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Dropout2d(0.5), nn.GELU(), nn.Conv2d(2, 2, 3))

    kept = Dropout(insert="after_activations")(model(), Rng(0))
    assert type(kept[2]) is nn.Dropout2d
    outputs = kept[3](torch.ones(50, 8, 4, 4))  # what is put in drops element by element
    assert int((outputs.std((2, 3)) > 0).sum()) > 0
    spatial = Dropout(kind="spatial", probability=0.5, insert="after_activations")(model(), Rng(0))
    assert spatial[2].kind == "spatial"
    outputs = spatial[3](torch.ones(50, 8, 4, 4))
    assert torch.equal(outputs, outputs[:, :, :1, :1].expand_as(outputs))
    assert 0 < int((outputs == 0).sum()) < outputs.numel()


def train(model: nn.Module, techniques: list[Any], num_steps: int = 3, **settings: Any) -> TrainStep:
    step = TrainStep(model, objective=Mse(), optimizer=Sgd(lr=0.1), techniques=techniques, seed=3, **settings)
    draw = torch.Generator().manual_seed(0)
    for _ in range(num_steps):
        step(Batch(torch.randn(16, 4, generator=draw), torch.randn(16, 2, generator=draw)))
    return step


def fresh() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))


def weights(step: TrainStep) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in step.model.parameters()])


def test_probability_0_has_the_bits_of_a_run_without_it() -> None:
    plain = weights(train(fresh(), []))
    for technique in (
        Dropout(probability=0.0, insert="after_activations"),
        Dropout(probability=0.0, rates="typical", insert="after_activations"),
    ):
        assert torch.equal(weights(train(fresh(), [technique])), plain)
    assert not torch.equal(weights(train(fresh(), [Dropout(probability=0.5, insert="after_activations")])), plain)


def test_a_moved_probability_moves_every_rate_in_proportion_and_back() -> None:
    model = Dropout(probability=0.2, patterns={"5": 0.5})(mlp(), Rng(0))
    technique = Dropout(probability=0.2, patterns={"5": 0.5})
    for probability, expected in ((0.1, [0.1, 0.25]), (0.0, [0.0, 0.0]), (0.6, [0.6, 1.0]), (0.2, [0.2, 0.5])):
        assert replace(technique, probability=probability).at(model, Clock(), None) is False
        assert list(rates(model).values()) == pytest.approx(expected)


def test_rates_that_start_at_0_follow_a_schedule_up() -> None:
    technique = Dropout(probability=0.0)
    model = technique(mlp(), Rng(0))
    replace(technique, probability=0.3).at(model, Clock(), None)
    assert rates(model) == {"2": 0.3, "5": 0.3}


def test_a_copy_of_the_model_follows_its_own_schedule() -> None:
    technique = Dropout(probability=0.2)
    model = technique(mlp(), Rng(0))
    twin = copy.deepcopy(model)
    replace(technique, probability=0.05).at(twin, Clock(), None)
    assert rates(model) == {"2": 0.2, "5": 0.2}
    assert rates(twin) == {"2": 0.05, "5": 0.05}


def test_a_resumed_run_has_the_bits_of_the_whole_one() -> None:
    def made() -> TrainStep:
        return train(fresh(), [Dropout(probability=0.5, insert="after_activations")], 0, horizon=Horizon.of("6 steps"))

    def go(step: TrainStep, first: int, last: int) -> None:
        for number in range(first, last):
            draw = torch.Generator().manual_seed(number)
            step(Batch(torch.randn(16, 4, generator=draw), torch.randn(16, 2, generator=draw)))

    whole, first, second = made(), made(), made()
    go(whole, 0, 6)
    go(first, 0, 3)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    go(second, 3, 6)
    assert torch.equal(weights(whole), weights(second))


def test_a_model_without_dropout_is_refused_and_told_what_to_do() -> None:
    with pytest.raises(JobError, match="dropout found nothing in the model") as refusal:
        Dropout()(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)), Rng(0))
    assert refusal.value.fix == "Set insert: after_activations"
    with pytest.raises(JobError, match="found nothing") as refusal:
        Dropout(insert="after_activations")(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), Rng(0))
    assert refusal.value.fix == "Add nn.Dropout layers to the model"


def test_a_pattern_that_covers_nothing_is_refused_with_the_nearest_name() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Dropout()), nn.Linear(2, 1))
    with pytest.raises(JobError, match=r"dropout.patterns has '0.2'.*Did you mean '0.1'"):
        Dropout(patterns={"0.2": 0.5})(model, Rng(0))


def test_dropout_in_the_code_that_nothing_reaches_is_refused() -> None:
    class Hidden(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return F.dropout(inputs, 0.3, self.training)

    with pytest.raises(JobError, match=r"can't reach the rate of 1 \(Hidden\)") as refusal:
        Dropout()(nn.Sequential(nn.Dropout(), Hidden(), nn.Linear(2, 1)), Rng(0))
    assert "self.dropout = nn.Dropout" in refusal.value.fix


@pytest.mark.parametrize(
    "settings",
    [
        {"probability": 1.0},
        {"probability": -0.1},
        {"rates": "no"},
        {"kind": "no"},
        {"insert": "no"},
        {"patterns": {}},
        {"patterns": [0.1]},
        {"patterns": {"a": 1.0}},
        {"patterns": {"a": -0.1}},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(JobError, match=r"dropout\."):
        Dropout(**settings)


def test_the_ends_of_the_ranges_are_accepted() -> None:
    assert Dropout(probability=0.0, patterns={"a": 0.0}).probability == 0.0
    assert Dropout(probability=0.999).probability == 0.999


class Recurrent(nn.Module):
    """What a recurrent layer gives at every step, dropped, and a head on the last."""

    def __init__(self) -> None:
        super().__init__()
        self.states, self.drop, self.head = nn.GRU(3, 4, batch_first=True), nn.Dropout(0.1), nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.drop(self.states(inputs)[0])[:, -1])
        return outputs


def network() -> nn.Sequential:
    """Dropped images, then dropped vectors."""
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Dropout(0.1), nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Dropout(0.1), nn.Linear(4, 2)
    )


def tried(technique: Dropout, model: nn.Module, *shape: int) -> None:
    technique(model, Rng(0))
    model.eval()
    technique.check_forward(model, lambda: model(torch.zeros(shape)))
    assert not any(module._forward_hooks for module in model.modules() if isinstance(module, DropoutLayer))


@pytest.mark.parametrize("kind", ["spatial", "variational"])
@pytest.mark.parametrize("insert", ["existing", "after_activations"])
def test_kinds_that_share_masks_are_refused_where_all_that_drops_is_vectors(kind: Any, insert: Any) -> None:
    place = "1" if insert == "after_activations" else "2"
    model = mlp() if insert == "existing" else fresh()
    with pytest.raises(JobError, match=rf"^dropout.kind is '{kind}', but '{place}' drops plain vectors, \(8, 6\)") as refusal:
        tried(Dropout(kind=kind, insert=insert), model, 8, 4)
    assert "kind: element" in refusal.value.fix
    tried(Dropout(kind="element", insert=insert), mlp(), 8, 4)
    tried(Dropout(insert=insert, probability=0.2), mlp(), 8, 4)


def test_kinds_that_share_masks_are_accepted_where_there_is_something_to_share_them_over() -> None:
    tried(Dropout(kind="spatial"), network(), 8, 1, 4, 4)  # a head's vectors are dropped element by element
    tried(Dropout(kind="variational"), Recurrent(), 8, 5, 3)
    tried(Dropout(kind="spatial"), Recurrent(), 8, 5, 3)


def test_variational_dropout_of_images_is_refused_before_training() -> None:
    with pytest.raises(JobError, match=r"^dropout.kind is 'variational', but '1' drops \(8, 2, 2, 2\)") as refusal:
        tried(Dropout(kind="variational"), network(), 8, 1, 4, 4)
    assert "kind: spatial" in refusal.value.fix


def test_a_kind_is_refused_where_rates_are_numbers_alone() -> None:
    model = nn.Sequential(nn.MultiheadAttention(4, 2, dropout=0.5), nn.AlphaDropout(0.1), nn.Linear(4, 2))
    with pytest.raises(JobError, match=r"^dropout.kind is 'variational', but '0\.dropout' and all else"):
        Dropout(kind="variational")(model, Rng(0))
    Dropout()(model, Rng(0))


def test_fit_refuses_a_kind_that_does_nothing_before_the_first_step() -> None:
    recipe = Recipe(objective="mse", optimizer="sgd", techniques=[{"name": "dropout", "kind": "spatial"}], batch_size=8)
    model = mlp()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(JobError, match="drops plain vectors"):
        fit(model, (torch.zeros(8, 4), torch.ones(8, 2)), recipe=recipe, budget="1 step")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("rates", ["typical", "guideline"])
def test_a_probability_beside_rates_by_position_is_refused_unless_it_switches_them_off(rates: Any) -> None:
    with pytest.raises(JobError, match=r"^dropout.probability is 0\.3; expected one of probability and rates"):
        Dropout(probability=0.3, rates=rates)(mlp(), Rng(0))
    assert Dropout(rates=rates).unused == ("probability",)
    assert Dropout(probability=0.0, rates=rates).unused == ()
    assert Dropout(probability=0.3).unused == ()


def test_a_schedule_may_move_rates_by_position() -> None:
    technique = Dropout(rates="typical")
    model = technique(mlp(), Rng(0))
    replace(technique, probability=0.05).at(model, Clock(), None)  # half of the probability: half of every rate
    assert rates(model) == {"2": 0.25, "5": 0.25}
