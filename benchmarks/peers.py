"""Other trainers on the same job, each by its documented way, with loggers, bars and checkpoints off."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.contestants import Task, adamw, one_cycle
from benchmarks.workloads import LR, MAX_NORM, WEIGHT_DECAY


@dataclass(frozen=True)
class Peer:
    """A trainer that may be installed.

    Args:
        title: how tables call it.
        package: its distribution, whose version is printed.
        run: trains a task for so many epochs; imports the package when called.
    """

    title: str
    package: str
    run: Callable[[Task, int], nn.Module]

    @property
    def version(self) -> str | None:
        """The installed version, or None."""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None


def _loader(task: Task) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(task.inputs, task.targets), batch_size=task.work.batch_size, shuffle=True)


def lightning(task: Task, num_epochs: int) -> nn.Module:
    """A LightningModule under a Trainer without logger, bar, summary or checkpoints."""
    import lightning.pytorch as pl

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = task.fresh()

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            inputs, targets = batch
            return task.work.loss(self.model(inputs), targets)

        def configure_optimizers(self) -> dict[str, Any]:
            optimizer = adamw(self.model)
            schedule = one_cycle(optimizer, num_epochs * task.steps_per_epoch)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=num_epochs,
            gradient_clip_val=MAX_NORM,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        module = Module()
        trainer.fit(module, _loader(task))
    return module.model


class _Rows(Dataset[dict[str, Tensor]]):
    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": self.inputs[index], "labels": self.targets[index]}


class _WithLoss(nn.Module):
    def __init__(self, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        outputs = self.model(inputs)
        return {"loss": self.loss(outputs, labels), "logits": outputs}


def hf_trainer(task: Task, num_epochs: int) -> nn.Module:
    """transformers.Trainer with its default optimizer (fused AdamW) and the shared schedule."""
    import transformers

    model = _WithLoss(task.fresh(), task.work.loss)
    optimizer = adamw(model, fused=True)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=task.work.batch_size,
            num_train_epochs=num_epochs,
            max_grad_norm=MAX_NORM,
            use_cpu=True,
            dataloader_pin_memory=False,
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(
            model=model,
            args=arguments,
            train_dataset=_Rows(task.inputs, task.targets),
            optimizers=(optimizer, one_cycle(optimizer, num_epochs * task.steps_per_epoch)),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return model.model


def accelerate(task: Task, num_epochs: int) -> nn.Module:
    """A hand-written loop through Accelerator.prepare."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    base = task.fresh()
    optimizer = adamw(base)
    schedule = one_cycle(optimizer, num_epochs * task.steps_per_epoch)
    model, optimizer, loader, schedule = accelerator.prepare(base, optimizer, _loader(task), schedule)
    for _ in range(num_epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            accelerator.backward(task.work.loss(model(inputs), targets))
            accelerator.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            schedule.step()
    unwrapped: nn.Module = accelerator.unwrap_model(model)
    return unwrapped


class _Criterion(nn.Module):
    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.function(outputs, targets)


def skorch(task: Task, num_epochs: int) -> nn.Module:
    """skorch.NeuralNet with its callbacks for clipping and per-batch schedules."""
    from skorch import NeuralNet
    from skorch.callbacks import GradientNormClipping, LRScheduler

    total = num_epochs * task.steps_per_epoch
    net = NeuralNet(
        task.fresh(),
        criterion=_Criterion,
        criterion__function=task.work.loss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=WEIGHT_DECAY,
        lr=LR,
        max_epochs=num_epochs,
        batch_size=task.work.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[
            ("clip", GradientNormClipping(MAX_NORM)),
            ("schedule", LRScheduler(torch.optim.lr_scheduler.OneCycleLR, step_every="batch", max_lr=LR, total_steps=total)),
        ],
        callbacks__print_log=None,
        verbose=0,
    )
    net.fit(task.inputs, task.targets)
    model: nn.Module = net.module_
    return model


def ignite(task: Task, num_epochs: int) -> nn.Module:
    """An Engine around an update function that clips, the schedule as a handler."""
    from ignite.engine import Engine, Events

    model, loss = task.fresh(), task.work.loss
    optimizer = adamw(model)
    schedule = one_cycle(optimizer, num_epochs * task.steps_per_epoch)

    def update(engine: Engine, batch: tuple[Tensor, Tensor]) -> float:
        model.train()
        inputs, targets = batch
        optimizer.zero_grad()
        value = loss(model(inputs), targets)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        return value.item()

    trainer = Engine(update)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: schedule.step())
    trainer.run(_loader(task), max_epochs=num_epochs)
    return model


def keras(task: Task, num_epochs: int) -> nn.Module:
    """Keras on torch: the same module in a TorchModuleWrapper, its own AdamW and fit."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras as k

    total = num_epochs * task.steps_per_epoch

    class OneCycle(k.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
        def __call__(self, step: Any) -> Any:
            return LR * one_cycle_factor(float(step), total)

        def get_config(self) -> dict[str, Any]:
            return {}

    module = task.fresh()
    inputs = k.Input(shape=tuple(task.inputs.shape[1:]), dtype=str(task.inputs.dtype).removeprefix("torch."))
    wrapped = k.layers.TorchModuleWrapper(module, output_shape=tuple(module(task.inputs[:2]).shape[1:]))
    model = k.Model(inputs, wrapped(inputs))
    classes = not task.targets.is_floating_point()
    losses = k.losses
    model.compile(
        optimizer=k.optimizers.AdamW(OneCycle(), weight_decay=WEIGHT_DECAY, epsilon=1e-8, global_clipnorm=MAX_NORM),
        loss=losses.SparseCategoricalCrossentropy(from_logits=True) if classes else losses.BinaryCrossentropy(from_logits=True),
    )
    model.fit(task.inputs, task.targets, batch_size=task.work.batch_size, epochs=num_epochs, shuffle=True, verbose=0)
    return module


def one_cycle_factor(step: float, total: int) -> float:
    """Torch's OneCycleLR at its defaults: from 1/25 up over 30 % of the run, then down to 1/250,000, cosine both ways."""
    peak = 0.3 * total - 1
    if step <= peak:
        return _cosine(1 / 25, 1.0, step / peak)
    return _cosine(1.0, 1 / 25e4, (step - peak) / (total - 1 - peak))


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * part))


PEERS: dict[str, Peer] = {
    "lightning": Peer("Lightning", "lightning", lightning),
    "hf_trainer": Peer("HF Trainer", "transformers", hf_trainer),
    "accelerate": Peer("Accelerate", "accelerate", accelerate),
    "skorch": Peer("skorch", "skorch", skorch),
    "ignite": Peer("Ignite", "pytorch-ignite", ignite),
    "keras": Peer("Keras on torch", "keras", keras),
}
