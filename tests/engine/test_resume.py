"""A resumed run ends with the bits of the uninterrupted one, whatever was going on and from every step."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from stepwell.engine.records.checkpoint import load_checkpoint, save_checkpoint
from stepwell.engine.state import separate, snapshot
from stepwell.recipe.fit import ingredients
from stepwell.recipe.job import Job
from stepwell.recipe.run import Assembly

TECHNIQUES = [
    {"name": "mixup", "alpha": 0.3},
    {"name": "label_smoothing", "epsilon": 0.1},
    {"name": "clip_norm", "max_norm": 0.5},
    {"name": "unfreezing", "stages": [{"modules": ["5"], "at": "0 steps"}, {"modules": ["0", "1"], "at": "1 epochs"}]},
    {"name": "ema", "half_life": "3 steps"},
    {"name": "early_stopping", "patience": 50},
]


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Work per sample that draws from every global generator."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(50, 6, generator=generator)
        self.targets = torch.randint(0, 3, (50,), generator=generator)

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.rand(6) + random.random() + float(np.random.rand())
        return self.inputs[index] + 0.1 * noise, self.targets[index]


def network() -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 16), nn.Linear(16, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def assembly(workers: int, data: Any, **changes: Any) -> Assembly:
    recipe: dict[str, Any] = {
        "optimizer": {"name": "adamw", "lr": 1e-2},
        "schedule": {"name": "plateau", "patience": 0, "factor": 0.5},
        "techniques": TECHNIQUES,
        "batch_size": 16,
        "micro_batch_size": 6,
    } | changes
    job = Job(recipe=recipe, budget="4 epochs", seed=11, workers=workers, evaluate_every="3 steps", log_every="2 steps")
    noisy = Noisy()
    return Assembly(ingredients(network(), data, (noisy.inputs, noisy.targets), job))


def saved_at_every_step(run: Assembly, folder: Path) -> list[Path]:
    """Train to the end, saving a checkpoint after every step."""
    places: list[Path] = []
    after = run.trainer._after

    def keep(report: Any) -> None:
        after(report)
        places.append(save_checkpoint(folder, snapshot(run.trainer.state_dict()), step=report.step).path)

    run.trainer._after = keep  # type: ignore[method-assign]
    run.finish()
    return places


def bytes_of(run: Assembly) -> tuple[dict[str, Tensor], str]:
    """Everything that must be the same: weights, optimizer, averages, clock, best evaluation, metric rows."""
    state = snapshot(run.trainer.state_dict())
    tensors, rest = separate(state)
    return tensors, json.dumps(
        [rest, run.trainer.recorder.history.train, run.trainer.recorder.history.validation], sort_keys=True
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_from_every_step_gives_the_bits_of_the_uninterrupted_run(tmp_path: Path, workers: int) -> None:
    whole = assembly(workers, Noisy())
    places = saved_at_every_step(whole, tmp_path)
    assert len(places) == 16
    tensors, rest = bytes_of(whole)
    for step in range(16):
        again = assembly(workers, Noisy())
        # Without a folder the rows come from the caller; those written later are dropped by the loaded state.
        again.trainer.recorder.history.train = list(whole.trainer.recorder.history.train)
        again.trainer.recorder.history.validation = list(whole.trainer.recorder.history.validation)
        again.trainer.load_state_dict(load_checkpoint(places[step]))
        again.finish()
        others, other_rest = bytes_of(again)
        assert tensors.keys() == others.keys()
        assert [name for name in tensors if not torch.equal(tensors[name], others[name])] == []
        assert rest == other_rest


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": {"name": "one_cycle"}},
        {"precision": "fp16", "schedule": {"name": "warmup_cosine"}},
        {"optimizer": {"name": "sgd", "lr": 0.05}, "techniques": [{"name": "swa", "start": "40%", "every": "2 steps"}]},
    ],
    ids=["one_cycle", "fp16", "swa"],
)
def test_other_recipes_resume_to_the_bit_from_the_middle(tmp_path: Path, changes: dict[str, Any]) -> None:
    noisy = Noisy()
    data = (noisy.inputs, noisy.targets)
    whole = assembly(0, data, **changes)
    places = saved_at_every_step(whole, tmp_path)
    for step in (0, 6, 12):
        again = assembly(0, data, **changes)
        again.trainer.load_state_dict(load_checkpoint(places[step]))
        again.finish()
        tensors, others = bytes_of(whole)[0], bytes_of(again)[0]
        assert [name for name in tensors if not torch.equal(tensors[name], others[name])] == []


def test_a_resumed_run_differs_when_a_byte_of_its_state_does(tmp_path: Path) -> None:
    """The comparison above can fail: one changed momentum shows in the final weights."""
    whole = assembly(0, Noisy())
    places = saved_at_every_step(whole, tmp_path)
    state = load_checkpoint(places[5])
    next(iter(state["step"]["optimizer"]["state"].values()))["exp_avg"] += 1e-3
    again = assembly(0, Noisy())
    again.trainer.load_state_dict(state)
    again.finish()
    tensors, others = bytes_of(whole)[0], bytes_of(again)[0]
    assert [name for name in tensors if not torch.equal(tensors[name], others[name])] != []
