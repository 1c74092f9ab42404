"""Lightning: `ModelCheckpoint(every_n_train_steps, save_last=True)`, then `fit(ckpt_path="last")`."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.resilience_peers import task

PACKAGES = ("lightning", "torchdata", "torch")
SETTINGS = {"default": task.Setting("Lightning"), "stateful": task.Setting("Lightning, StatefulDataLoader")}


class Module(pl.LightningModule):
    """The network and its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.network = task.Network()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        return nn.functional.cross_entropy(self.network(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return task.adamw(self.network)


def train(call: task.Call) -> task.Trained:
    """Train, or go on after an interruption."""
    pl.seed_everything(task.SEED)
    module = Module()
    if call.setting == "stateful":
        from torchdata.stateful_dataloader import StatefulDataLoader as Loader
    else:
        Loader = DataLoader
    saving = ModelCheckpoint(dirpath=call.folder, every_n_train_steps=task.SAVE_EVERY, save_last=True)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=task.NUM_EPOCHS,
        callbacks=[saving],
        default_root_dir=call.folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = Loader(task.dataset(), batch_size=task.BATCH_SIZE, shuffle=True)
    trainer.fit(module, loader, ckpt_path="last")
    return task.Trained.of(module.network, task.updates_of(trainer.optimizers[0]))
