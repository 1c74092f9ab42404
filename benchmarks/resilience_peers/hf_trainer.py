"""transformers.Trainer: `save_steps`, then `train(resume_from_checkpoint=True)`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments, set_seed

from benchmarks.resilience_peers import task

PACKAGES = ("transformers", "accelerate", "torch")
SETTINGS = {
    "default": task.Setting("HF Trainer"),
    "full_determinism": task.Setting("HF Trainer, full_determinism=True"),
}


class WithLoss(nn.Module):
    """The Trainer wants the loss from the model."""

    def __init__(self) -> None:
        super().__init__()
        self.network = task.Network()

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.network(inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def collate(rows: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    return {"inputs": torch.stack([row[0] for row in rows]), "labels": torch.stack([row[1] for row in rows])}


def train(call: task.Call) -> task.Trained:
    """Train, or go on after an interruption."""
    set_seed(task.SEED)
    model: Any = WithLoss()
    arguments = TrainingArguments(
        output_dir=str(call.folder),
        per_device_train_batch_size=task.BATCH_SIZE,
        num_train_epochs=task.NUM_EPOCHS,
        learning_rate=task.LR,
        weight_decay=task.WEIGHT_DECAY,
        lr_scheduler_type="constant",
        save_strategy="steps",
        save_steps=task.SAVE_EVERY,
        seed=task.SEED,
        full_determinism=call.setting == "full_determinism",
        use_cpu=True,
        dataloader_pin_memory=False,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=task.dataset(), data_collator=collate)
    trainer.train(resume_from_checkpoint=True if call.resume else None)
    return task.Trained.of(model.network, task.updates_of(trainer.optimizer))
