"""The plain loop that any user would write for a setup: what the doctor's verdicts and repairs are judged by."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from benchmarks.clinic.case import Setup

KINDS: dict[str, Callable[..., Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}


def optimizer_of(setup: Setup) -> Optimizer:
    """The optimizer that a setup names, over the tensors that it says are held, or else all that train."""
    settings: dict[str, Any] = dict(setup["optimizer"])
    kind = KINDS[settings.pop("name")]
    held = settings.pop("params", None)
    return kind(list(setup["model"].parameters()) if held is None else list(held), **settings)


def train(setup: Setup, *, seed: int = 0) -> list[float]:
    """Train the setup's model in place; the loss of each step. Ends early once the loss isn't finite."""
    model: nn.Module = setup["model"]
    optimizer = optimizer_of(setup)
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(setup["train"], batch_size=setup["batch_size"], shuffle=setup.get("shuffle", True), generator=order)
    losses: list[float] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.train()
        for _ in range(setup["epochs"]):
            for inputs, targets in loader:
                optimizer.zero_grad()
                loss = setup["loss"](model(inputs), targets)
                loss.backward()
                optimizer.step()
                losses.append(float(loss.detach()))
                if not math.isfinite(losses[-1]):
                    return losses
    return losses


def outputs_of(setup: Setup) -> tuple[Tensor, Tensor]:
    """The model's outputs in evaluation mode over the validation data, and the targets."""
    model: nn.Module = setup["model"]
    was_training = model.training
    model.eval()
    outputs, targets = [], []
    with torch.no_grad():
        for inputs, target in DataLoader(setup["val"], batch_size=256):
            outputs.append(model(inputs))
            targets.append(target)
    model.train(was_training)
    return torch.cat(outputs), torch.cat(targets)


def skill(setup: Setup, kind: str) -> float:
    """Validation skill of the setup's model as it is; 0 where its outputs aren't finite or don't fit the targets.

    Of classes: one output per row is a yes-or-no score (of logits above 0, of probabilities above one half: the loss tells
    which). Of quantities: 1 - squared error over variance, at least 0.
    """
    outputs, targets = outputs_of(setup)
    if not bool(torch.isfinite(outputs).all()):
        return 0.0
    if kind == "r2":
        if outputs.numel() != targets.numel():
            return 0.0
        error = (outputs.reshape(-1).double() - targets.reshape(-1).double()).square().mean()
        return max(0.0, 1.0 - float(error / targets.double().var(correction=0).clamp(min=1e-12)))
    guesses = _classes(outputs, setup["loss"])
    truth = targets.reshape(-1).long()
    if guesses.numel() != truth.numel():
        return 0.0
    right = guesses == truth
    if kind == "accuracy":
        return float(right.double().mean())
    return float(torch.stack([right[truth == label].double().mean() for label in torch.unique(truth)]).mean())


def _classes(outputs: Tensor, loss: Any) -> Tensor:
    if outputs.dim() >= 2 and outputs.shape[-1] > 1:
        return outputs.reshape(-1, outputs.shape[-1]).argmax(1)
    score = outputs.reshape(-1)
    probabilities = bool(((score >= 0) & (score <= 1)).all()) and "Logits" not in type(loss).__name__
    return (score > (0.5 if probabilities else 0.0)).long()
