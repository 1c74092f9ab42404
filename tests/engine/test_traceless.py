"""Watching a run doesn't change it: logging, evaluation, checkpoints and files on or off give the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.batch import Batch
from stepwell.engine.train_step import TrainStep
from stepwell.recipe.fit import fit
from stepwell.recipe.job import Recipe
from stepwell.techniques import ActivationCheckpointing, CrossEntropy, Sgd


def data(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(70, 6, generator=generator), torch.randint(0, 3, (70,), generator=generator)


def weights(**options: Any) -> torch.Tensor:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 3))
    recipe = Recipe(
        optimizer={"name": "adamw", "lr": 1e-2},
        schedule={"name": "one_cycle"},
        techniques=[{"name": "mixup"}, {"name": "ema", "half_life": "4 steps"}],
        batch_size=16,
    )
    run = fit(model, data(0), recipe=recipe, budget="4 epochs", **options)
    return torch.cat([t.double().reshape(-1) for t in run.model.state_dict().values()])


@pytest.mark.parametrize("options", [
    {"log_every": "1 steps"},
    {"log_every": "100 steps"},
    {"val": data(1)},
    {"val": data(1), "evaluate_every": "2 steps"},
    {"checkpoint_every": "1 steps", "out": "run"},
    {"val": data(1), "evaluate_every": "1 steps", "checkpoint_every": "3 steps", "log_every": "1 steps", "out": "run"},
], ids=["logging", "little logging", "evaluation", "more evaluation", "checkpoints", "everything"])  # fmt: skip
def test_watching_leaves_the_same_bits(options: dict[str, Any], tmp_path: Path) -> None:
    if "out" in options:
        options = options | {"out": tmp_path / options["out"]}
    assert torch.equal(weights(), weights(**options))


def test_training_leaves_the_global_generators_alone_and_ignores_them() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    torch.manual_seed(5)
    first = weights()
    torch.manual_seed(3)
    assert torch.equal(first, weights())
    torch.manual_seed(5)
    model = nn.Linear(6, 3)
    after_model = torch.get_rng_state()
    fit(model, data(0), budget="2 epochs", val=data(1))
    assert torch.equal(torch.get_rng_state(), after_model)
    assert not torch.equal(before, after_model)


def test_dropout_under_activation_checkpointing_gives_the_same_gradients() -> None:
    def gradients(techniques: list[Any]) -> list[torch.Tensor]:
        torch.manual_seed(0)
        blocks = [nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Dropout(0.5)) for _ in range(3)]
        model = nn.Sequential(*blocks, nn.Linear(6, 3))
        step = TrainStep(model, objective=CrossEntropy(), optimizer=Sgd(lr=0.1), techniques=techniques, seed=4)
        step(Batch(*data(2)))
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain, checkpointed = gradients([]), gradients([ActivationCheckpointing()])
    assert len(plain) == 8
    assert all(torch.equal(a, b) for a, b in zip(plain, checkpointed))
