"""Small setups that tests of the probes make sick."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Suspicion
from stepwell.doctor.setup import setup_of

Pair = tuple[Tensor, Tensor]


def said(name: str, bench: Bench) -> list[Suspicion]:
    """What a probe takes for possible."""
    return list(importlib.import_module(f"stepwell.doctor.probes.{name}").probe(bench))


def ids(name: str, bench: Bench) -> list[str]:
    return [item.id for item in said(name, bench)]


def bench_of(model: nn.Module, train: Any, val: Any = None, **changes: Any) -> Bench:
    """Cross-entropy, SGD, batches of 32 and 5 epochs unless told otherwise."""
    given = {
        "loss": nn.CrossEntropyLoss(),
        "optimizer": {"name": "sgd", "lr": 0.1},
        "batch_size": 32,
        "epochs": 5,
        "shuffle": True,
    }
    return Bench(setup_of(model, train, val, **{**given, **changes}))


def mlp(*sizes: int, first: nn.Module | None = None) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = [] if first is None else [first]
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def signs(num_rows: int = 200, *, seed: int = 0, num_features: int = 4) -> Pair:
    """The sign of the first column, as class 0 or 1."""
    inputs = noise(num_rows, num_features, seed=seed)
    return inputs, (inputs[:, 0] > 0).long()


def law(num_rows: int = 200, *, seed: int = 0) -> Pair:
    """A linear law of the first two of four columns, targets (num_rows, 1) of spread 1."""
    inputs = noise(num_rows, 4, seed=seed)
    return inputs, (0.8 * inputs[:, :1] - 0.6 * inputs[:, 1:2])
