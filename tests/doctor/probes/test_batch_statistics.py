"""Batches too small for statistics, or for steps."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, mlp, noise, said, signs
from torch import Tensor, nn

from stepwell.doctor.probes.batch_statistics import has_batch_statistics


def _normed(norm: nn.Module) -> nn.Sequential:
    layers = list(mlp(4, 8, 2))
    return nn.Sequential(layers[0], norm, *layers[1:])


def test_a_last_batch_of_one_row_is_a_certain_crash_under_batch_norm() -> None:
    bench = bench_of(_normed(nn.BatchNorm1d(8)), signs(129), batch_size=32)
    (found,) = said("batch_statistics", bench)
    assert found.id == "last_batch_of_one"
    assert found.blocks
    assert "more than 1 value" in str(found.evidence["error"])
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    assert mended.batch_size == 28  # 129 = 4 * 28 + 17; 31, 30 and 29 leave 5, 9 and 13
    assert bench.course(mended).crash is None


def test_a_last_row_alone_is_no_matter_without_batch_statistics() -> None:
    assert ids("batch_statistics", bench_of(_normed(nn.LayerNorm(8)), signs(129), batch_size=32)) == []
    assert ids("batch_statistics", bench_of(_normed(nn.BatchNorm1d(8)), signs(130), batch_size=32)) == []


def test_pairs_of_rows_under_batch_norm_are_suspected_and_steps_stay_as_many() -> None:
    bench = bench_of(_normed(nn.BatchNorm1d(8)), signs(128), batch_size=8, epochs=2)
    (found,) = said("batch_statistics", bench)
    assert found.id == "batchnorm_small_batch"
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    assert (mended.batch_size, mended.num_steps, bench.setup.num_steps) == (32, 32, 32)


def test_batches_of_one_row_under_batch_norm_cannot_run() -> None:
    (found,) = said("batch_statistics", bench_of(_normed(nn.BatchNorm1d(8)), signs(128), batch_size=1))
    assert found.id == "batchnorm_small_batch"
    assert found.proof == "certain"


def test_tiny_batches_without_statistics_are_suspected_of_noise_at_as_many_epochs() -> None:
    bench = bench_of(mlp(4, 8, 2), signs(128), batch_size=2)
    (found,) = said("batch_statistics", bench)
    assert found.id == "batch_too_small"
    assert found.proof == "symptom"
    assert found.remedy.change is not None
    assert found.remedy.change(bench.setup).epochs == 5
    assert ids("batch_statistics", bench_of(mlp(4, 8, 2), signs(128), batch_size=16)) == []


@pytest.mark.parametrize(("norm", "shared"), [(nn.BatchNorm1d(8), True), (nn.LayerNorm(8), False), (nn.Dropout(0.5), False)])
def test_statistics_are_told_by_what_comes_out(norm: nn.Module, *, shared: bool) -> None:
    assert has_batch_statistics(bench_of(_normed(norm), signs(64)).setup) is shared


class _Squeezed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, rows: Tensor) -> Tensor:
        outputs: Tensor = self.inner(rows).squeeze()
        return outputs


def test_a_last_row_alone_whose_dimension_is_squeezed_away_is_a_certain_crash() -> None:
    rows = noise(65, 4), torch.arange(65) % 3
    (found,) = said("batch_statistics", bench_of(_Squeezed(), rows))
    assert (found.id, found.proof) == ("last_batch_of_one", "certain")
    assert "target_shape_mismatch" in found.explains
    assert ids("batch_statistics", bench_of(_Squeezed(), (rows[0][:64], rows[1][:64]))) == []
