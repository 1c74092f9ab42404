"""Networks that do worse than simple methods."""

from __future__ import annotations

import torch
from small_setups import Pair, bench_of, ids, mlp, noise, said, signs
from torch import nn

from stepwell.doctor.bench import Bench, Budget

ADAM = {"name": "adam", "lr": 0.02}


def _xor(num_rows: int, seed: int) -> Pair:
    inputs = noise(num_rows, 2, seed=seed)
    return inputs, ((inputs[:, 0] > 0) ^ (inputs[:, 1] > 0)).long()


def test_a_line_does_worse_on_exclusive_or_than_nearest_neighbours() -> None:
    (found,) = said("underfitting", bench_of(mlp(2, 2), _xor(200, 0), _xor(200, 1), optimizer=ADAM, epochs=10))
    assert found.id == "underfitting"
    assert found.remedy.change is None
    assert float(str(found.evidence["train_skill"])) < 0.7
    assert float(str(found.evidence["linear"])) < 0.7
    assert float(str(found.evidence["neighbours"])) > 0.85


def test_a_line_is_enough_where_the_law_is_one() -> None:
    assert ids("underfitting", bench_of(mlp(4, 2), signs(), signs(seed=1), optimizer=ADAM, epochs=10)) == []


def test_nothing_is_said_where_weights_of_classes_trade_the_common_ones_for_the_rare_ones() -> None:
    def rare(seed: int) -> Pair:
        inputs = noise(400, 2, seed=seed)
        return inputs, (inputs[:, 0] + 0.8 * noise(400, 1, seed=seed + 10)[:, 0] > 1.6).long()

    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 40.0]))
    bench = bench_of(mlp(2, 2), rare(0), rare(1), loss=weighted, optimizer=ADAM, epochs=10)
    assert bench.reference is not None
    assert bench.reference.best - bench.own.skill() > 0.1
    assert bench.own.skill("balanced") > bench.reference.balanced
    assert ids("underfitting", bench) == []


def test_nothing_is_said_of_a_training_of_which_only_the_beginning_was_run() -> None:
    bench = bench_of(mlp(2, 2), _xor(200, 0), _xor(200, 1), optimizer=ADAM, epochs=10)
    part = Bench(bench.setup, Budget(share=0.01, long_steps=70))  # of 70 steps only 60
    assert not part.complete
    assert ids("underfitting", part) == []
