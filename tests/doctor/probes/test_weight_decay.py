"""Weights that decay holds down."""

from __future__ import annotations

from typing import Any

import pytest
from small_setups import bench_of, ids, mlp, said, signs


def test_heavy_decay_is_told_with_what_it_would_leave_of_the_weights() -> None:
    optimizer = {"name": "sgd", "lr": 0.1, "weight_decay": 2.0}
    bench = bench_of(mlp(4, 16, 2), signs(), signs(seed=1), optimizer=optimizer)
    (found,) = said("weight_decay", bench)
    assert found.id == "over_regularised"
    assert found.evidence["shrinkage_over_the_training"] == pytest.approx(0.1 * 2.0 * 35)  # 35 steps
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    assert mended.optimizer["weight_decay"] == 0.02
    assert bench.course(mended).skill() > bench.own.skill() + 0.2


@pytest.mark.parametrize(
    "optimizer",
    [{"name": "sgd", "lr": 1e-4}, {"name": "adamw", "lr": 1e-4}, {"name": "adamw", "lr": 1e-4, "weight_decay": 0.1}],
)
def test_a_training_that_learns_little_has_not_that_cause_without_decay_that_acts(optimizer: dict[str, Any]) -> None:
    bench = bench_of(mlp(4, 16, 2), signs(), optimizer=optimizer)
    assert bench.unfit
    assert ids("weight_decay", bench) == []


def test_decay_under_which_rows_are_learnt_is_no_fault() -> None:
    optimizer = {"name": "adamw", "lr": 0.02, "weight_decay": 0.5}
    assert ids("weight_decay", bench_of(mlp(4, 16, 2), signs(), signs(seed=1), optimizer=optimizer, epochs=10)) == []
