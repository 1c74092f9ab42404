"""The workbench: each thing measured once, on copies, within what may be spent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepwell.doctor.bench import FEWEST, Bench, Budget
from stepwell.doctor.findings import Remedy
from stepwell.doctor.setup import Setup, setup_of


def _pair(num_rows: int, seed: int) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(num_rows, 4, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs[:, 0] > 0).long()


def _made(**changes: Any) -> Setup:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    given = {"train": _pair(64, 0), "val": _pair(300, 1), "loss": "cross_entropy", "optimizer": {"name": "sgd", "lr": 0.1}}
    return setup_of(model, **{**given, "batch_size": 16, "epochs": 3, "shuffle": True, **changes})


def test_a_cheap_training_is_run_whole_and_once() -> None:
    bench = Bench(_made())
    assert bench.trial_steps == bench.setup.num_steps == 12
    assert bench.complete
    assert len(bench.own.losses) == 12
    assert bench.course(bench.setup) is bench.own
    assert bench.spent_steps == 8 + 12  # eight tell what a step costs


def test_of_a_long_training_trials_take_a_twelfth_of_their_share() -> None:
    bench = Bench(_made(epochs=25_000), Budget(seconds=1e9, share=0.012))
    assert bench.setup.num_steps == 100_000
    assert bench.trial_steps <= 100  # 100000 * 0.012 / 12
    assert bench.trial_steps >= FEWEST
    assert not bench.complete


def test_of_a_training_that_takes_long_trials_take_no_more_than_the_share_of_its_steps() -> None:
    bench = Bench(_made(epochs=100), Budget(seconds=1e-9, share=0.05))  # 400 steps
    assert bench.most_steps == 20.0
    assert bench.trial_steps == 5  # a quarter: fewer tell nothing
    bench.budget = Budget(seconds=1e9, share=0.05)
    assert len(bench.own.losses) == 5
    assert bench.spent_steps == 8 + 5
    assert bench.affords(bench.setup.with_rate(0.1), seeds=(0,))  # 5 of the 7 that are left
    assert not bench.affords(bench.setup.with_rate(0.1))
    assert bench.one_batch.num_steps <= 3
    bench.run(bench.setup, 20)
    assert bench.left == 0.0


def test_a_setup_of_more_epochs_is_trained_over_the_same_share_of_its_steps() -> None:
    bench = Bench(_made())
    assert len(bench.course(bench.setup.change(epochs=6)).losses) == 24
    assert len(bench.course(bench.setup.change(batch_size=64)).losses) == 3
    assert len(bench.course(bench.setup, num_steps=5).losses) == 5


def test_the_first_batch_is_drawn_unless_rows_keep_their_order() -> None:
    assert torch.equal(Bench(_made(shuffle=False)).first_batch.inputs, _pair(64, 0)[0][:16])
    drawn = Bench(_made()).first_batch.inputs
    assert drawn.shape == (16, 4)
    assert not torch.equal(drawn, _pair(64, 0)[0][:16])


def test_some_rows_are_256_spread_evenly_and_validation_may_be_the_training_rows() -> None:
    bench = Bench(_made(train=_pair(511, 0), val=None))
    assert torch.equal(bench.some.inputs, _pair(511, 0)[0][::2])
    assert bench.val is bench.setup.train
    assert len(Bench(_made()).some) == 64


def test_outputs_are_those_of_the_untrained_model_in_evaluation_mode() -> None:
    setup = _made()
    torch.testing.assert_close(Bench(setup).outputs, setup.model(_pair(64, 0)[0]).detach())
    assert Bench(_made(train=(torch.zeros(8, 3), torch.zeros(8).long()))).outputs is None


def test_room_is_what_simple_methods_reach_beyond_the_training() -> None:
    bench = Bench(_made(optimizer={"name": "sgd", "lr": 1e-6}))
    assert bench.reference is not None
    assert bench.room == pytest.approx(bench.reference.best - bench.own.skill())
    assert bench.unfit
    assert not Bench(_made(optimizer={"name": "adam", "lr": 0.02}, epochs=20)).unfit


def test_asking_for_what_was_trained_trains_nothing() -> None:
    bench = Bench(_made())
    other = bench.with_rate(0.1)
    assert bench.trained(other) is None
    assert bench.spent_steps == 8  # of the steps that tell what one costs
    course = bench.course(other)
    assert bench.trained(other) is course
    assert bench.trained(other, seed=1) is None


def test_nothing_is_learnt_where_rows_that_tell_the_answer_are_answered_with_the_most_common_one() -> None:
    still = {"name": "sgd", "lr": 1e-9}
    # Labels that rows tell nothing of.
    untold = {"train": (_pair(64, 0)[0], torch.arange(64) % 2), "val": (_pair(300, 1)[0], torch.arange(300) % 2)}
    assert Bench(_made(optimizer=still, epochs=10)).learns_nothing
    assert not Bench(_made(epochs=10)).learns_nothing
    assert not Bench(_made(optimizer=still, epochs=10, **untold)).learns_nothing
    # Of 400 steps 60 are run: too few to tell.
    assert not Bench(_made(optimizer=still, epochs=100), Budget(share=0.01, long_steps=70)).learns_nothing


def test_the_pace_is_the_median_of_what_steps_move_of_the_weights() -> None:
    bench = Bench(_made())
    bench.own.update_ratios.clear()
    bench.own.update_ratios.update({"a": [0.1, 0.0, 0.4], "b": [0.2]})
    assert bench.pace == 0.2  # of 0.1, 0.2, 0.4


def test_a_remedy_is_applied_once_and_tried_seed_by_seed() -> None:
    bench = Bench(_made(optimizer={"name": "sgd", "lr": 1e-6}))
    remedy = Remedy("a higher rate", lambda setup: setup.with_rate(1e5))
    mended = bench.mended(remedy)
    assert bench.mended(remedy) is mended
    assert bench.with_rate(10.0) is bench.with_rate(10.0)
    tried = bench.tried(mended)
    assert len(tried.before) == len(tried.after) == 2
    assert tried.before[0] == bench.own.skill()
    assert tried.gain == pytest.approx(sum(tried.after) / 2 - sum(tried.before) / 2)
    assert tried.num_steps == 12
    assert tried.loss_after[0] < tried.loss_before[0]


def test_a_remedy_that_is_worse_with_the_first_seed_is_not_asked_again() -> None:
    bench = Bench(_made(optimizer={"name": "adam", "lr": 0.02}, epochs=10))
    assert len(bench.tried(bench.setup.with_rate(1e-6)).before) == 1


def test_the_cost_of_a_trial_is_told_by_the_steps_not_yet_trained_and_what_is_spent_is_not_left() -> None:
    bench = Bench(_made(), Budget(seconds=0.0))
    assert bench.left == 0.0
    bench.__dict__["own"] = replace(bench.own, seconds=2.0, stepping=2.0)
    assert bench.cost(bench.setup) == pytest.approx(2.0)  # the second seed; the first was trained
    longer = bench.setup.change(epochs=6)
    assert bench.cost(longer) == pytest.approx(8.0 + 2.0)  # twice the steps, two seeds; and the second seed beside it
    bench.course(longer)
    assert bench.cost(longer) == pytest.approx(4.0 + 2.0)
    assert bench.cost(longer, seeds=(0,)) == 0.0
