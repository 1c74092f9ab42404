"""The sweep: rates, groups, micro-batches, what ends it; and a copy of a step that shares nothing with it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepwell import Batch, TrainStep
from stepwell.core.errors import JobError
from stepwell.core.objectives.callable_loss import as_objective
from stepwell.doctor.lr_sweep import Sweep, factors, swept, twin_of
from stepwell.engine.parts import Execution
from stepwell.techniques import Adam, AdamW, ClipNorm, CrossEntropy, Ema, LrGroups, Mse, Muon, OneCycle, ScheduleFreeAdamW, Sgd


class Point(nn.Module):
    """One number, whatever the input."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.tensor([value]))

    def forward(self, x: Tensor) -> Tensor:
        return self.place.expand(len(x), 1)


def parabola(optimizer: Any, **how: Any) -> TrainStep:
    """loss = place ** 2, from 3."""
    return TrainStep(Point(3.0), objective=Mse(), optimizer=optimizer, **how)


def zeros(cursor: int) -> Batch:
    return Batch(torch.zeros(4, 1), torch.zeros(4, 1))


SHORT = Sweep(low=1e-3, high=1.0, num_steps=10, stop=math.inf)


def by_hand(factor: float = 1.0, momentum: float = 0.0) -> list[float]:
    """The losses of gradient descent on place ** 2 over the rates of SHORT."""
    place, velocity, losses = 3.0, 0.0, []
    for step in range(10):
        losses.append(place**2)
        velocity = momentum * velocity + 2 * place
        place -= 1e-3 * 1000 ** (step / 9) * factor * velocity
    return losses


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (Sgd(lr=0.3, momentum=0.0), by_hand()),
        (Sgd(lr=7.0, momentum=0.9), by_hand(momentum=0.9)),
        (lambda groups: torch.optim.SGD(groups, lr=0.3, momentum=0.5), by_hand(momentum=0.5)),
    ],
)
def test_a_sweep_takes_the_steps_of_the_own_optimizer_at_rates_that_grow_by_one_factor(
    optimizer: Any, expected: list[float]
) -> None:
    curve = swept(parabola(optimizer), zeros, SHORT)
    assert curve.rates == pytest.approx([1e-3 * 1000 ** (step / 9) for step in range(10)])
    assert curve.losses == pytest.approx(expected, rel=1e-4)
    assert curve.still == pytest.approx([9.0] * 10)
    assert curve.grad_norms[0] == pytest.approx(6.0)
    assert curve.ended == "at the highest rate"


def test_micro_batches_and_schedules_and_averages_change_nothing_about_a_sweep() -> None:
    how = {"techniques": [OneCycle(warmup="2 steps"), Ema(half_life="2 steps")], "horizon": None}
    from stepwell.core.clock import Horizon

    how["horizon"] = Horizon.of("10 steps")
    curve = swept(parabola(Sgd(lr=0.3, momentum=0.0), execution=Execution(micro_batch_size=1), **how), zeros, SHORT)
    assert curve.losses == pytest.approx(by_hand(), rel=1e-4)


def test_groups_keep_their_factor_on_the_rate() -> None:
    step = parabola(Sgd(lr=0.3, momentum=0.0), techniques=[LrGroups(patterns={"place": 0.1})])
    assert factors(step.optimizer) == pytest.approx([0.1])
    assert swept(step, zeros, SHORT).losses == pytest.approx(by_hand(factor=0.1), rel=1e-4)


def test_clipping_acts_in_a_sweep() -> None:
    curve = swept(parabola(Sgd(lr=0.3, momentum=0.0), techniques=[ClipNorm(max_norm=1e-6)]), zeros, SHORT)
    assert curve.losses == pytest.approx([9.0] * 10, rel=1e-4)


def test_a_sweep_ends_where_the_running_loss_is_four_times_the_best() -> None:
    curve = swept(parabola(Sgd(lr=0.3, momentum=0.0)), zeros, Sweep(low=1e-2, high=1e4, num_steps=40, stop=4.0))
    assert curve.ended == "at a loss far above the best"
    assert curve.rates[-1] < 100


def test_a_sweep_ends_at_the_first_loss_that_is_not_finite() -> None:
    curve = swept(parabola(Sgd(lr=0.3, momentum=0.0)), zeros, Sweep(low=1.5, high=1e30, num_steps=40, stop=math.inf))
    assert curve.ended == "at a loss that is not finite"
    assert all(map(math.isfinite, curve.losses))
    assert curve.nonfinite_at is not None
    assert curve.nonfinite_at > curve.rates[-1]


@pytest.mark.parametrize("wrong", [{"low": 0.0}, {"low": 2.0, "high": 1.0}, {"num_steps": 3}, {"stop": 1.0}, {"high": math.inf}])
def test_a_sweep_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(JobError):
        Sweep(**wrong)


OPTIMIZERS = [
    Sgd(lr=0.1, momentum=0.9),
    Adam(lr=1e-2),
    AdamW(lr=1e-2),
    Muon(lr=1e-2),
    ScheduleFreeAdamW(lr=1e-2),
    lambda groups: torch.optim.Adam(groups, lr=1e-2),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda item: getattr(type(item), "__name__", ""))
@pytest.mark.parametrize("memory", ["flat", "tensors"])
def test_a_twin_takes_the_step_that_its_original_takes_bit_for_bit(optimizer: Any, memory: Any) -> None:
    def drawn(cursor: int) -> Batch:
        draw = torch.Generator().manual_seed(cursor)
        return Batch(torch.randn(8, 4, generator=draw), torch.randint(0, 3, (8,), generator=draw))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3))
    step = TrainStep(model, objective=CrossEntropy(), optimizer=optimizer, execution=Execution(memory=memory))
    for cursor in range(3):
        step(drawn(cursor))
    twin = twin_of(step)
    for cursor in range(3, 6):
        ours, theirs = step(drawn(cursor)), twin(drawn(cursor))
        assert torch.equal(ours.loss, theirs.loss)
    for mine, other in zip(model.state_dict().values(), twin.model.state_dict().values(), strict=True):
        assert torch.equal(mine, other)
        assert mine.data_ptr() != other.data_ptr()


def test_a_model_that_cannot_be_copied_is_refused_with_a_reason() -> None:
    step = parabola(Sgd(lr=0.1))
    step.model.held = step.model.place * 2  # type: ignore[operator]
    with pytest.raises(JobError, match="can't be copied"):
        swept(step, zeros, SHORT)


def test_a_loss_function_of_ones_own_is_swept_too() -> None:
    step = TrainStep(
        Point(3.0), objective=as_objective(lambda outputs, targets: (outputs - targets) ** 2), optimizer=Sgd(lr=1.0, momentum=0.0)
    )
    assert swept(step, zeros, SHORT).losses == pytest.approx(by_hand(), rel=1e-4)
