"""How techniques become the parts of a step: stages, schedules that meet on one value, techniques of several slots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn

from stepwell.core import catalog
from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import technique
from stepwell.core.clock import Clock, Horizon
from stepwell.core.errors import JobError
from stepwell.core.objectives.soft_targets import Modifier
from stepwell.core.randomness import Rng
from stepwell.core.slots import Average, ClockSchedule, Drive, Objective, Terms
from stepwell.engine.parts import assemble, combined
from stepwell.engine.train_step import TrainStep
from stepwell.techniques import Constant, CrossEntropy, LabelSmoothing, LrGroups, Mixup, Sgd, WarmupCosine

HORIZON = Horizon.of("10 steps")


@contextmanager
def registered(**classes: type) -> Iterator[None]:
    """Techniques that exist for one test."""
    before = dict(catalog._RECORDS)
    try:
        yield
    finally:
        catalog._RECORDS.clear()
        catalog._RECORDS.update(before)


def some_batch() -> Batch:
    draw = torch.Generator().manual_seed(0)
    return Batch(torch.randn(16, 4, generator=draw), torch.randint(3, (16,), generator=draw))


def a_step(*techniques: object, optimizer: object = None) -> TrainStep:
    torch.manual_seed(0)
    return TrainStep(
        nn.Linear(4, 3), objective=CrossEntropy(), optimizer=optimizer or Sgd(lr=0.1), techniques=techniques, horizon=HORIZON
    )


def test_model_techniques_act_in_the_order_of_their_stages_whatever_their_order_in_the_list() -> None:
    seen = []
    with registered():
        made = []
        for stage in reversed(catalog.STAGES):

            @technique(id=f"for_{stage}", slot="model", paper="none", stage=stage)
            class Noted:
                """Note when it acts."""

                def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
                    seen.append(type(self).technique_id)  # type: ignore[attr-defined]
                    return model

            made.append(Noted())
        a_step(*made)
    assert seen == [f"for_{stage}" for stage in catalog.STAGES]


def test_factors_of_one_value_multiply() -> None:
    drives = [Drive("optimizer.lr", lambda done: 0.5), Drive("optimizer.lr", lambda done: done + 1.0)]
    (drive,) = combined(drives)
    assert (drive.target, drive.mode, drive.value(3.0)) == ("optimizer.lr", "scale", 2.0)


def test_a_factor_multiplies_a_value_that_another_schedule_sets() -> None:
    (drive,) = combined([Drive("optimizer.lr", lambda done: 0.5), Drive("optimizer.lr", lambda done: 0.25, "set")])
    assert (drive.mode, drive.value(0.0)) == ("set", 0.125)


def test_two_schedules_that_set_one_value_are_refused() -> None:
    with pytest.raises(JobError, match=r"2 schedules set optimizer\.lr"):
        combined([Drive("optimizer.lr", lambda done: 0.5, "set")] * 2)


def test_drives_of_different_values_stay_apart() -> None:
    first, second = Drive("optimizer.lr", lambda done: 0.5), Drive("mixup.alpha", lambda done: 2.0)
    assert combined([first, second]) == [first, second]


def test_the_rate_of_a_step_is_the_product_of_its_schedules() -> None:
    with registered():

        @technique(id="halving", slot="schedule", role="factor", paper="none")
        class Halving:
            """Halve everything."""

            def __call__(self, horizon: Horizon) -> ClockSchedule:
                return ClockSchedule((Drive("optimizer.lr", lambda done: 0.5),))

        step = a_step(WarmupCosine(warmup="2 steps", floor=0.0), Halving())
        # 0.1 * (0 + 1) / 2 of the warmup, times a half.
        assert step(some_batch()).lr == pytest.approx(0.025, rel=1e-15)


def test_a_value_that_is_set_keeps_the_factors_of_the_groups() -> None:
    with registered():

        @technique(id="setting", slot="schedule", paper="none")
        class Setting:
            """Set the rate."""

            def __call__(self, horizon: Horizon) -> ClockSchedule:
                return ClockSchedule((Drive("optimizer.lr", lambda done: 0.25, "set"),))

        step = a_step(Setting(), LrGroups(patterns={"bias": 0.5}))
        step(some_batch())
    assert sorted(group["lr"] for group in step.optimizer.param_groups) == [0.125, 0.25]


def test_a_schedule_can_drive_the_field_of_an_objective_modifier() -> None:
    plain, driven = (
        a_step(LabelSmoothing(epsilon=0.05)),
        a_step(LabelSmoothing(epsilon=0.1), WarmupCosine(warmup="2 steps", floor=0.0, drives="label_smoothing.epsilon")),
    )
    one, other = plain(some_batch()), driven(some_batch())
    assert torch.equal(one.terms["cross_entropy"].sum, other.terms["cross_entropy"].sum)
    assert torch.equal(plain.model.weight, driven.model.weight)
    # The second step smooths by 0.1, the first by 0.05.
    assert not torch.equal(plain(some_batch()).terms["cross_entropy"].sum, driven(some_batch()).terms["cross_entropy"].sum)


def test_a_schedule_can_drive_the_field_of_a_model_technique_that_acts_in_time() -> None:
    with registered():

        @technique(id="shifting", slot="model", paper="none")
        class Shifting:
            """Write a number into the model."""

            amount: float = 2.0

            def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
                return model

            def at(self, model: nn.Module, clock: Clock, horizon: Horizon | None) -> bool:
                model.amount = self.amount  # type: ignore[assignment]
                return False

        step = a_step(Shifting(), WarmupCosine(warmup="4 steps", floor=0.0, drives="shifting.amount"))
        amounts = []
        for _ in range(2):
            step(some_batch())
            amounts.append(step.model.amount)
    assert amounts == [0.5, 1.0]


def test_a_target_that_nothing_acts_on_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(JobError, match=r"a schedule drives 'mixupp.alpha'.*mixup"):
        a_step(Mixup(num_classes=3), Constant(drives="mixupp.alpha"))


def test_a_technique_of_another_slot_can_act_on_the_batch_too() -> None:
    marks = []

    class Marked(Modifier):
        def terms(self, outputs: Tree, batch: Batch) -> Terms:
            marks.append(batch.extras["mark"].tolist())
            return super().terms(outputs, batch)

    with registered():

        @technique(id="twofold", slot="objective", role="modifier", paper="none")
        class Twofold:
            """Leave a mark on the batch that its objective reads."""

            def on_batch(self, batch: Batch, rng: Rng) -> Batch:
                return replace(batch, extras={"mark": torch.arange(len(batch))})

            def __call__(self, objective: Objective) -> Objective:
                return Marked(objective)

        step = a_step(Twofold())
        step.execution = replace(step.execution, micro_batch_size=10)
        step(some_batch())
    assert marks == [list(range(10)), list(range(10, 16))]


class _Halfway(Average):
    ready = True

    def __init__(self) -> None:
        self.updates: list[int] = []

    def update(self, clock: Clock) -> None:
        self.updates.append(clock.steps)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        yield

    def state_dict(self) -> dict[str, object]:
        return {"updates": list(self.updates)}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.updates = list(state["updates"])  # type: ignore[call-overload]


def test_an_optimizer_that_keeps_an_average_fills_that_slot_too() -> None:
    class WithAverage(torch.optim.SGD):
        def __init__(self, groups: object) -> None:
            super().__init__(groups, lr=0.1)  # type: ignore[arg-type]
            self.average = _Halfway()

    step = a_step(optimizer=WithAverage)
    step(some_batch())
    assert list(step.parts.averages) == ["optimizer"]
    assert step.state_dict()["averages"] == {"optimizer": {"updates": [1]}}


def test_what_is_built_without_schedules_has_no_drives() -> None:
    parts = assemble(nn.Linear(2, 2), objective=CrossEntropy(), optimizer=Sgd(), techniques=[], horizon=HORIZON, seed=0)
    assert parts.drives == []
    assert parts.objective is parts.base
