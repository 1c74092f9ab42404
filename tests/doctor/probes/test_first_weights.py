"""Weights that start too large."""

from __future__ import annotations

from small_setups import bench_of, ids, law, mlp, said, signs
from torch import nn


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
