"""Keras on torch: `BackupAndRestore(save_freq=5)`, then the same `fit` again."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")  # Read once, when keras is imported.

import keras
import numpy as np

from benchmarks.resilience_peers import task

PACKAGES = ("keras", "h5py", "torch")
SETTINGS = {
    "default": task.Setting("Keras"),
    "double": task.Setting("Keras, double_checkpoint=True"),
    "epoch": task.Setting('Keras, double_checkpoint=True and save_freq="epoch"', task.STEPS_PER_EPOCH),
}


def kernel_bytes(model: Any) -> bytes:
    return bytes(np.ascontiguousarray(keras.ops.convert_to_numpy(model.layers[0].kernel)).tobytes())


class Steps(keras.callbacks.Callback):
    """Tells the host that a step begins."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        task.step_begins(lambda: kernel_bytes(self.model))


def train(call: task.Call) -> task.Trained:
    """Train, or go on after an interruption."""
    keras.utils.set_random_seed(task.SEED)
    first, second = task.HIDDEN
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((task.NUM_INPUTS,)),
            layers.Dense(first, activation="relu"),
            layers.Dropout(task.DROPOUT),
            layers.Dense(second, activation="relu"),
            layers.Dropout(task.DROPOUT),
            layers.Dense(task.NUM_CLASSES),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(task.LR, weight_decay=task.WEIGHT_DECAY), loss=loss)
    backup = keras.callbacks.BackupAndRestore(
        str(call.folder / "backup"),
        save_freq="epoch" if call.setting == "epoch" else task.SAVE_EVERY,
        double_checkpoint=call.setting != "default",
    )
    inputs, targets = (tensor.numpy() for tensor in task.tensors())
    model.fit(inputs, targets, batch_size=task.BATCH_SIZE, epochs=task.NUM_EPOCHS, callbacks=[backup, Steps()], verbose=0)
    weights = {f"{number}": keras.ops.convert_to_numpy(weight).tobytes() for number, weight in enumerate(model.weights)}
    return task.Trained(weights, int(model.optimizer.iterations))
