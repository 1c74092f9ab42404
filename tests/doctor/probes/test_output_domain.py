"""Scores where the loss takes chances."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, law, mlp, said, signs
from torch import Tensor, nn


def _own_entropy(chances: Tensor, labels: Tensor) -> Tensor:
    return -(labels * chances.log() + (1 - labels) * (1 - chances).log()).mean()


def _flags() -> tuple[Tensor, Tensor]:
    inputs, labels = signs()
    return inputs, labels.float().unsqueeze(1)


def test_nll_of_scores_misses_log_softmax_and_is_cross_entropy_once_mended() -> None:
    bench = bench_of(mlp(4, 8, 2), signs(), loss=nn.NLLLoss())
    (found,) = said("output_domain", bench)
    assert (found.id, found.proof) == ("missing_output_activation", "certain")
    assert found.evidence["loss_of_doubled"] == pytest.approx(2 * found.evidence["loss"])  # type: ignore[operator]
    assert found.remedy.change is not None
    scores, labels = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    torch.testing.assert_close(found.remedy.change(bench.setup).loss(scores, labels), nn.CrossEntropyLoss()(scores, labels))


def test_a_logarithm_of_raw_scores_misses_a_sigmoid() -> None:
    (found,) = said("output_domain", bench_of(mlp(4, 8, 1), _flags(), loss=_own_entropy))
    assert found.id == "missing_output_activation"
    assert found.evidence["loss"] == "nan"


def test_a_logarithm_of_chances_is_healthy() -> None:
    model = nn.Sequential(mlp(4, 8, 1), nn.Sigmoid())
    assert ids("output_domain", bench_of(model, _flags(), loss=_own_entropy)) == []


def test_nll_of_log_softmax_and_cross_entropy_of_scores_are_healthy() -> None:
    assert ids("output_domain", bench_of(nn.Sequential(mlp(4, 8, 2), nn.LogSoftmax(1)), signs(), loss=nn.NLLLoss())) == []
    assert ids("output_domain", bench_of(mlp(4, 8, 2), signs())) == []


def test_nll_of_chances_has_the_wrong_activation_and_is_cross_entropy_once_mended() -> None:
    bench = bench_of(nn.Sequential(mlp(4, 8, 2), nn.Softmax(1)), signs(), loss=nn.NLLLoss())
    (found,) = said("output_domain", bench)
    assert (found.id, found.proof) == ("wrong_output_activation", "mechanism")
    assert found.remedy.change is not None
    value = found.remedy.change(bench.setup).loss(torch.tensor([[0.5, 0.5]]), torch.tensor([0]))
    assert float(value) == pytest.approx(0.6931, abs=1e-4)


def test_logarithms_of_raw_quantities_need_positive_outputs() -> None:
    inputs, targets = law()

    def loss(outputs: Tensor, wanted: Tensor) -> Tensor:
        return (outputs.log() - wanted.log()).square().mean()

    bench = bench_of(mlp(4, 8, 1), (inputs, targets.exp()), loss=loss)
    (found,) = said("output_domain", bench)
    assert found.id == "missing_output_activation"
    assert found.remedy.change is not None
    assert bool((found.remedy.change(bench.setup).model(inputs) > 0).all())


def test_scores_that_are_only_too_large_for_an_own_softmax_dont_miss_an_activation() -> None:
    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return -(scores.exp() / scores.exp().sum(1, keepdim=True)).gather(1, labels.unsqueeze(1)).log().mean()

    inputs, labels = signs()
    assert ids("output_domain", bench_of(mlp(4, 8, 2), (1e4 * inputs, labels), loss=loss)) == []
