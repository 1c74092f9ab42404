"""Sorted rows that the loader keeps sorted."""

from __future__ import annotations

import torch
from small_setups import bench_of, ids, law, mlp, said, signs
from torch import Tensor, nn

from stepwell.doctor.probes.row_order import runs


def _sorted(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    order = pair[1].reshape(-1).argsort(stable=True)
    return pair[0][order], pair[1][order]


def test_rows_sorted_by_class_without_shuffling_are_told() -> None:
    bench = bench_of(mlp(4, 8, 2), _sorted(signs(200)), shuffle=False)
    (found,) = said("row_order", bench)
    assert found.id == "unshuffled_data"
    assert found.evidence["num_runs"] == 2
    assert found.remedy.change is not None
    assert found.remedy.change(bench.setup).shuffle


def test_sorted_quantities_are_told_too() -> None:
    assert ids("row_order", bench_of(mlp(4, 8, 1), _sorted(law(200)), loss=nn.MSELoss(), shuffle=False)) == ["unshuffled_data"]


def test_shuffling_mixed_rows_and_a_single_batch_make_order_no_matter() -> None:
    assert ids("row_order", bench_of(mlp(4, 8, 2), _sorted(signs(200)))) == []
    assert ids("row_order", bench_of(mlp(4, 8, 2), signs(200), shuffle=False)) == []
    assert ids("row_order", bench_of(mlp(4, 8, 2), _sorted(signs(200)), shuffle=False, batch_size=200)) == []


def test_half_of_each_of_two_classes_gives_one_run_more_than_half_of_the_rows_by_chance() -> None:
    num_runs, expected, z = runs(torch.arange(400) // 200)
    # Wald and Wolfowitz: 1 + 2 * 200 * 200 / 400 runs, standard deviation about sqrt(400) / 2.
    assert num_runs == 2
    assert abs(expected - 201) < 6
    assert -30 < z < -13
