"""Training rows learnt by heart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_setups import Pair, bench_of, ids, mlp, noise, said, signs
from torch import nn

ADAM = {"name": "adam", "lr": 0.02}


def _coins(num_rows: int, seed: int) -> Pair:
    """Labels that inputs say nothing about."""
    return noise(num_rows, 20, seed=seed), (noise(num_rows, seed=seed + 50) > 0).long()


def test_labels_of_no_meaning_are_learnt_by_heart_and_no_remedy_need_be_tried_to_say_so() -> None:
    bench = bench_of(mlp(20, 64, 2), _coins(40, 0), _coins(200, 1), optimizer=ADAM, epochs=20)
    found = said("overfitting", bench)
    assert {item.id for item in found} == {"overfitting"}
    assert found[0].evidence["train_skill"] == 1.0
    assert float(str(found[0].evidence["val_skill"])) == pytest.approx(0.5, abs=0.12)
    assert (found[0].evidence["num_rows"], found[0].evidence["num_parameters"]) == (40, 20 * 64 + 64 + 64 * 2 + 2)
    assert [item.proof for item in found if item.remedy.change is None] == ["mechanism"]


def test_the_remedies_are_fewer_epochs_and_decay_that_adam_decouples() -> None:
    bench = bench_of(mlp(20, 64, 2), _coins(40, 0), _coins(200, 1), optimizer=ADAM, epochs=20)
    mended = [item.remedy.change(bench.setup) for item in said("overfitting", bench) if item.remedy.change is not None]
    decays = [setup.optimizer["weight_decay"] for setup in mended if "weight_decay" in setup.optimizer]
    assert decays == [1.0, 0.1]
    assert {setup.optimizer["name"] for setup in mended if "weight_decay" in setup.optimizer} == {"adamw"}
    assert all(setup.epochs < 20 for setup in mended if "weight_decay" not in setup.optimizer)


def test_rows_that_are_judged_alike_are_not_overfitted() -> None:
    bench = bench_of(mlp(4, 16, 2), signs(), signs(seed=1), optimizer=ADAM, epochs=10)
    assert ids("overfitting", bench) == []


def test_without_validation_rows_nothing_can_be_told() -> None:
    assert ids("overfitting", bench_of(mlp(20, 64, 2), _coins(40, 0), optimizer=ADAM, epochs=20)) == []


def test_a_loss_that_dropout_raises_in_training_is_no_gap() -> None:
    model = nn.Sequential(mlp(4, 32), nn.ReLU(), nn.Dropout(0.5), mlp(32, 2))
    assert ids("overfitting", bench_of(model, signs(), signs(seed=1), optimizer=ADAM, epochs=10)) == []


def test_a_run_that_learnt_nothing_has_not_overfitted_where_validation_has_other_shares() -> None:
    inputs = noise(200, 4)
    train, val = (inputs, (noise(200, seed=3) > 0.5).long()), (inputs, (noise(200, seed=4) > -0.5).long())
    setup = bench_of(mlp(4, 8, 2), train, val, optimizer={"name": "sgd", "lr": 1e-9})
    with torch.no_grad():
        setup.setup.model[-1].bias.copy_(torch.tensor([1.0, -1.0]))  # type: ignore[union-attr,operator,index]
    assert ids("overfitting", setup) == []


@pytest.mark.parametrize(("best_train_skill", "told"), [(0.80, True), (0.90, False)])
def test_validation_that_turns_while_training_rows_are_still_learnt_is_overfitting(
    best_train_skill: float, *, told: bool
) -> None:
    # A quarter of the training labels is wrong: at its best the network judges validation rows better than training rows.
    bench = bench_of(mlp(4, 16, 2), signs(), signs(seed=1))
    looks = bench.own.looks
    looks[3] = replace(looks[3], train_skill=best_train_skill, val_skill=0.97)
    looks[4:] = [replace(one, train_skill=0.92, val_skill=0.86) for one in looks[4:]]
    looks[:3] = [replace(one, train_skill=0.5, val_skill=0.5) for one in looks[:3]]
    assert ("overfitting" in ids("overfitting", bench)) is told
