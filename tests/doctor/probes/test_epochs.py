"""Trainings that end while they still learn."""

from __future__ import annotations

from small_setups import bench_of, ids, mlp, said, signs


def test_one_epoch_of_small_steps_is_too_short_and_more_are_asked_for() -> None:
    bench = bench_of(mlp(4, 16, 2), signs(), signs(seed=1), optimizer={"name": "sgd", "lr": 0.05}, epochs=2)
    found = said("epochs", bench)
    assert [item.id for item in found] == ["too_few_epochs"] * 2
    assert found[0].evidence["num_steps"] == 14  # 200 rows in batches of 32: 7 steps an epoch
    mended = [item.remedy.change(bench.setup) for item in found if item.remedy.change is not None]
    assert [setup.epochs for setup in mended] == [8, 32]
    assert bench.course(mended[1]).skill() > bench.own.skill() + 0.05


def test_a_training_that_has_learnt_its_rows_is_long_enough() -> None:
    assert ids("epochs", bench_of(mlp(4, 16, 2), signs(), signs(seed=1), optimizer={"name": "adam", "lr": 0.02}, epochs=10)) == []


def test_no_more_epochs_are_asked_for_than_can_be_tried() -> None:
    bench = bench_of(mlp(4, 2), signs(64), optimizer={"name": "sgd", "lr": 1e-4}, epochs=150)
    assert bench.setup.num_steps == 300
    # 4 * 300 steps can be tried, 16 * 300 can't.
    assert [item.remedy.job for item in said("epochs", bench)] in ([], [{"budget": "600 epochs"}])


def test_nothing_is_said_of_a_training_that_becomes_non_finite() -> None:
    assert ids("epochs", bench_of(mlp(4, 8, 2), signs(), optimizer={"name": "sgd", "lr": 1e30}, epochs=2)) == []
