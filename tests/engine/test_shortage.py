"""Passes over data that run out of memory: begun again in smaller batches, with the same result, or stopped with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stepwell
from stepwell.core.batch import Batch
from stepwell.engine.records.event_log import read_events
from stepwell.engine.shortage import Cut, OutOfMemory, SparingPass


def passed(room: int, *, least: int = 1, rows: int = 40) -> tuple[list[int], list[dict[str, Any]], SparingPass]:
    """Batches of at most 16 with so much room: their sizes, what was told, and the pass."""
    told: list[dict[str, Any]] = []
    spared = SparingPass(lambda kind, **detail: told.append({"kind": kind} | detail), least=least)

    def work(cut: Cut) -> list[int]:
        sizes = []
        for batch in cut(Batch(torch.arange(rows)).split(16)):
            if len(batch) > room:
                raise MemoryError
            sizes.append(len(batch))
        return sizes

    return spared(work), told, spared


@pytest.mark.parametrize(("room", "sizes"), [(16, [16, 16, 8]), (15, [8] * 5), (5, [4] * 10), (1, [1] * 40)])
def test_batches_are_halved_until_they_fit_and_every_sample_counts_once(room: int, sizes: list[int]) -> None:
    found, told, spared = passed(room)
    assert found == sizes
    assert [event["now"] for event in told] == [size for size in (8, 4, 2, 1) if size >= sizes[0] and sizes[0] < 16]
    assert spared.size == (None if sizes[0] == 16 else sizes[0])


def test_what_does_not_fit_at_its_smallest_stops_with_exit_code_3() -> None:
    with pytest.raises(OutOfMemory, match="on a single sample") as stopped:
        passed(0)
    assert stopped.value.exit_code == 3
    with pytest.raises(OutOfMemory, match="on 2 samples"):
        passed(1, least=2)


def test_an_error_about_something_else_is_not_taken_for_a_shortage() -> None:
    def work(cut: Cut) -> None:
        list(cut([Batch(torch.arange(4))]))
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        SparingPass()(work)


class Normed(nn.Module):
    """With batch norm; without gradients and with batch norm in training mode it has room for so many samples."""

    def __init__(self, room: int | None) -> None:
        super().__init__()
        self.norm, self.last, self.room = nn.BatchNorm1d(3), nn.Linear(3, 2), room
        self.failures = 0
        self.seen: list[int] = []
        with torch.no_grad():
            self.last.weight.copy_(torch.linspace(-1, 1, 6).view(2, 3))
            self.last.bias.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        if not torch.is_grad_enabled() and self.norm.training:
            if self.room is not None and len(inputs) > self.room:
                self.failures += 1
                raise RuntimeError("std::bad_alloc")
            self.seen.append(len(inputs))
        out: Tensor = self.last(self.norm(inputs))
        return out


def learn(model: Normed, out: Path, technique: dict[str, Any], rows: Callable[[], Tensor]) -> Any:
    x = rows()
    recipe = stepwell.Recipe(optimizer={"name": "sgd", "lr": 0.05}, techniques=[technique], batch_size=16)
    data = (x, (x[:, 0] > 0).long())
    return stepwell.fit(
        model,
        data,
        val=data,
        task="classification",
        recipe=recipe,
        budget="12 steps",
        evaluate_every="6 steps",
        checkpoint_every="4 steps",
        seed=1,
        out=out,
        existing="resume",
    )


def noise() -> Tensor:
    return torch.randn(64, 3, generator=torch.Generator().manual_seed(4))


SWA = {"name": "swa", "start": "40%", "every": "2 steps"}


def test_batch_norm_statistics_are_estimated_in_smaller_batches_where_memory_runs_out(tmp_path: Path) -> None:
    short, whole = Normed(room=5), Normed(room=None)
    run = learn(short, tmp_path / "short", SWA, noise)
    expected = learn(whole, tmp_path / "whole", SWA, noise)
    told = [event.detail for event in read_events(tmp_path / "short" / "events.jsonl") if event.kind == "estimation_batches"]
    assert [(event["before"], event["now"]) for event in told] == [(16, 8), (8, 4)]
    assert short.failures == 2  # later estimates begin with 4
    assert set(short.seen) == {4}
    assert run.steps == 12
    for name, weight in expected.model.named_parameters():
        assert torch.equal(weight, dict(run.model.named_parameters())[name])  # what is trained and averaged isn't touched
    # By hand: the statistics of each batch of four rows, averaged over all of them.
    parts = noise().view(16, 4, 3)
    torch.testing.assert_close(short.norm.running_mean, parts.mean(1).mean(0))
    torch.testing.assert_close(short.norm.running_var, parts.var(1).mean(0))
    torch.testing.assert_close(short.norm.running_mean, whole.norm.running_mean)


def test_an_average_s_estimate_that_stops_leaves_the_trained_weights_in_the_model(tmp_path: Path) -> None:
    model = Normed(room=1)
    with pytest.raises(OutOfMemory, match="an estimate of batch-norm statistics ran out of memory on 2 samples"):
        learn(model, tmp_path / "run", SWA, noise)
    same = Normed(room=None)
    x = noise()
    recipe = stepwell.Recipe(optimizer={"name": "sgd", "lr": 0.05}, batch_size=16)
    data = (x, (x[:, 0] > 0).long())
    stepwell.fit(same, data, task="classification", recipe=recipe, budget="6 steps", seed=1)
    assert torch.equal(model.last.weight, same.last.weight)
    assert torch.equal(model.norm.running_var, same.norm.running_var)


def test_the_smaller_size_is_part_of_the_state_and_a_resumed_run_has_the_same_bits(tmp_path: Path) -> None:
    whole = Normed(room=5)
    learn(whole, tmp_path / "whole", SWA, noise)
    first = Normed(room=5)
    calls = 0

    def stop(module: nn.Module, inputs: Any) -> None:
        nonlocal calls
        calls += torch.is_grad_enabled() and module.training
        if calls == 11:
            raise KeyboardInterrupt

    first.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        learn(first, tmp_path / "parts", SWA, noise)
    second = Normed(room=5)
    learn(second, tmp_path / "parts", SWA, noise)
    assert second.failures == 0
    assert all(torch.equal(one, other) for one, other in zip(whole.state_dict().values(), second.state_dict().values()))
