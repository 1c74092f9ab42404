"""Steps and rows that pull far harder than all others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_setups import Pair, bench_of, ids, law, mlp, said
from torch import Tensor, nn

from stepwell.doctor.probes.unstable_gradient import held_by_few, spikes_of


def _far(value: float, num_rows: int = 200) -> Pair:
    inputs, targets = law(num_rows)
    targets = targets.clone()
    targets[[50, 150]] = value
    return inputs, targets


def test_a_norm_of_twenty_among_ones_is_a_spike_and_one_of_ten_is_none() -> None:
    ones = [1.0] * 20
    assert spikes_of([*ones, 20.0, *ones, 10.0, *ones]) == [20]
    assert spikes_of([1000.0, *ones]) == []  # the first tenth is warmup
    assert spikes_of([1.1**step for step in range(40)]) == []  # a rise is no spike
    assert spikes_of([]) == []


def test_two_rows_of_two_hundred_hold_nearly_all_of_the_loss_and_are_told_with_a_remedy() -> None:
    bench = bench_of(mlp(4, 16, 1), _far(1000.0), law(seed=1), loss=nn.MSELoss(), optimizer={"name": "sgd", "lr": 1e-4})
    found = said("unstable_gradient", bench)
    assert [item.id for item in found] == ["unstable_gradient"] * 2
    # Two rows of about 1000^2 each, 198 of about 1: at least 2e6 / (2e6 + 400).
    assert float(str(found[0].evidence["held_by_few"])) > 0.999
    assert [item.remedy.change is None for item in found] == [False, True]


def test_the_share_of_the_worst_fiftieth_is_what_it_is_by_hand() -> None:
    class Zero(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs) * 0

    targets = torch.ones(100, 1)
    targets[[3, 4, 5]] = 4.0  # squares: 97 of 1, three of 16; the worst two are 32 of 145
    bench = bench_of(Zero(4, 1), (torch.zeros(100, 4), targets), loss=nn.MSELoss())
    assert held_by_few(bench, bench.setup) == pytest.approx(32 / 145)


def test_a_loss_that_can_be_negative_has_no_shares() -> None:
    loss: Any = nn.GaussianNLLLoss()
    bench = bench_of(mlp(4, 1), law(), loss=lambda outputs, targets: loss(outputs, targets, torch.full_like(outputs, 0.01)) - 9.0)
    assert held_by_few(bench, bench.setup) == 0.0


def test_rows_that_pull_alike_are_no_reason_to_speak() -> None:
    for optimizer in ({"name": "sgd", "lr": 0.1}, {"name": "sgd", "lr": 1e-5}):
        assert ids("unstable_gradient", bench_of(mlp(4, 16, 1), law(), loss=nn.MSELoss(), optimizer=optimizer)) == []


def test_spikes_that_a_lower_rate_ends_do_not_explain_that_rate() -> None:
    bench = bench_of(mlp(4, 8, 1), law(), loss=nn.MSELoss(), epochs=10)
    spiky, calm = [1.0] * 30 + [40.0] * 3 + [1.0] * 17 + [40.0] * 3, [1.0] * 50
    for course in (bench.own, bench.course(bench.with_rate(0.1))):
        course.grad_norms[:] = spiky if course is bench.own else calm
        course.looks[-1] = replace(course.last, val_skill=None, train_skill=0.0 if course is bench.own else 0.9)
    told = said("unstable_gradient", bench)
    assert told
    assert all(item.weight < 0.58 and "lr_too_high" not in item.explains for item in told)
    bench.course(bench.with_rate(0.1)).grad_norms[:] = spiky
    told = said("unstable_gradient", bench)
    assert all(item.weight > 0.58 and "lr_too_high" in item.explains for item in told)


def test_far_training_rows_are_told_where_validation_is_learnt_far_worse_than_simple_methods_do() -> None:
    inputs, targets = law()
    wild = targets.clone()
    wild[::50] = 300.0 * (1 - 2 * (torch.arange(4.0).unsqueeze(1) % 2))  # 4 of 200 rows
    bench = bench_of(mlp(4, 8, 1), (inputs, wild), law(seed=1), loss=nn.MSELoss(), optimizer={"name": "sgd", "lr": 0.01})
    bench.__dict__["unfit"], bench.__dict__["room"] = False, 0.3
    assert "unstable_gradient" in ids("unstable_gradient", bench)
    bench.__dict__["room"] = 0.0
    assert ids("unstable_gradient", bench) == []
