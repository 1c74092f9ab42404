"""Momentum that remembers too much."""

from __future__ import annotations

from typing import Any

import pytest
from small_setups import bench_of, ids, mlp, said, signs

HIGH: tuple[tuple[dict[str, Any], float, dict[str, Any]], ...] = (
    ({"name": "sgd", "lr": 0.1, "momentum": 0.99}, 100.0, {"momentum": 0.9}),
    ({"name": "adam", "lr": 0.01, "betas": (0.98, 0.95)}, 50.0, {"betas": (0.9, 0.95)}),
)


@pytest.mark.parametrize(("optimizer", "steps", "changes"), HIGH)
def test_so_many_steps_are_remembered_and_the_remedy_is_the_usual_value(
    optimizer: dict[str, Any], steps: float, changes: dict[str, Any]
) -> None:
    bench = bench_of(mlp(4, 8, 2), signs(), optimizer=optimizer)
    (found,) = said("momentum", bench)
    assert found.id == "momentum_too_high"
    assert found.evidence["remembered_steps"] == pytest.approx(steps)
    assert found.remedy.change is not None
    assert found.remedy.change(bench.setup).optimizer == {**optimizer, **changes}


@pytest.mark.parametrize("optimizer", [{"name": "sgd", "lr": 0.1, "momentum": 0.95}, "adam", "sgd", "rmsprop"])
def test_usual_momentum_is_no_reason_to_speak(optimizer: Any) -> None:
    assert ids("momentum", bench_of(mlp(4, 8, 2), signs(), optimizer=optimizer)) == []
