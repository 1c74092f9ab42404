"""Setups that work, from which sick ones are made by one change."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.clinic.case import Setup
from benchmarks.clinic.rules_seen import drawings, networks, series, tables
from benchmarks.clinic.rules_seen.networks import weights_from
from benchmarks.clinic.rules_seen.tables import Split


def of(split: Split, model: nn.Module, loss: Any, optimizer: dict[str, Any], /, **job: Any) -> Setup:
    """The parts as a setup; 12 epochs of batches of 32 unless told otherwise."""
    parts = {"model": model, "train": split.train, "val": split.val, "loss": loss, "optimizer": optimizer}
    return {**parts, "batch_size": 32, "epochs": 12, "shuffle": True, **job}


def clouds(seed: int, **job: Any) -> Setup:
    """Five classes of a table, ReLU, SGD."""
    with weights_from(seed):
        model = networks.mlp(10, 48, 32, 5)
    return of(tables.clouds(seed), model, nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.1}, **job)


def rings(seed: int, **job: Any) -> Setup:
    """Two classes in the plane, tanh, Adam, one logit."""
    with weights_from(seed):
        model = networks.mlp(2, 24, 24, 1, activation=nn.Tanh)
    return of(tables.rings(seed), model, nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 0.01}, **job)


def waves(seed: int, **job: Any) -> Setup:
    """A smooth law, GELU, AdamW."""
    with weights_from(seed):
        model = networks.mlp(5, 48, 48, 1, activation=nn.GELU)
    return of(
        tables.waves(seed), model, nn.MSELoss(), {"name": "adamw", "lr": 0.01, "weight_decay": 0.0}, **{"epochs": 20, **job}
    )


def stripes(seed: int, **job: Any) -> Setup:
    """Directions of stripes, plain convolutions, SGD with momentum."""
    with weights_from(seed):
        model = networks.cnn(4)
    settings = {"name": "sgd", "lr": 0.02, "momentum": 0.9}
    return of(drawings.stripes(seed), model, nn.CrossEntropyLoss(), settings, **{"epochs": 10, **job})


def shapes(seed: int, **job: Any) -> Setup:
    """Kinds of shapes, convolutions with batch norm, Adam."""
    with weights_from(seed):
        model = networks.cnn(3, norm=nn.BatchNorm2d)
    return of(drawings.shapes(seed), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, **{"epochs": 8, **job})


def recalls(seed: int, *, length: int = 20, **job: Any) -> Setup:
    """The first signal of a sequence, GRU, Adam."""
    with weights_from(seed):
        model = networks.Reader(4, 4)
    return of(series.recalls(seed, length=length), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, **job)


def sums(seed: int, **job: Any) -> Setup:
    """The sum of marked numbers, LSTM, Adam."""
    with weights_from(seed):
        model = networks.Reader(2, 1, cell="lstm")
    return of(series.sums(seed), model, nn.MSELoss(), {"name": "adam", "lr": 0.01}, **{"epochs": 15, **job})


def motifs(seed: int, **job: Any) -> Setup:
    """A pair of tokens anywhere, embedding and GRU, Adam."""
    with weights_from(seed):
        model = networks.TextReader(8, 2)
    return of(
        series.motifs(seed), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, **{"epochs": 10, "batch_size": 64, **job}
    )


def entropy_of_places(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over every place of a sequence."""
    return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def mirrors(seed: int, *, num_layers: int = 1, **job: Any) -> Setup:
    """Tokens from last to first, transformer, Adam."""
    with weights_from(seed):
        model = networks.Tagger(6, 8, 6, num_layers=num_layers)
    return of(series.mirrors(seed), model, entropy_of_places, {"name": "adam", "lr": 0.005}, **job)


def entropy_of_column(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of ids that are stored as a column of any type."""
    return nn.functional.cross_entropy(outputs, targets.flatten().long())


def majorities(seed: int, **job: Any) -> Setup:
    """The most frequent token, transformer, AdamW."""
    with weights_from(seed):
        model = networks.Attender(4, 12, 4, width=16)
    settings = {"name": "adamw", "lr": 0.003}
    return of(series.majorities(seed), model, nn.CrossEntropyLoss(), settings, **{"epochs": 10, **job})


def starting(setup: Setup, draw_: Any, *, biases: float | None = None) -> Setup:
    """The setup with other first weights."""
    with weights_from(3):
        networks.start_all(setup["model"], draw_, biases=biases)
    return setup
