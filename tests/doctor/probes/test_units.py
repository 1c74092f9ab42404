"""Dead and saturated units at the start."""

from __future__ import annotations

import torch
from small_setups import bench_of, ids, mlp, said, signs
from torch import Tensor, nn


class _Ends(nn.Module):
    """Hidden units of a function called in forward."""

    def __init__(self, how: str, bias: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head, self.how = nn.Linear(4, 16), nn.Linear(16, 2), how
        nn.init.constant_(self.first.bias, bias)

    def forward(self, inputs: Tensor) -> Tensor:
        states = self.first(inputs)
        states = states.clamp(min=0) if self.how == "clamp" else getattr(torch, self.how)(states)
        outputs: Tensor = self.head(states)
        return outputs


def _model(how: str, bias: float) -> _Ends:
    with torch.random.fork_rng(devices=[]):
        return _Ends(how, bias)


def test_units_that_no_row_activates_are_dead_and_live_once_mended() -> None:
    for how in ("relu", "clamp"):
        bench = bench_of(_model(how, -20.0), signs())
        (found,) = said("units", bench)
        assert (found.id, found.proof, found.evidence["share"]) == ("dead_relu", "mechanism", 1.0)
        assert found.remedy.change is not None
        assert float(found.remedy.change(bench.setup).model(signs()[0]).std(0).max()) > 0.01


def test_units_at_their_rails_are_saturated() -> None:
    for how in ("sigmoid", "tanh"):
        (found,) = said("units", bench_of(_model(how, 20.0), signs()))
        assert (found.id, found.evidence["share"]) == ("saturated_activation", 1.0)


def test_usual_starts_and_an_activation_at_the_end_are_healthy() -> None:
    for how in ("relu", "sigmoid", "tanh"):
        assert ids("units", bench_of(_model(how, 0.0), signs())) == []
    dead_end = nn.Sequential(mlp(4, 8, 2), nn.ReLU())
    nn.init.constant_(dead_end[0][-1].bias, -50.0)  # type: ignore[index]
    assert ids("units", bench_of(dead_end, signs())) == []


def test_rails_that_the_inputs_scale_leads_to_are_left_to_the_inputs() -> None:
    inputs, labels = signs()
    assert ids("units", bench_of(_model("tanh", 0.0), (500 * inputs, labels))) == []


class _Steep(nn.Module):
    """Hidden sigmoids with a steep slope: drawing weights anew leaves it."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head, self.slope = nn.Linear(4, 16), nn.Linear(16, 2), slope

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(torch.sigmoid(self.slope * self.first(inputs)))
        return outputs


def test_a_steep_slope_is_mended_by_smaller_numbers_into_the_units() -> None:
    with torch.random.fork_rng(devices=[]):
        model = _Steep(400.0)
    bench = bench_of(model, signs())
    gentler, other = said("units", bench)
    assert {gentler.id, other.id} == {"saturated_activation"}
    assert gentler.remedy.change is not None
    mended = gentler.remedy.change(bench.setup)
    assert ids("units", bench_of(mended.model, signs())) == []


def test_where_a_minority_of_layers_has_some_dead_units_a_fading_gradient_comes_first() -> None:
    model = mlp(4, 16, 16, 16, 16, 2)
    layer = model[2]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.bias[:10] = -50.0  # 10 of 16 units of one of four layers
    (found,) = said("units", bench_of(model, signs()))
    assert found.id == "dead_relu"
    assert found.evidence["share"] == 10 / 16
    assert 0.7 <= found.weight < 0.75
