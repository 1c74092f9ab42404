"""Splits whose inputs look alike and mean something else."""

from __future__ import annotations

from small_setups import bench_of, ids, mlp, noise, said
from torch import Tensor, nn


def test_columns_in_another_order_are_another_relation_between_equal_looking_splits() -> None:
    inputs, val_inputs = noise(400, 4), noise(200, 4, seed=1)

    def law_of(rows: Tensor) -> Tensor:
        return rows[:, :1] - 0.5 * rows[:, 1:2]

    model = mlp(4, 16, 1)
    settings = {"loss": nn.MSELoss(), "optimizer": {"name": "adam", "lr": 0.01}, "epochs": 20}
    good = bench_of(model, (inputs, law_of(inputs)), (val_inputs, law_of(val_inputs)), **settings)
    moved = bench_of(model, (inputs, law_of(inputs)), (val_inputs[:, [2, 3, 0, 1]], law_of(val_inputs)), **settings)
    assert ids("split_relation", good) == []
    (found,) = said("split_relation", moved)
    assert (found.id, found.proof) == ("train_val_mismatch", "certain")
    assert found.evidence["skill_from_train_to_val"] < 0.1  # type: ignore[operator]
