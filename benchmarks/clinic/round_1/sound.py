"""What the healthy setups of this package are built from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.clinic.case import Case, Setup, drawn

Build = Callable[[int], Setup]


def sound(
    name: str,
    source: str,
    *,
    skill: Literal["accuracy", "balanced_accuracy", "r2"],
    floor: float,
    architecture: Literal["mlp", "cnn", "rnn", "transformer"] = "mlp",
    data: Literal["table", "image", "sequence"] = "table",
) -> Callable[[Build], Case]:
    """Make a healthy case of a builder; the weights that the builder draws follow from its seed."""

    def case_of(build: Build) -> Case:
        def seeded(seed: int) -> Setup:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return build(seed)

        return Case(name, seeded, (), skill, source, architecture=architecture, data=data, floor=floor)

    return case_of


def normal(seed: int, purpose: str, *shape: int) -> Tensor:
    """Draws from the unit normal."""
    return torch.randn(*shape, generator=drawn(seed, purpose))


def uniform(seed: int, purpose: str, *shape: int) -> Tensor:
    """Draws between 0 and 1."""
    return torch.rand(*shape, generator=drawn(seed, purpose))


def tokens(seed: int, purpose: str, num_kinds: int, *shape: int) -> Tensor:
    """Whole numbers from 0 to num_kinds - 1."""
    return torch.randint(num_kinds, shape, generator=drawn(seed, purpose))


def cut(num_train: int, *columns: Tensor) -> tuple[TensorDataset, TensorDataset]:
    """The first rows train, the others judge."""
    return TensorDataset(*(c[:num_train] for c in columns)), TensorDataset(*(c[num_train:] for c in columns))


def setup_of(
    split: tuple[Dataset[Any], Dataset[Any]],
    model: nn.Module,
    loss: Callable[[Any, Tensor], Tensor],
    optimizer: dict[str, Any],
    *,
    batch_size: int = 32,
    epochs: int = 20,
    shuffle: bool = True,
) -> Setup:
    """The keywords of a diagnosis."""
    train, val = split
    return {
        "model": model,
        "train": train,
        "val": val,
        "loss": loss,
        "optimizer": optimizer,
        "batch_size": batch_size,
        "epochs": epochs,
        "shuffle": shuffle,
    }


def mlp(
    num_inputs: int, num_outputs: int, *, width: int, depth: int = 2, unit: type[nn.Module] = nn.ReLU, dropout: float = 0.0
) -> nn.Sequential:
    """Hidden layers of one width, each with its unit and perhaps dropout, then a linear head."""
    layers: list[nn.Module] = []
    for place in range(depth):
        layers += [nn.Linear(num_inputs if place == 0 else width, width), unit()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(width, num_outputs))


def friedman(seed: int, num_rows: int, *, noise: float = 0.25, num_columns: int = 8) -> tuple[Tensor, Tensor]:
    """Friedman's first test function of five columns, the others idle: inputs centred, targets [rows, 1] near unit spread."""
    raw = uniform(seed, "friedman", num_rows, num_columns)
    clean = 10 * torch.sin(torch.pi * raw[:, 0] * raw[:, 1]) + 20 * (raw[:, 2] - 0.5).square() + 10 * raw[:, 3] + 5 * raw[:, 4]
    return (raw - 0.5) * 3.4, (clean[:, None] - 14.4) / 5 + noise * normal(seed, "friedman-noise", num_rows, 1)


def coin(seed: int, purpose: str, logits: Tensor) -> Tensor:
    """Yes or no with these log-odds, as long."""
    return (torch.sigmoid(logits) > uniform(seed, purpose, *logits.shape)).long()


def digits(seed: int, num_train: int) -> tuple[TensorDataset, TensorDataset]:
    """Handwritten digits of 8 x 8 pixels between -1 and 1, in an order of the seed."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = torch.randperm(len(bunch.target), generator=drawn(seed, "digits"))
    images = torch.tensor(bunch.images, dtype=torch.float32)[order, None] / 8 - 1
    return cut(num_train, images, torch.tensor(bunch.target)[order])


def blobs(seed: int, num_rows: int, most: int, *, noise: float) -> tuple[Tensor, Tensor, Tensor]:
    """Images [rows, 1, 10, 10] of round spots at random places, how many each has, and which pixels they cover."""
    numbers = tokens(seed, "numbers", most + 1, num_rows)
    places = uniform(seed, "places", num_rows, most, 2) * 8 + 0.5
    grid = torch.stack(torch.meshgrid(torch.arange(10.0), torch.arange(10.0), indexing="ij"), dim=-1)
    squares = (grid[None, None] - places[:, :, None, None]).square().sum(-1)
    shown = torch.arange(most) < numbers[:, None]
    heights = torch.exp(-squares / 1.6) * shown[:, :, None, None]
    images = heights.sum(1, keepdim=True) + noise * normal(seed, "blob-noise", num_rows, 1, 10, 10)
    return images, numbers, (heights.amax(1) > 0.45).long()


def bars(seed: int, purpose: str, kinds: Tensor, *, strength: float) -> Tensor:
    """Images [rows, 1, 9, 9] of one bar in noise, each lying, standing, falling or rising as its kind says."""
    across = torch.arange(9.0)[None, :].expand(9, 9)
    down = across.T
    offsets = (uniform(seed, purpose + "-at", len(kinds)) * 4 - 2)[:, None, None]
    distance = torch.stack([down - 4, across - 4, (across - down) / 1.4, (across + down - 8) / 1.4])[kinds] - offsets
    return (strength * torch.exp(-distance.square()) + normal(seed, purpose + "-noise", len(kinds), 9, 9))[:, None]
