"""Trainings on copies against a loop as everybody writes it."""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from stepwell.doctor.rows import Rows, rows_of
from stepwell.doctor.setup import Setup, setup_of
from stepwell.doctor.task import Task
from stepwell.doctor.trials import Course, Look, index_batches, one_thread, outputs_over, train

Two = namedtuple("Two", ["scores", "place"])


def _rows(num_rows: int = 23) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(num_rows, 3, generator=torch.Generator().manual_seed(0))
    return inputs, (inputs[:, 0] > 0).long()


def _net(*extra: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), *extra, nn.ReLU(), nn.Linear(8, 2))


def _made(model: nn.Module | None = None, **changes: Any) -> Setup:
    given = {"loss": "cross_entropy", "optimizer": {"name": "sgd", "lr": 0.1}, "batch_size": 5, "epochs": 3, "shuffle": True}
    return setup_of(_net() if model is None else model, changes.pop("train", _rows()), None, **{**given, **changes})


def _by_hand(
    model: nn.Module, optimizer: torch.optim.Optimizer, order: list[list[int]], clip: float | None = None
) -> list[float]:
    """The loop of torch's tutorial over a DataLoader that is told the order."""
    losses = []
    model.train()
    for inputs, targets in DataLoader(TensorDataset(*_rows()), batch_sampler=order):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


MAKERS = {
    "sgd": lambda held: torch.optim.SGD(held, lr=0.1, momentum=0.9, nesterov=True),
    "adamw": lambda held: torch.optim.AdamW(held, lr=0.02, weight_decay=0.3),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("batch_norm", ["with", "without"])
def test_a_trial_has_the_losses_of_a_dataloader_loop_in_the_same_order(name: str, batch_norm: str) -> None:
    model = _net(nn.BatchNorm1d(8)) if batch_norm == "with" else _net()
    setup = _made(model, optimizer=MAKERS[name](model.parameters()))
    batches = index_batches(setup, 7)
    order = [next(batches).tolist() for _ in range(setup.num_steps)]
    course = train(setup, setup.num_steps, task=Task("classes", 2), seed=7, num_looks=4)
    twin = copy.deepcopy(model)
    assert course.losses == _by_hand(twin, MAKERS[name](twin.parameters()), order)
    for one, other in zip(course.model.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_clipping_and_a_schedule_act_as_in_the_loop() -> None:
    setup = _made().change(clip_norm=0.05, schedule=lambda share: 1 - share)
    batches = index_batches(setup, 0)
    order = [next(batches).tolist() for _ in range(15)]
    twin = copy.deepcopy(setup.model)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    expected = []
    for step, rows in enumerate(order):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 15)
        expected += _by_hand(twin, optimizer, [rows], clip=0.05)
    course = train(setup, 15, task=Task("classes", 2), seed=0)
    assert course.losses == pytest.approx(expected, abs=1e-7)
    assert max(course.grad_norms) > 0.05  # as they were before clipping


def test_every_epoch_has_each_row_once_in_a_new_order_and_the_last_batch_is_what_is_left() -> None:
    batches = index_batches(_made(), 0)
    epochs = [[next(batches).tolist() for _ in range(5)] for _ in range(2)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [5, 5, 5, 5, 3]
        assert sorted(itertools.chain.from_iterable(epoch)) == list(range(23))
    assert epochs[0] != epochs[1]
    in_order = index_batches(_made(shuffle=False), 0)
    assert next(in_order).tolist() == [0, 1, 2, 3, 4]


def test_looks_are_at_the_start_and_evenly_up_to_the_end() -> None:
    course = train(_made(), 12, task=Task("classes", 2), num_looks=4)
    assert [look.step for look in course.looks] == [0, 3, 6, 9, 12]
    untrained, (inputs, targets) = _net(), _rows()
    assert course.looks[0].train_loss == pytest.approx(nn.functional.cross_entropy(untrained(inputs), targets).item(), rel=1e-6)
    assert course.looks[0].train_skill == (untrained(inputs).argmax(1) == targets).double().mean().item()
    assert math.isnan(course.last.val_loss)
    assert course.last.val_skill is None


def test_the_size_of_a_step_is_told_beside_the_weights() -> None:
    weight = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        weight.weight.fill_(2.0)
    # Gradient of (2 * 1 - 0)^2 is 4; 0.1 * 4 over 2 is 0.2.
    setup = _made(weight, train=(torch.ones(4, 1), torch.zeros(4, 1)), loss="mse", batch_size=4)
    course = train(setup, 1, task=Task("quantity"), num_looks=1)
    assert course.update_ratios["weight"] == pytest.approx([0.2])
    assert course.grad_norms == pytest.approx([4.0])


def test_a_loss_that_is_not_finite_ends_a_trial_at_its_step() -> None:
    inputs, targets = torch.ones(8, 1), torch.zeros(8, 1)
    setup = _made(nn.Linear(1, 1), train=(inputs, targets), loss="mse", optimizer={"name": "sgd", "lr": 1e30}, batch_size=8)
    course = train(setup, 9, task=Task("quantity"))
    assert course.failed
    assert course.nonfinite == len(course.losses) < 9
    assert course.skill() == 0.0


def test_a_step_that_raises_is_kept_with_its_number() -> None:
    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.calls = nn.Linear(3, 2), 0

        def forward(self, inputs: Tensor) -> Tensor:
            self.calls += self.training
            if self.calls == 3:
                raise ValueError("the third")
            outputs: Tensor = self.layer(inputs)
            return outputs

    model = Once()
    course = train(_made(model), 9, task=Task("classes", 2))
    assert (str(course.crash), course.crash_step, len(course.losses)) == ("the third", 3, 2)
    assert course.skill() == 0.0
    assert model.calls == 0


def test_the_skill_of_a_course_is_that_of_validation_if_there_is_any() -> None:
    def course(val: float | None) -> Course:
        return Course(_made(), looks=[Look(5, 0.1, 0.2, 0.9, val, 0.3)])

    assert course(0.6).skill() == 0.6
    assert course(None).skill() == 0.9
    assert course(0.6).skill("balanced") == 0.3


def test_outputs_in_parts_are_those_of_all_rows_at_once_and_modes_stay() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, inputs: Tensor) -> dict[str, Any]:
            return {"two": Two(self.drop(inputs), [inputs * 2]), "mean": inputs.mean(), "name": "parts"}

    model = Parts()
    model.drop.eval()
    inputs, targets = _rows()
    found = outputs_over(model, rows_of((inputs, targets), "train"), batch_size=4)
    assert torch.equal(found["two"].scores, inputs)
    assert torch.equal(found["two"].place[0], inputs * 2)
    assert found["name"] == "parts"
    assert (model.training, model.drop.training) == (True, False)


def test_modes_come_back_after_a_forward_pass_that_raises() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(RuntimeError):
        outputs_over(model, Rows(torch.zeros(3, 5), torch.zeros(3), 3))
    assert model.training


def test_a_model_that_writes_into_its_inputs_trains_on_the_rows_as_they_are() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            outputs: Tensor = self.layer(inputs.add_(1.0))
            return outputs

    inputs, targets = _rows()
    before = inputs.clone()
    setup = _made(Shifted(), train=(inputs, targets))
    train(setup, 10, task=Task("classes", 2))
    assert torch.equal(setup.train.inputs, before)
    assert torch.equal(inputs, before)


def test_trials_have_one_thread_and_no_warnings_and_afterwards_all_is_as_before() -> None:
    def trial() -> None:
        with one_thread():
            assert torch.get_num_threads() == 1
            warnings.warn("of a trial", UserWarning, stacklevel=1)
            raise ValueError("inside")

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ValueError, match="inside"):
                trial()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
