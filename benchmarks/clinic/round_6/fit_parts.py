"""What the sound setups of this exam are made of: splits, plain networks, small data sets of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.clinic.case import Setup, drawn

Split = tuple[Dataset[Any], Dataset[Any]]


@contextmanager
def weights_of(seed: int) -> Iterator[None]:
    """Initial weights that follow from the seed, the global generator left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 17)
        yield


def cut(inputs: Tensor, targets: Tensor, num_train: int) -> Split:
    """The first rows to train on, the others to validate."""
    return TensorDataset(inputs[:num_train], targets[:num_train]), TensorDataset(inputs[num_train:], targets[num_train:])


def setup_of(
    split: Split,
    model: nn.Module,
    loss: Callable[..., Tensor],
    optimizer: dict[str, Any],
    *,
    batch_size: int = 32,
    epochs: int = 20,
    shuffle: bool = True,
) -> Setup:
    """The keywords of a setup."""
    return {
        "model": model,
        "train": split[0],
        "val": split[1],
        "loss": loss,
        "optimizer": optimizer,
        "batch_size": batch_size,
        "epochs": epochs,
        "shuffle": shuffle,
    }


def perceptron(*widths: int, activation: type[nn.Module] = nn.ReLU, dropout: float = 0.0) -> nn.Sequential:
    """Fully connected layers of these widths with an activation, and dropout if any, after each but the last."""
    modules: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise(widths)):
        modules.append(nn.Linear(before, after))
        if place < len(widths) - 2:
            modules += [activation(), nn.Dropout(dropout)] if dropout else [activation()]
    return nn.Sequential(*modules)


def normal(seed: int, purpose: str, *shape: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=drawn(seed, purpose))


def uniform(seed: int, purpose: str, *shape: int) -> Tensor:
    """Numbers drawn evenly between 0 and 1."""
    return torch.rand(*shape, generator=drawn(seed, purpose))


def standard(values: Tensor) -> Tensor:
    """Each column with mean 0 and deviation 1."""
    return (values - values.mean(0)) / values.std(0)


def soft_law(inputs: Tensor) -> Tensor:
    """A smooth law of the first four columns, [rows, 1], of mean near 0 and deviation near 1."""
    bent = torch.sin(1.3 * inputs[:, 0]) + 0.6 * inputs[:, 1] + 0.4 * inputs[:, 2].abs() - 0.4 * inputs[:, 2] * inputs[:, 3]
    return standard(bent).unsqueeze(1)
