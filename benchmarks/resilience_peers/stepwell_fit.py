"""stepwell: the same call trains and resumes."""

from __future__ import annotations

import stepwell
from benchmarks.resilience_peers import task

PACKAGES = ("stepwell", "torch")
SETTINGS = {"default": task.Setting("stepwell", part="/checkpoints/")}


def train(call: task.Call) -> task.Trained:
    """Train, or go on after an interruption."""
    recipe = stepwell.Recipe(
        objective="cross_entropy",
        optimizer={"name": "adamw", "lr": task.LR, "weight_decay": task.WEIGHT_DECAY},
        schedule="constant",
        batch_size=task.BATCH_SIZE,
    )
    model = task.Network()
    run = stepwell.fit(
        model,
        task.tensors(),
        recipe=recipe,
        budget=f"{task.NUM_EPOCHS} epochs",
        seed=task.SEED,
        checkpoint_every=f"{task.SAVE_EVERY} steps",
        out=call.folder / "run",
        existing="resume",
    )
    return task.Trained.of(run.model, run.steps)
