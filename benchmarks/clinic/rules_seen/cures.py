"""Reference fixes: each gives a function from a setup to a mended one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Setup
from benchmarks.clinic.rules_seen.networks import weights_from

Fix = Callable[[Setup], Setup]


def job(**changes: Any) -> Fix:
    """Other batch size, epochs, shuffling or loss."""
    return lambda setup: {**setup, **changes}


def optimizer(**settings: Any) -> Fix:
    """Other settings of the same optimizer, or of another one where a name is given."""

    def fix(setup: Setup) -> Setup:
        kept = {} if "name" in settings else setup["optimizer"]
        return {**setup, "optimizer": {**kept, **settings}}

    return fix


def all_parameters(setup: Setup) -> Setup:
    """The optimizer holds what the model has, and all of it trains."""
    setup["model"].requires_grad_(True)
    settings = {key: value for key, value in setup["optimizer"].items() if key != "params"}
    return {**setup, "optimizer": settings}


def model(make: Callable[[], nn.Module], **changes: Any) -> Fix:
    """Another model, and what else goes with it."""

    def fix(setup: Setup) -> Setup:
        with weights_from(11):
            return {**setup, "model": make(), **changes}

    return fix


def default_start(setup: Setup) -> Setup:
    """Every layer's weights as its class draws them."""
    with weights_from(13):
        for part in setup["model"].modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
    return setup


def train_rows(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Fix:
    """Other training rows."""
    return lambda setup: {**setup, "train": TensorDataset(*change(*setup["train"].tensors))}


def val_rows(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Fix:
    """Other validation rows."""
    return lambda setup: {**setup, "val": TensorDataset(*change(*setup["val"].tensors))}


def both(*fixes: Fix) -> Fix:
    """One after the other."""

    def fix(setup: Setup) -> Setup:
        for each in fixes:
            setup = each(setup)
        return setup

    return fix


def everywhere(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Fix:
    """Other rows, in training and in validation."""
    return both(train_rows(change), val_rows(change))


class Scaled(nn.Module):
    """A model behind inputs brought to mean 0 and spread 1, before outputs brought to the targets' mean and spread."""

    inputs_mean: Tensor
    inputs_std: Tensor
    targets_mean: Tensor
    targets_std: Tensor

    def __init__(self, inner: nn.Module, inputs: Tensor | None = None, targets: Tensor | None = None) -> None:
        super().__init__()
        self.inner = inner
        for name, rows in (("inputs", inputs), ("targets", targets)):
            self.register_buffer(f"{name}_mean", torch.zeros(1) if rows is None else rows.mean(0))
            self.register_buffer(f"{name}_std", torch.ones(1) if rows is None else rows.std(0).clamp(min=1e-8))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.inner((inputs - self.inputs_mean) / self.inputs_std)
        return outputs * self.targets_std + self.targets_mean


def standard_inputs(setup: Setup) -> Setup:
    """Inputs standardised with the training rows' statistics, before the model."""
    return {**setup, "model": Scaled(setup["model"], inputs=setup["train"].tensors[0])}


def standard_targets(setup: Setup) -> Setup:
    """Outputs in the targets' units, the loss in units of their spread."""
    targets = setup["train"].tensors[1]
    spread, loss = targets.std(0), setup["loss"]
    wrapped = Scaled(setup["model"], targets=targets)
    return {**setup, "model": wrapped, "loss": lambda outputs, truth: loss(outputs / spread, truth / spread)}
