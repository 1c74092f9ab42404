"""Validation rows that are training rows."""

from __future__ import annotations

import torch
from small_setups import bench_of, ids, mlp, noise, said, signs
from torch import Tensor

from stepwell.doctor.bench import Bench


def test_copies_are_counted_and_left_out_of_training() -> None:
    inputs, labels = signs(260)
    bench = bench_of(mlp(4, 8, 2), (inputs[:200], labels[:200]), (inputs[180:], labels[180:]))
    (found,) = said("leakage", bench)
    assert found.id == "data_leakage"
    assert found.evidence["num_copies"] == 20
    assert found.evidence["share"] == 0.25
    assert found.evidence["rows"] == [0, 1, 2, 3, 4]
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    assert len(mended.train) == 180
    assert mended.val is bench.setup.val


def test_rows_repeated_before_the_split_are_told_though_training_rows_repeat_too() -> None:
    inputs, labels = signs(100)
    repeated = torch.arange(100).repeat(3)[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    train, val = repeated[:200], repeated[200:]
    assert ids("leakage", bench_of(mlp(4, 8, 2), (inputs[train], labels[train]), (inputs[val], labels[val]))) == ["data_leakage"]


def test_copies_by_chance_among_few_values_are_no_matter() -> None:
    def dice(num_rows: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs = torch.randint(5, (num_rows, 4), generator=torch.Generator().manual_seed(seed)).float()
        return inputs, (inputs.sum(1) > 8).long()

    assert ids("leakage", bench_of(mlp(4, 8, 2), dice(400, 0), dice(200, 1))) == []


def test_three_copies_and_copies_with_other_targets_are_no_matter() -> None:
    inputs, labels = signs(300)
    val = (torch.cat([inputs[:3], inputs[200:]]), torch.cat([labels[:3], labels[200:]]))
    assert ids("leakage", bench_of(mlp(4, 8, 2), (inputs[:200], labels[:200]), val)) == []
    other = (inputs[100:200], 1 - labels[100:200])
    assert ids("leakage", bench_of(mlp(4, 8, 2), (inputs[:200], labels[:200]), other)) == []


def test_images_with_few_grey_values_are_fine_grained_all_the_same() -> None:
    images = (noise(150, 1, 6, 6) > 0).float()
    labels = (images.mean((1, 2, 3)) > 0.5).long()
    bench = bench_of(mlp(36, 8, 2, first=torch.nn.Flatten()), (images[:100], labels[:100]), (images[80:], labels[80:]))
    assert ids("leakage", bench) == ["data_leakage"]


def test_copies_with_a_little_noise_are_found_and_neighbours_by_chance_are_not() -> None:
    inputs, labels = signs(300)
    near = inputs + 0.01 * noise(300, 4, seed=5)
    (found,) = said("leakage", bench_of(mlp(4, 8, 2), (inputs[:200], labels[:200]), (near[150:250], labels[150:250])))
    assert found.evidence["num_copies"] == 50
    assert "nearly" in found.symptom
    plane = noise(600, 2)
    labels = (plane[:, 0] > 0).long()
    assert ids("leakage", bench_of(mlp(2, 8, 2), (plane[:400], labels[:400]), (plane[400:], labels[400:]))) == []


def test_near_copies_made_before_the_split_are_found_where_training_has_them_too() -> None:
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, 5, generator=draw)
    labels = (torch.rand(300, generator=draw) > 0.5).long()  # nothing but the copies tells it

    def split(repeated: bool) -> Bench:
        rows = torch.randint(300, (900,), generator=draw) if repeated else torch.arange(300).repeat(3)
        order = torch.randperm(900, generator=draw) if repeated else torch.arange(900).reshape(3, 300).T.flatten()
        x = inputs[rows][order] + 0.02 * torch.randn(900, 5, generator=draw)
        y = labels[rows][order]
        return bench_of(mlp(5, 8, 2), (x[:600], y[:600]), (x[600:], y[600:]))

    (found,) = said("leakage", split(repeated=True))
    assert (found.id, found.proof) == ("data_leakage", "certain")
    assert found.evidence["share_of_copies_within_train"] > 0.5  # type: ignore[operator]
    assert ids("leakage", split(repeated=False)) == []  # split by what rows were copied from


def test_tight_groups_of_one_class_are_no_copies() -> None:
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(12, 4, generator=draw)

    def grouped(num_rows: int) -> tuple[Tensor, Tensor]:
        group = torch.randint(12, (num_rows,), generator=draw)
        return centres[group] + 0.02 * torch.randn(num_rows, 4, generator=draw), group % 2

    assert ids("leakage", bench_of(mlp(4, 8, 2), grouped(400), grouped(200))) == []
