"""The task that every trainer gets, and the one line that each script runs at the start of a step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

NUM_INPUTS, HIDDEN, NUM_CLASSES = 32, (128, 64), 10
BATCH_SIZE, NUM_EPOCHS, STEPS_PER_EPOCH = 16, 4, 16
NUM_STEPS = NUM_EPOCHS * STEPS_PER_EPOCH
SAVE_EVERY = 5
DROPOUT, LR, WEIGHT_DECAY, SEED = 0.2, 1e-3, 0.01, 0


@dataclass(frozen=True)
class Setting:
    """One way of using a trainer.

    Args:
        title: its row in the table.
        save_every: steps from one checkpoint to the next; some save by epochs only.
        part: what the paths of a checkpoint's files have in common, where the folder holds other files too.
    """

    title: str
    save_every: int = SAVE_EVERY
    part: str = ""


@dataclass(frozen=True)
class Call:
    """What a script is asked to do.

    Args:
        folder: where it may write; empty at the first call.
        resume: whether this call is the one after the interruption.
        setting: one of the script's own SETTINGS.
    """

    folder: Path
    resume: bool
    setting: str


@dataclass(frozen=True)
class Trained:
    """What a script hands back.

    Args:
        weights: the model's parameters by name, as bytes.
        num_updates: optimizer steps that lie in these weights, by the trainer's own count.
    """

    weights: dict[str, bytes]
    num_updates: int

    @staticmethod
    def of(model: nn.Module, num_updates: int) -> Trained:
        """A torch model's weights."""
        return Trained({name: raw(tensor) for name, tensor in model.state_dict().items()}, num_updates)

    @property
    def digest(self) -> str:
        """SHA-256 over the names and bytes.

        >>> Trained({"a": b"x"}, 1).digest == Trained({"a": b"x"}, 2).digest
        True
        """
        total = hashlib.sha256()
        for name, content in sorted(self.weights.items()):
            total.update(name.encode() + b"\0" + content)
        return total.hexdigest()


# Set by the host before a script runs. It is given a function that returns the first layer's weights as bytes.
_watch: Callable[[Callable[[], bytes]], None] | None = None


def set_watch(watch: Callable[[Callable[[], bytes]], None]) -> None:
    """Have `watch` called at the start of every step of this process."""
    global _watch
    _watch = watch


def step_begins(first_weights: Callable[[], bytes]) -> None:
    """A step begins: here the process is killed, or the fault is armed, when its turn has come."""
    if _watch is not None:
        _watch(first_weights)


def raw(tensor: Tensor) -> bytes:
    """A tensor's bytes.

    >>> raw(torch.tensor([1], dtype=torch.uint8))
    b'\\x01'
    """
    content: bytes = tensor.detach().cpu().contiguous().numpy().tobytes()
    return content


class Network(nn.Module):
    """A perceptron of two hidden layers with dropout; each forward pass in training mode is a step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(SEED)
        first, second = HIDDEN
        self.first = nn.Linear(NUM_INPUTS, first)
        self.rest = nn.Sequential(
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(second, NUM_CLASSES),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, 32) -> (batch, 10) logits."""
        if self.training:
            step_begins(lambda: raw(self.first.weight))
        logits: Tensor = self.rest(self.first(inputs))
        return logits


def tensors() -> tuple[Tensor, Tensor]:
    """The data: 256 rows, (256, 32) inputs and (256,) classes."""
    draw = torch.Generator().manual_seed(SEED)
    num_rows = BATCH_SIZE * STEPS_PER_EPOCH
    return torch.randn(num_rows, NUM_INPUTS, generator=draw), torch.randint(0, NUM_CLASSES, (num_rows,), generator=draw)


def dataset() -> TensorDataset:
    """The data as a torch Dataset."""
    return TensorDataset(*tensors())


def adamw(model: nn.Module) -> torch.optim.AdamW:
    """The optimizer of the torch trainers."""
    return torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)


def updates_of(optimizer: Any) -> int:
    """The steps that a torch optimizer says it has done."""
    return int(next(iter(optimizer.state.values()))["step"])
