"""What the first half of the exam is built from: plain models, the keywords of a setup, and ways to mend it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Setup
from benchmarks.clinic.round_4.exam_rows import Rows

Loss = Callable[[Tensor, Tensor], Tensor]


def seeded(build: Callable[[int], Setup]) -> Callable[[int], Setup]:
    """A builder whose initial weights follow from its seed."""

    @functools.wraps(build)
    def built(seed: int) -> Setup:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(seed)

    return built


def setup(
    rows: Rows, model: nn.Module, loss: Loss, optimizer: dict[str, Any], *, batch_size: int = 32, epochs: int = 20
) -> Setup:
    """The keywords of a diagnosis."""
    train, val = TensorDataset(rows.x, rows.y), TensorDataset(rows.val_x, rows.val_y)
    common: Setup = {"batch_size": batch_size, "epochs": epochs, "shuffle": True}
    return {"model": model, "train": train, "val": val, "loss": loss, "optimizer": optimizer, **common}


def job(**changes: Any) -> Callable[[Setup], Setup]:
    """A fix that changes keywords of the setup."""
    return lambda given: {**given, **changes}


def rate(lr: float, **settings: Any) -> Callable[[Setup], Setup]:
    """A fix that changes settings of the optimizer."""
    return lambda given: {**given, "optimizer": {**given["optimizer"], "lr": lr, **settings}}


def without_end(given: Setup) -> Setup:
    """A fix: the model's last function gone."""
    given["model"].end = nn.Identity()
    return given


class Model(nn.Module):
    """A body, and a function that its outputs go through at the end of `forward`."""

    def __init__(self, body: nn.Module, end: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.body, self.end = body, end or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.end(self.body(x))
        return outputs


class LastStep(nn.Module):
    """A recurrent reader whose last state, or every state, feeds a linear head."""

    def __init__(self, cell: nn.RNNBase, num_outputs: int, vocabulary: int = 0, every: str = "last") -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, cell.input_size) if vocabulary else nn.Identity()
        self.cell, self.head, self.every = cell, nn.Linear(cell.hidden_size, num_outputs), every

    def forward(self, x: Tensor) -> Tensor:
        states = self.cell(self.embed(x))[0]
        outputs: Tensor = self.head(states if self.every == "each" else states[:, -1])
        return outputs


class Reader(nn.Module):
    """A small transformer encoder over tokens, averaged over positions."""

    def __init__(self, vocabulary: int, num_outputs: int, width: int = 32, length: int = 16, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.place = nn.Parameter(0.02 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.encoder(self.embed(x) + self.place).mean(1))
        return outputs


def mlp(*widths: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers with an activation between them."""
    layers: list[nn.Module] = []
    for given, taken in itertools.pairwise(widths):
        layers += [nn.Linear(given, taken), act()]
    return nn.Sequential(*layers[:-1])


def convnet(size: int, num_outputs: int, width: int = 8) -> nn.Sequential:
    """Two convolutions with pooling and two linear layers, for one-channel images."""
    first = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*first, *second, nn.Linear(2 * width * (size // 4) ** 2, 32), nn.ReLU(), nn.Linear(32, num_outputs))


class Scaled(nn.Module):
    """A model behind a layer that standardises its inputs by column or pixel."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, x: Tensor, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", x.mean(axes, keepdim=True))
        self.register_buffer("std", x.std(axes, keepdim=True).clamp(min=1e-6))

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.model((x - self.mean) / self.std)
        return outputs


def inputs_scaled(*axes: int) -> Callable[[Setup], Setup]:
    """A fix: standardised inputs, with the statistics of the training part over these axes; validation data untouched."""
    return lambda given: {**given, "model": Scaled(given["model"], given["train"].tensors[0], axes)}


def targets_scaled(given: Setup) -> Setup:
    """A fix: the model learns standardised targets and answers in the old unit."""
    y = given["train"].tensors[1]
    mean, std = float(y.mean()), float(y.std())

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        value: Tensor = given["loss"]((outputs - mean) / std, (targets - mean) / std)
        return value

    return {**given, "model": Model(given["model"], lambda outputs: mean + std * outputs), "loss": loss}


def fed(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], *parts: str, **changes: Any) -> Callable[[Setup], Setup]:
    """A fix: other inputs and targets in the parts named ("train", "val"), and other keywords."""
    return lambda given: {**given, **changes, **{part: TensorDataset(*change(*given[part].tensors)) for part in parts}}
