"""A step that was skipped never happened, except to the cursor and the loss scale."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.batch import Batch
from stepwell.core.clock import Horizon
from stepwell.engine.parts import Execution
from stepwell.engine.train_step import TrainStep
from stepwell.precision import LossScale, Precision
from stepwell.techniques import AdamW, CrossEntropy, Ema, OneCycle, Sgd, Unfreezing


class FakeScale(LossScale):
    """A loss scale that is infinite at chosen calls: that step's gradients overflow."""

    def __init__(self, bad: set[int]) -> None:
        super().__init__(1024.0)
        self.bad, self.calls = bad, 0

    def update(self, *, overflow: bool) -> None:
        assert overflow == (self.calls in self.bad)
        self.calls += 1
        self.scale = float("inf") if self.calls in self.bad else 1024.0


def build(precision: Any) -> TrainStep:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    return TrainStep(
        model,
        objective=CrossEntropy(),
        optimizer=AdamW(lr=1e-2),
        techniques=[
            OneCycle(),
            Ema(half_life="3 steps"),
            Unfreezing(stages=[{"modules": ["3"], "at": "0 steps"}, {"modules": ["0", "1"], "at": "4 steps"}]),
        ],
        horizon=Horizon.of("12 steps"),
        execution=Execution(precision=precision),
    )


def data(num: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(4)
    return [Batch(torch.randn(16, 6, generator=generator), torch.randint(0, 3, (16,), generator=generator)) for _ in range(num)]


def everything(step: TrainStep) -> dict[str, Any]:
    state = copy.deepcopy(step.state_dict())
    state.pop("cursor"), state.pop("loss_scale", None)
    state["rates"] = [group["lr"] for group in step.optimizer.param_groups]
    state["trains"] = [p.requires_grad for p in step.model.parameters()]
    return state


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def test_an_overflow_leaves_weights_statistics_schedule_average_and_unfreezing_where_they_were() -> None:
    step = build(Precision("fp16", torch.float16, FakeScale({2, 5})))
    for number, batch in enumerate(data(8)):
        before = everything(step)
        report = step(batch)
        after = everything(step)
        if number in (2, 5):
            assert report.skipped is not None
            # The rate written for this step is the one that the next step gets again.
            assert same(
                {k: v for k, v in before.items() if k not in ("rates", "trains", "optimizer")},
                {k: v for k, v in after.items() if k not in ("rates", "trains", "optimizer")},
            )
            assert same(before["optimizer"]["state"], after["optimizer"]["state"])
        else:
            assert report.skipped is None
            assert not same(before["model"], after["model"])
    assert (step.clock.steps, step.cursor) == (6, 8)


def test_training_with_skipped_steps_equals_training_without_those_batches() -> None:
    batches = data(10)
    skipping = build(Precision("fp32", None, FakeScale({1, 4, 7})))
    plain = build(Precision("fp32", None, FakeScale(set())))
    rates: dict[str, list[float]] = {"skipping": [], "plain": []}
    for number, batch in enumerate(batches):
        report = skipping(batch)
        if number not in (1, 4, 7):
            rates["skipping"].append(report.lr)
            rates["plain"].append(plain(batch).lr)
    assert rates["skipping"] == rates["plain"]
    assert same(everything(skipping), everything(plain))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_non_finite_batch_changes_nothing(precision: str) -> None:
    step = build(precision)
    batches = data(3)
    step(batches[0])
    before = everything(step)
    report = step(Batch(batches[1].inputs * float("inf"), batches[1].targets))
    after = everything(step)
    assert report.skipped is not None
    assert same(before["model"], after["model"])
    assert same(before["averages"], after["averages"])
    assert same(before["clock"], after["clock"])
    assert step(batches[2]).skipped is None


def test_loss_scale_halves_on_overflow_and_doubles_after_a_good_stretch() -> None:
    scale = LossScale(8.0, growth_interval=3)
    seen = []
    for overflow in (False, False, False, True, False, False, False):
        scale.update(overflow=overflow)
        seen.append(scale.scale)
    assert seen == [8.0, 8.0, 16.0, 8.0, 8.0, 8.0, 16.0]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_keeps_weights_gradients_and_state_in_fp32(precision: str) -> None:
    step = build(precision)
    for batch in data(3):
        step(batch)
    tensors = [*step.model.parameters(), *(p.grad for p in step.model.parameters() if p.grad is not None)]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    states = [value for state in step.optimizer.state.values() for value in state.values()]
    assert {value.dtype for value in states} == {torch.float32}


@pytest.mark.parametrize("optimizer", [AdamW(lr=1e-2), Sgd(lr=0.1)], ids=["adamw", "sgd"])
def test_a_late_check_leaves_weights_alone_in_the_bad_step_and_says_so_in_the_next(optimizer: Any) -> None:
    def run(check: Any) -> tuple[TrainStep, list[bool], list[torch.Tensor]]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        step = TrainStep(model, objective=CrossEntropy(), optimizer=optimizer, execution=Execution(finite_check=check))
        batches = data(4)
        batches[2] = Batch(batches[2].inputs * float("nan"), batches[2].targets)
        skipped, weights = [], []
        for batch in batches:
            skipped.append(step(batch).skipped is not None)
            weights.append(torch.cat([t.detach().double().reshape(-1) for t in step.model.state_dict().values()]))
        return step, skipped, weights

    _, at_once, exact = run("at_once")
    _, late, guarded = run("late")
    assert at_once == [False, False, True, False]
    assert late == [False, False, False, True]
    assert all(torch.equal(a, b) for a, b in zip(exact[:3], guarded[:3]))
    assert torch.equal(guarded[3], guarded[2])
