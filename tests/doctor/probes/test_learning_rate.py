"""The same training at other rates."""

from __future__ import annotations

import pytest
from small_setups import bench_of, ids, mlp, said, signs


def test_a_rate_of_a_thousand_is_too_high_and_a_lower_one_is_named() -> None:
    bench = bench_of(mlp(4, 16, 2), signs(), signs(seed=1), optimizer={"name": "sgd", "lr": 1000.0})
    (found,) = said("learning_rate", bench)
    assert found.id == "lr_too_high"
    assert found.evidence["lr"] == 1000.0
    better = float(str(found.evidence["better_lr"]))
    assert better <= 300.0
    assert float(str(found.evidence["skill_at_better_lr"])) > float(str(found.evidence["skill"]))
    assert found.remedy.change is not None
    assert found.remedy.change(bench.setup).lr == found.remedy.job["recipe.optimizer.lr"] == better


def test_a_rate_that_hardly_moves_weights_is_too_low() -> None:
    bench = bench_of(mlp(4, 16, 2), signs(), signs(seed=1), optimizer={"name": "sgd", "lr": 1e-5})
    (found,) = said("learning_rate", bench)
    assert found.id == "lr_too_low"
    assert float(str(found.evidence["update_ratio"])) < 1e-3
    assert float(str(found.evidence["better_lr"])) >= 3e-5
    assert float(str(found.evidence["skill_at_better_lr"])) > float(str(found.evidence["skill"]))


def test_a_training_that_learns_its_rows_is_asked_for_no_other_rate() -> None:
    bench = bench_of(mlp(4, 16, 2), signs(), signs(seed=1), optimizer={"name": "adam", "lr": 0.02}, epochs=10)
    assert ids("learning_rate", bench) == []
    assert bench.rates == {}


@pytest.mark.parametrize("lr", [1000.0, 1e-5])
def test_nothing_is_said_of_a_training_that_crashes(lr: float) -> None:
    assert ids("learning_rate", bench_of(mlp(3, 2), signs(), optimizer={"name": "sgd", "lr": lr})) == []
