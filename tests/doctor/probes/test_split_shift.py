"""Validation rows from elsewhere."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, mlp, noise, said, signs
from torch import nn

from stepwell.doctor.judge import helps
from stepwell.doctor.two_samples import told_apart


def test_unscaled_validation_rows_get_the_map_that_brings_them_back() -> None:
    inputs, labels = signs(150, seed=1)
    bench = bench_of(mlp(4, 16, 2), signs(200), (inputs * 12 + 40, labels))
    found = said("split_shift", bench)[0]
    assert found.id == "train_val_mismatch"
    assert found.evidence["area_under_curve"] == pytest.approx(1.0, abs=0.01)
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    assert mended.val is bench.setup.val
    train = bench.setup.train.inputs
    torch.testing.assert_close(mended.model(mended.train.inputs), bench.setup.model(train), atol=1e-4, rtol=1e-4)
    assert helps(bench.tried(mended))


def test_negatives_of_images_are_mapped_back_by_a_negative_factor() -> None:
    images = noise(300, 1, 5, 5).clamp(min=0.5)
    labels = (images[:, 0, :, :2].mean((1, 2)) > images[:, 0, :, 3:].mean((1, 2))).long()
    model = mlp(25, 8, 2, first=torch.nn.Flatten())
    found = said("split_shift", bench_of(model, (images[:200], labels[:200]), (1 - images[200:], labels[200:])))[0]
    assert str(found.evidence["factor"]).startswith("-")


def test_rows_of_one_source_are_not_told_apart() -> None:
    bench = bench_of(mlp(4, 8, 2), signs(200), signs(150, seed=1))
    area, num_columns = told_apart(bench.setup.train, bench.val)
    assert num_columns == 4
    assert 0.35 < area < 0.65
    assert ids("split_shift", bench) == []


def test_classes_that_only_validation_has_are_told() -> None:
    inputs, labels = noise(200, 4), torch.arange(200) // 50
    (found,) = said("split_shift", bench_of(mlp(4, 8, 4), (inputs[:150], labels[:150]), (inputs[140:], labels[140:])))
    assert found.proof == "certain"
    assert found.evidence["only_in_val"] == [3]
    assert found.evidence["share"] == pytest.approx(50 / 60, abs=1e-4)


def test_other_inputs_that_cost_nothing_are_not_told() -> None:
    inputs, labels = signs(150, seed=1)
    drifted = inputs.clone()
    drifted[:, 3] += 4  # a column that has nothing to do with the labels
    bench = bench_of(mlp(4, 16, 2), signs(400), (drifted, labels), epochs=30)
    for item in said("split_shift", bench):
        assert item.remedy.change is not None
        if bench.own.skill() > 0.95:
            assert not helps(bench.tried(item.remedy.change(bench.setup)))


def test_rows_beyond_the_range_of_training_that_are_judged_worse_are_a_mismatch_and_no_overfitting() -> None:
    inputs = noise(600, 3)
    targets = inputs[:, :1] + inputs[:, 2:].abs()
    left, right = inputs[:, 2] < 0, inputs[:, 2] > 0  # what is learnt on the left points the wrong way on the right
    rows = (inputs[left], targets[left]), (inputs[right], targets[right])
    settings = {"loss": nn.MSELoss(), "optimizer": {"name": "adam", "lr": 0.02}, "epochs": 20}
    bench = bench_of(mlp(3, 32, 1), *rows, **settings)
    told = [item for item in said("split_shift", bench) if item.remedy.change is None]
    assert [item.id for item in told] == ["train_val_mismatch"]
    assert ids("overfitting", bench) == []
    # The same rows, dealt to both splits alike.
    both = (torch.cat([inputs[left][::2], inputs[right][::2]]), torch.cat([targets[left][::2], targets[right][::2]]))
    others = (torch.cat([inputs[left][1::2], inputs[right][1::2]]), torch.cat([targets[left][1::2], targets[right][1::2]]))
    assert ids("split_shift", bench_of(mlp(3, 32, 1), both, others, **settings)) == []
