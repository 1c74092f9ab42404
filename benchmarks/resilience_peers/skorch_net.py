"""skorch: `Checkpoint` and `LoadInitState`, then the same `fit` again. It saves at the end of an epoch, not by steps."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Checkpoint, LoadInitState

from benchmarks.resilience_peers import task

PACKAGES = ("skorch", "torch")
SETTINGS = {
    "default": task.Setting("skorch", task.STEPS_PER_EPOCH),
    "counted": task.Setting("skorch, sink=print, the epochs left counted by hand", task.STEPS_PER_EPOCH),
}


def train(call: task.Call) -> task.Trained:
    """Train, or go on after an interruption."""
    torch.manual_seed(task.SEED)
    # Without a sink a failed save is not told.
    told: dict[str, Any] = {"sink": print} if call.setting == "counted" else {}
    checkpoint = Checkpoint(monitor=None, dirname=str(call.folder), **told)
    callbacks = [checkpoint] if call.setting == "counted" else [checkpoint, LoadInitState(checkpoint)]
    net = NeuralNetClassifier(
        task.Network,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=task.WEIGHT_DECAY,
        lr=task.LR,
        max_epochs=task.NUM_EPOCHS,
        batch_size=task.BATCH_SIZE,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=callbacks,
    )
    inputs, targets = task.tensors()
    if call.setting == "counted":
        # fit() trains max_epochs more than were done before: what is left has to be counted by the caller.
        net.initialize()
        if call.resume and (call.folder / "history.json").exists():
            net.load_params(checkpoint=checkpoint)
        net.partial_fit(inputs, targets, epochs=task.NUM_EPOCHS - len(net.history))
    else:
        net.fit(inputs, targets)
    return task.Trained.of(net.module_, task.updates_of(net.optimizer_))
