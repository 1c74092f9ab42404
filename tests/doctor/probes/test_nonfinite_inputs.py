"""Cells that aren't finite are located, in either split, unless the model mends them."""

from __future__ import annotations

import torch
from small_setups import bench_of, ids, mlp, said, signs
from torch import Tensor, nn


def _spoiled(value: float, *cells: tuple[int, int]) -> tuple[Tensor, Tensor]:
    inputs, targets = signs(100)
    for row, column in cells:
        inputs[row, column] = value
    return inputs, targets


def test_rows_and_columns_of_nan_are_named_and_dropped_from_the_training_rows() -> None:
    (found,) = said("nonfinite_inputs", bench_of(mlp(4, 8, 2), _spoiled(float("nan"), (3, 1), (7, 1), (7, 2)), signs(50, seed=1)))
    assert found.id == "nan_in_inputs"
    assert found.proof == "certain"
    assert found.blocks
    assert found.evidence == {"train_num_cells": 3, "train_num_rows": 2, "train_rows": [3, 7], "train_columns": [1, 2]}
    assert found.remedy.change is not None
    bench = bench_of(mlp(4, 8, 2), _spoiled(float("nan"), (3, 1), (7, 1), (7, 2)))
    mended = found.remedy.change(bench.setup)
    assert len(mended.train) == 98
    assert bool(torch.isfinite(mended.train.inputs).all())


def test_infinite_cells_have_an_id_of_their_own() -> None:
    assert ids("nonfinite_inputs", bench_of(mlp(4, 8, 2), _spoiled(float("-inf"), (0, 0)))) == ["inf_in_inputs"]


def test_cells_of_validation_are_filled_by_the_mean_of_the_training_column_within_the_model() -> None:
    train, val = signs(100), _spoiled(float("nan"), (5, 2))
    bench = bench_of(nn.Identity(), train, val)
    (found,) = said("nonfinite_inputs", bench)
    assert found.evidence["val_rows"] == [5]
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    assert mended.val is not None
    assert torch.equal(mended.val.inputs.isnan(), val[0].isnan())
    outputs = mended.model(val[0])
    torch.testing.assert_close(outputs[5, 2], train[0][:, 2].mean())
    assert torch.equal(outputs[:5], val[0][:5])


def test_a_model_that_mends_such_cells_itself_is_left_alone() -> None:
    class Filling(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.nan_to_num(inputs)

    assert ids("nonfinite_inputs", bench_of(mlp(4, 8, 2, first=Filling()), _spoiled(float("nan"), (3, 1)))) == []


def test_finite_rows_and_tokens_are_no_matter() -> None:
    tokens = torch.randint(5, (100, 6), generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(18, 2))
    assert ids("nonfinite_inputs", bench_of(mlp(4, 8, 2), signs())) == []
    assert ids("nonfinite_inputs", bench_of(model, (tokens, tokens[:, 0] % 2))) == []
