"""Sums over a batch."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, law, mlp, said, signs
from torch import Tensor, nn


def test_a_sum_doubles_with_its_batch_and_is_the_mean_once_mended() -> None:
    bench = bench_of(mlp(4, 8, 2), signs(), loss=nn.CrossEntropyLoss(reduction="sum"))
    (found,) = said("loss_scale", bench)
    assert (found.id, found.proof, found.evidence["terms_per_step"]) == ("loss_reduction_sum", "symptom", 32)
    assert found.evidence["ratio"] == pytest.approx(2.0)
    assert found.remedy.change is not None
    scores, labels = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    torch.testing.assert_close(found.remedy.change(bench.setup).loss(scores, labels), nn.CrossEntropyLoss()(scores, labels))


def test_a_sum_over_rows_and_columns_becomes_the_mean_over_both() -> None:
    inputs, _ = law()
    bench = bench_of(mlp(4, 8, 4), (inputs, 2 * inputs), loss=nn.MSELoss(reduction="sum"))
    (found,) = said("loss_scale", bench)
    assert found.remedy.change is not None
    a, b = torch.randn(5, 4), torch.randn(5, 4)
    torch.testing.assert_close(found.remedy.change(bench.setup).loss(a, b), nn.MSELoss()(a, b))


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.MultiMarginLoss()])
def test_a_mean_is_silent(loss: nn.Module) -> None:
    assert ids("loss_scale", bench_of(mlp(4, 8, 2), signs(), loss=loss)) == []


def test_a_loss_of_whole_batches_that_grows_less_is_silent() -> None:
    def root(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().sum().sqrt()

    assert ids("loss_scale", bench_of(mlp(4, 8, 1), law(), loss=root)) == []
