"""stepwell and two hand-written loops, on the same job: AdamW, one cycle per step, clipping at norm 1, shuffled epochs."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.workloads import LR, MAX_NORM, WEIGHT_DECAY, Workload


@dataclass(frozen=True)
class Task:
    """A workload made concrete: every contestant starts from a copy of the same model.

    Args:
        work: which workload.
        model: the model at its first step; copied, never trained.
        inputs, targets: the data.
    """

    work: Workload
    model: nn.Module
    inputs: Tensor
    targets: Tensor

    @staticmethod
    def of(work: Workload, *, seed: int = 0) -> Task:
        """The workload with its model's weights drawn from the seed."""
        torch.manual_seed(seed)
        model = work.make_model()
        inputs, targets = work.make_data()
        return Task(work, model, inputs, targets)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch; the data is a multiple of the batch."""
        return len(self.inputs) // self.work.batch_size

    def fresh(self) -> nn.Module:
        """A copy of the model, in training mode."""
        return copy.deepcopy(self.model).train()

    def final_loss(self, model: nn.Module) -> float:
        """The trained model's mean loss over the whole data, in evaluation mode."""
        model.eval()
        with torch.no_grad():
            parts = zip(self.inputs.split(self.work.batch_size), self.targets.split(self.work.batch_size))
            losses = [float(self.work.loss(model(inputs), targets)) for inputs, targets in parts]
        return sum(losses) / len(losses)


def adamw(model: nn.Module, **settings: Any) -> torch.optim.AdamW:
    """The optimizer of the torch contestants."""
    return torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, **settings)


def one_cycle(optimizer: torch.optim.Optimizer, num_steps: int) -> torch.optim.lr_scheduler.OneCycleLR:
    """The schedule of the torch contestants, stepped after every optimizer step."""
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=num_steps)


def stepwell_fit(task: Task, num_epochs: int) -> nn.Module:
    """The public call, with default settings."""
    import stepwell

    recipe = stepwell.Recipe(
        objective=task.work.objective,
        optimizer={"name": "adamw", "lr": LR, "weight_decay": WEIGHT_DECAY},
        schedule="one_cycle",
        techniques=[{"name": "clip_norm", "max_norm": MAX_NORM}],
        batch_size=task.work.batch_size,
    )
    run = stepwell.fit(task.fresh(), (task.inputs, task.targets), recipe=recipe, budget=f"{num_epochs} epochs", seed=0, out=None)
    model: nn.Module = run.model
    return model


def slice_loop(task: Task, num_epochs: int) -> nn.Module:
    """The best that a person writes by hand: one permutation an epoch, slices of it, the fused optimizer."""
    model, loss, size = task.fresh(), task.work.loss, task.work.batch_size
    optimizer = adamw(model, fused=True)
    schedule = one_cycle(optimizer, num_epochs * task.steps_per_epoch)
    for _ in range(num_epochs):
        order = torch.randperm(len(task.inputs))
        for start in range(0, len(order), size):
            index = order[start : start + size]
            optimizer.zero_grad()
            loss(model(task.inputs[index]), task.targets[index]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            schedule.step()
    return model


def dataloader_loop(task: Task, num_epochs: int) -> nn.Module:
    """The tutorials' loop: a DataLoader over a TensorDataset, the default optimizer, the loss read at each step."""
    model, loss = task.fresh(), task.work.loss
    loader = DataLoader(TensorDataset(task.inputs, task.targets), batch_size=task.work.batch_size, shuffle=True)
    optimizer = adamw(model)
    schedule = one_cycle(optimizer, num_epochs * task.steps_per_epoch)
    for _ in range(num_epochs):
        total = 0.0
        for inputs, targets in loader:
            optimizer.zero_grad()
            value = loss(model(inputs), targets)
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            schedule.step()
            total += value.item()
    return model
