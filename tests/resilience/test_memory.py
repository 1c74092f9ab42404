"""T18: where memory runs out a run goes on with smaller parts of the same batch, or stops with its state saved and says why."""

from __future__ import annotations

import hashlib
import resource
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from counted import report
from forked import done, forked
from hungry import BATCH, SAID, STEPS, Hungry, bits, learn
from small_runs import rows
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.clock import Horizon
from stepwell.engine import memory as memory_module
from stepwell.engine.memory import Shortage, SparingStep
from stepwell.engine.parts import Execution
from stepwell.engine.records import saver as saver_module
from stepwell.engine.records.checkpoint import load_checkpoint
from stepwell.engine.records.event_log import read_events
from stepwell.engine.state import snapshot
from stepwell.engine.train_step import TrainStep
from stepwell.techniques import AdamW, CrossEntropy, Sgd

pytestmark = pytest.mark.usefixtures("loaded")
NAME = "T18 memory"


def details(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event.detail for event in read_events(folder / "events.jsonl") if event.kind == kind]


def batches(number: int) -> list[Batch]:
    inputs, targets = rows(0, number * BATCH)
    return [Batch(inputs[start : start + BATCH], targets[start : start + BATCH]) for start in range(0, number * BATCH, BATCH)]


def step_of(model: nn.Module, size: int | None = None, **settings: Any) -> TrainStep:
    execution = Execution(micro_batch_size=size)
    settings = {"objective": CrossEntropy(), "optimizer": AdamW(lr=1e-2)} | settings
    return TrainStep(model, horizon=Horizon(100), seed=3, execution=execution, **settings)


@pytest.mark.parametrize(("said", "room", "after"), [*((said, 8, 1) for said in SAID), ("host", 4, 3), ("device", 1, 0)])
def test_after_a_shortage_the_weights_are_those_of_a_run_that_had_the_smaller_micro_batches_from_that_step_on(
    said: str, room: int, after: int
) -> None:
    told: list[dict[str, Any]] = []
    model = Hungry(room, after=after, said=said)
    sparing = SparingStep(step_of(model), lambda kind, **detail: told.append({"kind": kind, **detail}))
    for batch in batches(6):
        sparing(batch)

    first = step_of(Hungry(None))
    for batch in batches(6)[:after]:
        first(batch)
    second = step_of(Hungry(None), room)
    second.load_state_dict(snapshot(first.state_dict()))
    for batch in batches(6)[after:]:
        second(batch)

    assert bits(model.state_dict()) == bits(second.model.state_dict())
    assert sparing.step.clock.state_dict() == second.clock.state_dict()
    sizes = [BATCH >> number for number in range(5) if BATCH >> number >= room]
    assert [(event["before"], event["now"], event["batch"]) for event in told] == [
        (before, now, BATCH) for before, now in pairwise(sizes)
    ]
    assert {event["needed"] for event in told} == {3 << 20 if said in ("host", "device") else None}
    assert model.failures == len(told)
    assert model.kept_alive == 0  # nothing of the pass that failed is in memory when the next begins
    report(NAME, floors={"trials": 1}, trials=1, went_on=1)


def test_a_run_that_went_on_with_smaller_micro_batches_resumes_bit_for_bit(memory: Path) -> None:
    def whole() -> Any:
        model = Hungry(4, after=7)
        learn(model, memory / "whole")
        return bits(model.state_dict())

    def part() -> Any:
        model = Hungry(4, after=7)
        seen: list[int] = []

        def stop_after(module: nn.Module, inputs: Any) -> None:
            if model.training and model.passed_samples >= 12 * BATCH:
                raise KeyboardInterrupt

        model.register_forward_pre_hook(stop_after)
        try:
            learn(model, memory / "parts")
        except KeyboardInterrupt:
            seen = model.seen
        return seen[-1]

    def rest() -> Any:
        model = Hungry(4)
        learn(model, memory / "parts")
        return [bits(model.state_dict()), model.failures, max(model.seen)]

    expected = done(whole)
    assert done(part) == 4
    found, failures, largest = done(rest)
    assert found == expected
    assert (failures, largest) == (0, 4)  # it began with the size that was saved
    (told, again) = details(memory / "whole", "micro_batches")
    assert (told["before"], told["now"], again["before"], again["now"]) == (16, 8, 8, 4)
    report(NAME, floors={"trials": 2}, trials=2, went_on=2)


class Wide(nn.Module):
    """Activations of 16 KiB a sample: 32 MiB of a batch of 2048, over and over."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.last = nn.Linear(8, 4096), nn.Linear(4096, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(inputs)).sigmoid().tanh())


def under_limit(room: int | None, sizes: list[int | None]) -> Any:
    """Three steps of 2048 samples: the micro-batches that each was taken with, and the weights.

    Args:
        room: bytes of address space beyond what is in use; None for any number.
        sizes: the micro-batches of each step, None for the whole batch.
    """
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(2048, 8, generator=generator)
    batch = Batch(inputs, (inputs[:, 0] > 0).long())
    step = step_of(Wide(), optimizer=Sgd(lr=0.1, momentum=0.9))
    sparing = SparingStep(step)
    step(batch.part(0, 2))  # what is made once is made now
    if room is not None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))
    taken = []
    for size in sizes:
        if size is not None:
            step.execution = Execution(micro_batch_size=size)
        sparing(batch)
        taken.append(step.execution.micro_batch_size)
    digest = hashlib.sha256(repr(bits(step.model.state_dict())).encode()).hexdigest()
    return [taken, digest]


@pytest.mark.parametrize("mebibytes", [75, 40])
def test_a_limit_on_the_address_space_makes_the_parts_smaller_and_changes_no_bit(mebibytes: int) -> None:
    sizes, found = done(lambda: under_limit(mebibytes << 20, [None] * 3))
    assert all(size in (1024, 512, 256, 128, 64, 32) for size in sizes)
    assert sizes == sorted(sizes, reverse=True)
    assert [sizes, found] == done(lambda: under_limit(None, sizes))
    report(NAME, floors={"trials": 1}, trials=1, went_on=1)


class Vast(nn.Module):
    """One sample alone takes a GiB."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs[:, :1, None] * torch.ones(1 << 28)).mean(2) * self.weight


def test_a_single_sample_that_does_not_fit_stops_with_the_bytes_that_it_needs() -> None:
    def work() -> Any:
        sparing = SparingStep(step_of(Vast()))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20), resource.RLIM_INFINITY))
        sparing(batches(1)[0])

    ended = forked(work)
    assert ended.code == 3
    assert ended.error.startswith("OutOfMemory: out of memory in the step after 0 with micro-batches of one sample (")
    assert f"({1 << 30} more bytes were needed at once)" in ended.error
    report(NAME, floors={"trials": 1}, trials=1, stopped=1)


def mean_of_losses_and_spread(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets) + outputs.std(0).sum()


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "one sample": ({"room": 0}, {}, "with micro-batches of one sample"),
    "batch norm": ({"room": 8, "norm": "batch"}, {}, "batch norm would see smaller batches"),
    "a loss of the batch": ({"room": 8}, {"objective": mean_of_losses_and_spread}, "the loss can't be cut"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_where_smaller_parts_are_no_way_out_the_state_before_the_step_is_saved(memory: Path, case: str) -> None:
    settings, changes, why = REFUSED[case]

    def work() -> None:
        learn(Hungry(**settings, after=6), memory / "run", **changes)

    def before() -> Any:
        model = Hungry(None, norm=settings.get("norm", "layer"))
        learn(model, memory / "before", budget="6 steps", **changes)
        return bits(load_checkpoint(memory / "before" / "checkpoints" / "step-6")["step"]["model"])

    ended = forked(work)
    assert ended.code == 3
    assert f"out of memory in the step after 6 {'' if case == 'one sample' else 'and '}{why}" in ended.error
    assert f"{3 << 20} more bytes were needed" in ended.error
    assert "up to step 6 is saved" in ended.error
    assert bits(load_checkpoint(memory / "run" / "checkpoints" / "step-6")["step"]["model"]) == done(before)
    report(NAME, floors={"trials": 1}, trials=1, stopped=1)


def test_batch_norm_that_keeps_its_statistics_is_no_hindrance(memory: Path) -> None:
    def work() -> Any:
        learn(Hungry(8, norm="frozen"), memory / "run")

    done(work)
    assert details(memory / "run", "micro_batches")[0]["now"] == 8
    report(NAME, floors={"trials": 1}, trials=1, went_on=1)


def test_a_shortage_while_weights_are_updated_stops_and_saves_nothing_of_it(memory: Path) -> None:
    def work() -> None:
        class Greedy(torch.optim.SGD):
            num = 0

            def step(self, closure: Any = None) -> Any:
                self.num += 1
                if self.num == 8:
                    with torch.no_grad():
                        self.param_groups[0]["params"][0].fill_(7.0)
                    raise SAID["host"](1 << 30)
                return super().step(closure)

        learn(Hungry(None), memory / "run", optimizer=lambda groups: Greedy(groups, lr=0.1))

    ended = forked(work)
    assert "while weights were updated" in ended.error
    assert "Go on from the last checkpoint" in ended.error
    assert [place.name for place in (memory / "run" / "checkpoints").iterdir()] == ["step-5"]
    report(NAME, floors={"trials": 1}, trials=1, stopped=1)


def test_an_evaluation_that_runs_out_of_memory_begins_again_with_smaller_batches(memory: Path) -> None:
    def work(room: int | None, name: str) -> Any:
        model = Hungry(None, room_evaluating=room)
        run = learn(model, memory / name)
        return [bits(model.state_dict()), list(run.history.validation), model.failed_evaluating]

    weights, found, failures = done(lambda: work(13, "short"))
    same, expected, none = done(lambda: work(None, "whole"))
    assert weights == same
    assert (failures, none) == (2, 0)  # 40 and 20 samples didn't fit, once; later evaluations begin with 10
    assert [row["accuracy"] for row in found] == [row["accuracy"] for row in expected]
    assert [row["loss"] for row in found] == pytest.approx([row["loss"] for row in expected], rel=1e-6)
    told = details(memory / "short", "evaluation_batches")
    assert [(event["before"], event["now"]) for event in told] == [(40, 20), (20, 10)]
    report(NAME, floors={"trials": 1}, trials=1, went_on=1)


@pytest.mark.parametrize("where", ["copy", "thread"])
def test_a_checkpoint_that_there_is_no_memory_for_is_told_and_training_goes_on(
    memory: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        module, name = (memory_module, "snapshot") if where == "copy" else (saver_module, "save_checkpoint")
        before, calls = getattr(module, name), [0]

        def short(*args: Any, **settings: Any) -> Any:
            calls[0] += 1
            if calls[0] == 1:
                raise SAID["host"](1 << 30) if where == "copy" else MemoryError()
            return before(*args, **settings)

        monkeypatch.setattr(module, name, short)
        learn(Hungry(None), memory / "run")

    done(work)
    (failed,) = details(memory / "run", "save_failed")
    assert "memory" in failed["reason"].lower()
    assert len(details(memory / "run", "saved")) == STEPS // 5  # those of steps 10, 15, 20 and the end
    report(NAME, floors={"trials": 1}, trials=1, told=1)


def test_only_shortages_of_memory_are_taken_for_such() -> None:
    for said, make in SAID.items():
        assert Shortage.of(make(3 << 20)) == Shortage(
            str(make(3 << 20)) or "MemoryError", 3 << 20 if said in ("host", "device") else None
        )
    for error in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory"), KeyError("memory")):
        assert Shortage.of(error) is None
