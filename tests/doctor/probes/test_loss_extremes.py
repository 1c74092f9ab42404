"""Losses that fail far out."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, law, mlp, said, signs
from torch import Tensor, nn


def _own_softmax(scores: Tensor, labels: Tensor) -> Tensor:
    return -(scores.exp() / scores.exp().sum(1, keepdim=True)).gather(1, labels.unsqueeze(1)).log().mean()


def _own_entropy(chances: Tensor, labels: Tensor) -> Tensor:
    return -(labels * chances.log() + (1 - labels) * (1 - chances).log()).mean()


def test_an_own_softmax_overflows_and_becomes_cross_entropy() -> None:
    bench = bench_of(mlp(4, 8, 2), signs(), loss=_own_softmax)
    (found,) = said("loss_extremes", bench)
    assert (found.id, found.proof, found.evidence["last_layer_at"]) == ("unstable_loss", "mechanism", 100.0)
    assert found.remedy.change is not None
    assert "cross_entropy" in found.remedy.text
    loss = found.remedy.change(bench.setup).loss(torch.tensor([[200.0, 0.0]]), torch.tensor([1]))
    assert float(loss) == 200.0


def test_a_logarithm_of_a_chance_that_rounds_to_0_becomes_torchs_own() -> None:
    inputs, labels = signs()
    model = nn.Sequential(mlp(4, 8, 1), nn.Sigmoid())
    bench = bench_of(model, (inputs, labels.float().unsqueeze(1)), loss=_own_entropy)
    (found,) = said("loss_extremes", bench)
    assert found.id == "unstable_loss"
    assert found.remedy.change is not None
    loss = found.remedy.change(bench.setup).loss(torch.tensor([[1.0]]), torch.tensor([[0.0]]))
    assert float(loss) == 100.0  # torch cuts the logarithm there


def test_quantities_are_held_where_a_logarithm_is_finite() -> None:
    inputs, targets = law()

    def loss(outputs: Tensor, wanted: Tensor) -> Tensor:
        return ((3 + outputs).log() - (3 + wanted).log()).square().mean()

    bench = bench_of(mlp(4, 8, 1), (inputs, targets.clamp(-1, 1)), loss=loss)
    (found,) = said("loss_extremes", bench)
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup).loss
    assert bool(torch.isfinite(mended(torch.tensor([[-50.0]]), torch.tensor([[0.5]]))))
    assert float(mended(torch.tensor([[0.5]]), torch.tensor([[0.5]]))) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.MultiMarginLoss()])
def test_torchs_losses_of_scores_are_finite_everywhere(loss: nn.Module) -> None:
    assert ids("loss_extremes", bench_of(mlp(4, 8, 2), signs(), loss=loss)) == []


def test_bce_of_a_sigmoid_and_squares_are_finite_everywhere() -> None:
    inputs, labels = signs()
    model = nn.Sequential(mlp(4, 8, 1), nn.Sigmoid())
    assert ids("loss_extremes", bench_of(model, (inputs, labels.float().unsqueeze(1)), loss=nn.BCELoss())) == []
    assert ids("loss_extremes", bench_of(mlp(4, 8, 1), law(), loss=nn.MSELoss())) == []


def test_a_logarithm_of_outputs_that_cant_be_negative_is_silent() -> None:
    inputs, targets = law()

    def loss(outputs: Tensor, wanted: Tensor) -> Tensor:
        return (wanted / (outputs + 1e-6) + (outputs + 1e-6).log()).mean()

    bench = bench_of(nn.Sequential(mlp(4, 8, 1), nn.Softplus()), (inputs, targets.exp()), loss=loss)
    assert ids("loss_extremes", bench) == []
