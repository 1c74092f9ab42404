"""What rule sets of others look at: one plain training of a case, with layer statistics of every step or epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic import loop
from benchmarks.clinic.case import Setup
from stepwell.doctor.bench import Bench
from stepwell.doctor.setup import setup_of
from stepwell.doctor.task import Task
from stepwell.doctor.trials import index_batches, look, take_step

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase, nn.Embedding)


@dataclass
class Watched:
    """A training as it went.

    Args:
        losses: of each step.
        first_norm, last_norm: of each step, the gradient norms of the first and of the last weight matrix.
        zero_gradient: of each epoch, the largest share of exact zeros in the gradient of a weight matrix.
        layer_output: mean size of the outputs of any layer, the largest over the epochs.
        train_loss, val_loss, train_skill, val_skill: of each epoch, in evaluation mode.
        crashed: whether a step failed.
    """

    losses: list[float] = field(default_factory=list)
    first_norm: list[float] = field(default_factory=list)
    last_norm: list[float] = field(default_factory=list)
    zero_gradient: list[float] = field(default_factory=list)
    layer_output: float = 0.0
    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    train_skill: list[float] = field(default_factory=list)
    val_skill: list[float] = field(default_factory=list)
    crashed: bool = False


def watched(given: Setup, *, seed: int = 0) -> Watched:
    """Train a copy of a case's setup, and write down what the rules ask for."""
    setup = setup_of(**{"shuffle": True, **given})
    task = Bench(setup).task
    copied, seen = setup.copied(), Watched()
    with torch.random.fork_rng(devices=[]), _Outputs(copied.model, seen):
        torch.manual_seed(seed)
        try:
            _train(copied, task, seen, seed)
        except Exception:  # the setup's own failure; the rules see what was written down until then
            seen.crashed = True
    return seen


def _train(setup: Any, task: Task, seen: Watched, seed: int) -> None:
    optimizer = setup.build_optimizer()
    matrices = [part for part in setup.model.parameters() if part.dim() >= 2]
    batches = index_batches(setup, seed)
    for _ in range(setup.epochs):
        setup.model.train()
        for _ in range(setup.steps_per_epoch):
            loss, _ = take_step(setup, optimizer, setup.train.take(next(batches)))
            seen.losses.append(loss)
            norms = [0.0 if part.grad is None else float(part.grad.norm()) for part in matrices]
            if norms:
                seen.first_norm.append(norms[0])
                seen.last_norm.append(norms[-1])
            if not math.isfinite(loss):
                return
        shares = [float((part.grad == 0).float().mean()) for part in matrices if part.grad is not None]
        seen.zero_gradient.append(max(shares, default=0.0))
        now = look(setup, task, len(seen.losses))
        seen.train_loss.append(now.train_loss)
        seen.val_loss.append(now.val_loss)
        seen.train_skill.append(now.train_skill or 0.0)
        seen.val_skill.append(now.val_skill or 0.0)


class _Outputs:
    """Within it the sizes of all layers' outputs in evaluation mode are written down."""

    def __init__(self, model: nn.Module, seen: Watched) -> None:
        self.model, self.seen = model, seen
        self.hooks: list[Any] = []

    def __enter__(self) -> None:
        self.hooks = [part.register_forward_hook(self._note) for part in self.model.modules() if isinstance(part, _LAYERS)]

    def __exit__(self, *reason: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _note(self, module: nn.Module, args: Any, outputs: Any) -> None:
        values = outputs[0] if isinstance(outputs, tuple) else outputs
        if not module.training and isinstance(values, Tensor):
            self.seen.layer_output = max(self.seen.layer_output, float(values.detach().abs().mean()))


def optimizer_rate(given: Setup) -> float:
    """The learning rate of a case, torch's own where none is named."""
    return float(loop.optimizer_of(given).param_groups[0]["lr"])
