"""What the second half of the exam is made of: small data sets, plain models, simple cures."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.clinic.case import Setup, drawn

Rows = tuple[Tensor, Tensor]
Fix = Callable[[Setup], Setup]


def built(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A model whose weights follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4_000 + seed)
        return make()


def job(model: nn.Module, rows: tuple[Rows, Rows], loss: Any, optimizer: dict[str, Any], **plan: Any) -> Setup:
    """A setup over two splits held as tensors."""
    train: Dataset[Any] = TensorDataset(*rows[0])
    val: Dataset[Any] = TensorDataset(*rows[1])
    return {
        "model": model,
        "train": train,
        "val": val,
        "loss": loss,
        "optimizer": optimizer,
        "batch_size": 64,
        "epochs": 12,
        "shuffle": True,
        **plan,
    }


def cut(inputs: Tensor, targets: Tensor, num_train: int) -> tuple[Rows, Rows]:
    """The first rows for training, the others for validation."""
    return (inputs[:num_train], targets[:num_train]), (inputs[num_train:], targets[num_train:])


def steps(**settings: Any) -> Fix:
    """Other settings of the optimizer."""
    return lambda setup: {**setup, "optimizer": {**setup["optimizer"], **settings}}


def plan(**changes: Any) -> Fix:
    """Another batch size, number of epochs, or loss."""
    return lambda setup: {**setup, **changes}


def redrawn(setup: Setup) -> Setup:
    """All layers as their classes draw them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(77)
        for part in setup["model"].modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
    return setup


def without_params(setup: Setup) -> Setup:
    """Everything trains and the optimizer holds it."""
    setup["model"].requires_grad_(True)
    return {**setup, "optimizer": {key: value for key, value in setup["optimizer"].items() if key != "params"}}


def digits(seed: int, num_train: int = 900, num_val: int = 600) -> tuple[Rows, Rows]:
    """Handwritten digits of 8 by 8 pixels, [N, 1, 8, 8] from 0 to 1, in an order that follows from the seed."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = torch.randperm(len(found.target), generator=drawn(seed, "digits order"))[: num_train + num_val]
    pictures = torch.tensor(found.images, dtype=torch.float32)[order][:, None] / 16
    return cut(pictures, torch.tensor(found.target)[order].long(), num_train)


def gratings(seed: int, num_rows: int, noise: float = 0.3) -> Rows:
    """Stripes of four directions and any phase, [N, 1, 12, 12]: their mean picture is flat."""
    source = drawn(seed, "gratings")
    labels = torch.randint(4, (num_rows,), generator=source)
    down, across = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    angle = labels * math.pi / 4
    phase = torch.rand(num_rows, generator=source) * 2 * math.pi
    along = torch.cos(angle)[:, None, None] * across + torch.sin(angle)[:, None, None] * down
    pictures = torch.sin(1.6 * along + phase[:, None, None])
    return (pictures + noise * torch.randn(pictures.shape, generator=source))[:, None], labels


def figures(seed: int, num_rows: int, noise: float = 0.2) -> Rows:
    """A filled box, a frame, a cross or a slash somewhere on [N, 1, 12, 12]."""
    source = drawn(seed, "figures")
    stamps = torch.zeros(4, 5, 5)
    stamps[0] = 1.0
    stamps[1] = 1.0
    stamps[1, 1:4, 1:4] = 0.0
    stamps[2, 2], stamps[2, :, 2] = 1.0, 1.0
    stamps[3] = torch.eye(5)
    labels = torch.randint(4, (num_rows,), generator=source)
    pictures = noise * torch.randn(num_rows, 1, 12, 12, generator=source)
    corners = torch.randint(8, (num_rows, 2), generator=source).tolist()
    for row, (top, left) in enumerate(corners):
        pictures[row, 0, top : top + 5, left : left + 5] += stamps[labels[row]]
    return pictures, labels


def rings(seed: int, num_rows: int, num_rings: int = 3, num_idle: int = 2) -> Rows:
    """Points on rings around the origin, with columns that say nothing, [N, 2 + idle]."""
    source = drawn(seed, "rings")
    labels = torch.randint(num_rings, (num_rows,), generator=source)
    angle = torch.rand(num_rows, generator=source) * 2 * math.pi
    radius = 0.6 + 0.8 * labels + 0.15 * torch.randn(num_rows, generator=source)
    idle = torch.randn(num_rows, num_idle, generator=source)
    return torch.cat([(radius * angle.cos())[:, None], (radius * angle.sin())[:, None], idle], 1), labels


def yields(seed: int, num_rows: int, noise: float = 0.2, num_idle: int = 2) -> Rows:
    """A smooth law of four standardised columns beside idle ones, [N, 4 + idle] -> [N, 1], spread about 1."""
    source = drawn(seed, "yields")
    inputs = torch.randn(num_rows, 4 + num_idle, generator=source)
    law = torch.sin(1.5 * inputs[:, 0]) + 0.6 * inputs[:, 1] * inputs[:, 2] + 0.5 * inputs[:, 3]
    return inputs, (law + noise * torch.randn(num_rows, generator=source))[:, None]


def groups(seed: int, num_rows: int, num_columns: int = 12, num_groups: int = 5, spread: float = 0.9) -> Rows:
    """Several clouds to a class, [N, columns]; the clouds are the same for every seed."""
    place = drawn(5, "groups")
    middles = torch.randn(3 * num_groups, num_columns, generator=place)
    source = drawn(seed, "groups rows")
    cloud = torch.randint(3 * num_groups, (num_rows,), generator=source)
    inputs = middles[cloud] + spread * 0.7 * torch.randn(num_rows, num_columns, generator=source)
    return inputs, cloud % num_groups


def ballots(seed: int, num_rows: int, length: int = 15, num_tokens: int = 8) -> Rows:
    """Does token 1 stand more often than token 2? Token ids [N, length] -> 0 or 1; never a draw."""
    source = drawn(seed, "ballots")
    tokens = torch.randint(num_tokens, (6 * num_rows, length), generator=source)
    lead = (tokens == 1).sum(1) - (tokens == 2).sum(1)
    kept = (lead != 0).nonzero()[:num_rows, 0]
    return tokens[kept], (lead[kept] > 0).long()


def openings(seed: int, num_rows: int, length: int = 12, num_kinds: int = 4) -> Rows:
    """Which of the kinds opened the sequence? One-hot steps [N, length, kinds + 4] of which all but the first are filler."""
    source = drawn(seed, "openings")
    labels = torch.randint(num_kinds, (num_rows,), generator=source)
    filler = torch.randint(num_kinds, num_kinds + 4, (num_rows, length), generator=source)
    filler[:, 0] = labels
    return nn.functional.one_hot(filler, num_kinds + 4).float(), labels


def tones(seed: int, num_rows: int, length: int = 24, noise: float = 0.3) -> Rows:
    """Waves of three rates and any phase and height, [N, length, 1]."""
    source = drawn(seed, "tones")
    labels = torch.randint(3, (num_rows,), generator=source)
    rate = torch.tensor([0.35, 0.7, 1.2])[labels][:, None]
    phase = torch.rand(num_rows, 1, generator=source) * 2 * math.pi
    height = 0.7 + 0.6 * torch.rand(num_rows, 1, generator=source)
    waves = height * torch.sin(rate * torch.arange(float(length)) + phase)
    return (waves + noise * torch.randn(waves.shape, generator=source))[..., None], labels


def dense(*widths: int, act: type[nn.Module] = nn.ReLU, norm: type[nn.Module] | None = None, drop: float = 0.0) -> nn.Sequential:
    """Linear layers with the activation (and norm, and dropout) after each but the last."""
    parts: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        parts += [nn.Linear(before, after), *([norm(after)] if norm else []), act(), *([nn.Dropout(drop)] if drop else [])]
    return nn.Sequential(*parts, nn.Linear(widths[-2], widths[-1]))


class Reader(nn.Module):
    """A recurrent layer over [N, T, F] whose last state is read by a linear layer."""

    def __init__(self, kind: Callable[..., nn.RNNBase], num_inputs: int, width: int, num_outputs: int, **settings: Any) -> None:
        super().__init__()
        self.recurrent = kind(num_inputs, width, batch_first=True, **settings)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, steps: Tensor) -> Tensor:
        states, _ = self.recurrent(steps)
        outputs: Tensor = self.head(states[:, -1])
        return outputs


class Attender(nn.Module):
    """Token ids, their places, encoder layers, the mean over the sequence, a linear layer."""

    def __init__(self, num_tokens: int, length: int, num_outputs: int, width: int = 32, depth: int = 2, **settings: Any) -> None:
        super().__init__()
        self.tokens = nn.Embedding(num_tokens, width)
        self.places = nn.Parameter(torch.randn(length, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, **{"dropout": 0.0, "batch_first": True, **settings})
        self.body = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, ids: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(self.tokens(ids) + self.places).mean(1))
        return outputs


class OwnCell(nn.Module):
    """A recurrent net written by hand."""

    def __init__(self, num_inputs: int, width: int, num_outputs: int, scale: float) -> None:
        super().__init__()
        self.inward = nn.Parameter(torch.randn(num_inputs, width) * scale)
        self.onward = nn.Parameter(torch.randn(width, width) * scale)
        self.bias = nn.Parameter(torch.zeros(width))
        self.head = nn.Linear(width, num_outputs)

    def forward(self, steps: Tensor) -> Tensor:
        state = steps.new_zeros(len(steps), self.bias.numel())
        for moment in range(steps.shape[1]):
            state = torch.tanh(steps[:, moment] @ self.inward + state @ self.onward + self.bias)
        outputs: Tensor = self.head(state)
        return outputs


class Steep(nn.Module):
    """tanh of so many times its input, to get codes that are nearly binary."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.tanh(self.slope * inputs)


def convnet(num_outputs: int, width: int = 12, norm: type[nn.Module] | None = None, act: type[nn.Module] = nn.ReLU) -> nn.Module:
    """Two convolutions, the mean over the picture, a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        *([norm(width)] if norm else []),
        act(),
        nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
        *([norm(2 * width)] if norm else []),
        act(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, num_outputs),
    )
