"""Weights that an update makes infinite are neither saved nor delivered, however late it comes."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import stepwell
from stepwell.core.errors import TrainingStopped
from stepwell.engine.records.checkpoint import checkpoints, load_checkpoint
from stepwell.engine.records.event_log import read_events

STEPS = 12


class Bursting(torch.optim.SGD):
    """Its update of step number `at` makes a weight `value`."""

    at, value = STEPS, math.inf
    num = 0

    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        self.num += 1
        if self.num == self.at:
            with torch.no_grad():
                self.param_groups[0]["params"][0].view(-1)[0] = self.value


def fit(out: Path | None, *, at: int = STEPS, value: float = math.inf, model: nn.Module | None = None, **recipe: Any) -> Any:
    def optimizer(groups: Any) -> Bursting:
        made = Bursting(groups, lr=0.05)
        made.at, made.value = at, value
        return made

    x = torch.linspace(-1, 1, 96).view(48, 2)
    y = (x[:, 0] > 0).long()
    chosen = stepwell.Recipe(objective="cross_entropy", optimizer=optimizer, batch_size=8, **recipe)
    return stepwell.fit(
        model or nn.Linear(2, 2),
        (x, y),
        val=(x, y),
        recipe=chosen,
        budget=f"{STEPS} steps",
        checkpoint_every="5 steps",
        evaluate_every="5 steps",
        out=out,
        existing="resume",
    )


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("policy", ["stop", "skip", "rollback"])
def test_weights_that_the_last_update_breaks_end_the_run_with_the_checkpoint_before_them(
    tmp_path: Path, policy: str, value: float
) -> None:
    with pytest.raises(TrainingStopped, match=rf"weights became non-finite in the update of step {STEPS}") as stopped:
        fit(tmp_path / "run", value=value, on_nonfinite=policy)
    assert stopped.value.exit_code == 3
    assert [place.name for place in checkpoints(tmp_path / "run" / "checkpoints")] == ["step-10", "step-5"]
    for place in checkpoints(tmp_path / "run" / "checkpoints"):
        assert all(bool(tensor.isfinite().all()) for tensor in load_checkpoint(place)["step"]["model"].values())
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "result.json").exists()
    kinds = [event.kind for event in read_events(tmp_path / "run" / "events.jsonl")]
    assert kinds[-2:] == ["nonfinite", "failed"]
    assert fit(tmp_path / "run", at=0, on_nonfinite=policy).steps == STEPS  # without the cause it goes on from step 10
    assert stepwell.audit(tmp_path / "run").ok


def test_a_run_without_a_folder_ends_with_the_error_too() -> None:
    with pytest.raises(TrainingStopped, match="neither saved nor delivered"):
        fit(None)


def test_weights_that_break_as_a_signal_comes_are_not_saved_either(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    calls = 0

    def hear(module: nn.Module, args: Any) -> None:
        nonlocal calls
        calls += module.training
        if calls == 8 and module.training:
            os.kill(os.getpid(), signal.SIGTERM)

    model.register_forward_pre_hook(hear)
    with pytest.raises(TrainingStopped, match="weights became non-finite in the update of step"):
        fit(tmp_path / "run", at=8, model=model)
    for place in checkpoints(tmp_path / "run" / "checkpoints"):
        assert all(bool(tensor.isfinite().all()) for tensor in load_checkpoint(place)["step"]["model"].values())


def test_finite_weights_whose_norm_overflows_are_saved(tmp_path: Path) -> None:
    run = fit(tmp_path / "run", value=3e38)
    assert run.steps == STEPS
    assert checkpoints(tmp_path / "run" / "checkpoints")[0].name == f"step-{STEPS}"
