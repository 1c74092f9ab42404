"""A run that learns training rows by heart while validation stays at chance."""

from __future__ import annotations

import torch
from small_setups import bench_of, ids, mlp, noise, said, signs

ADAM = {"name": "adam", "lr": 0.01}


def test_labels_of_other_rows_are_learnt_by_heart() -> None:
    lost = signs(120, seed=9, num_features=30)[1]
    val = (noise(150, 30, seed=2), signs(150, seed=4)[1])
    bench = bench_of(mlp(30, 64, 2), (noise(120, 30), lost), val, optimizer=ADAM, epochs=40)
    (found,) = said("unrelated_labels", bench)
    assert found.id == "labels_misaligned"
    assert found.evidence["train_skill"] > 0.95
    assert found.remedy.change is None


def test_a_run_that_tells_validation_rows_is_no_matter() -> None:
    assert ids("unrelated_labels", bench_of(mlp(4, 32, 2), signs(120), signs(150, seed=1), optimizer=ADAM, epochs=20)) == []


def test_a_net_that_learns_nothing_at_all_says_nothing_of_labels() -> None:
    lost = signs(120, seed=9)[1]
    val = (noise(150, 4, seed=2), torch.arange(150) % 2)
    assert ids("unrelated_labels", bench_of(mlp(4, 2, 2), (noise(120, 4), lost), val)) == []
