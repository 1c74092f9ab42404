"""Weights that start too large."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, law, mlp, said, signs
from torch import Tensor, nn


def _large(*sizes: int, std: float) -> nn.Sequential:
    model = mlp(*sizes)
    for part in model.parameters():
        nn.init.normal_(part, std=std)
    return model


def test_unit_normal_weights_in_a_wide_net_are_too_large_and_moderate_once_mended() -> None:
    for width, train, loss in ((1, law(), nn.MSELoss()), (2, signs(), nn.CrossEntropyLoss())):
        bench = bench_of(_large(4, 64, 64, width, std=1.0), train, loss=loss)
        by_default, by_he = said("first_weights", bench)
        for found in (by_default, by_he):
            assert (found.id, found.proof) == ("init_too_large", "mechanism")
            assert found.evidence["excess"] > 10  # type: ignore[operator]
            assert found.evidence["excess_redrawn"] < 1  # type: ignore[operator]
            assert found.remedy.change is not None
            assert float(found.remedy.change(bench.setup).model(train[0]).std()) < 4


def test_default_weights_and_a_norm_before_the_head_are_healthy() -> None:
    assert ids("first_weights", bench_of(mlp(4, 64, 64, 2), signs())) == []
    body = _large(4, 64, 64, 64, std=1.0)
    head = nn.Sequential(body, nn.LayerNorm(64), nn.Linear(64, 2))
    assert ids("first_weights", bench_of(head, signs())) == []


def test_large_inputs_and_far_targets_arent_blamed_on_the_weights() -> None:
    inputs, labels = signs()
    assert ids("first_weights", bench_of(mlp(4, 64, 2), (1000 * inputs, labels))) == []
    rows, targets = law()
    assert ids("first_weights", bench_of(mlp(4, 64, 1), (rows, targets + 500), loss=nn.MSELoss())) == []


class _Products(nn.Module):
    """Ratings as products of two tables' rows, as their class draws them."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.viewers, self.films = nn.Embedding(20, 16), nn.Embedding(15, 16)

    def forward(self, pair: Tensor) -> Tensor:
        marks: Tensor = (self.viewers(pair[:, 0]) * self.films(pair[:, 1])).sum(1, keepdim=True)
        return marks


def test_products_of_tables_of_spread_one_start_far_out_and_smaller_tables_do_not() -> None:
    draw = torch.Generator().manual_seed(0)
    pairs = torch.stack([torch.randint(20, (200,), generator=draw), torch.randint(15, (200,), generator=draw)], 1)
    bench = bench_of(_Products(), (pairs, torch.randn(200, 1, generator=draw)), loss=nn.MSELoss())
    (found,) = said("first_weights", bench)
    assert found.id == "init_too_large"
    # A sum of 16 products of two normal numbers has variance 16; the targets' is about 1, and the excess is what is above it.
    assert float(str(found.evidence["excess"])) == pytest.approx(15, abs=5)
    assert "with embeddings of 0.1 of their size" in found.symptom
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup).model
    torch.testing.assert_close(mended.viewers.weight, 0.1 * bench.setup.model.viewers.weight)  # type: ignore[union-attr,operator]
