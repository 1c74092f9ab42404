"""Trading volume of the New York Stock Exchange, forecast from the five days before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import real_data
from benchmarks.evidence import Finding
from benchmarks.targets.fitting import outputs, trained

LAGS = 5
FEATURES = ["DJ_return", "log_volume", "log_volatility"]
RECIPE = {
    "objective": "mse",
    "optimizer": {"name": "adamw", "lr": 5e-3, "weight_decay": 0.01},
    "schedule": "one_cycle",
    "techniques": [{"name": "clip_norm", "max_norm": 1.0}],
    "batch_size": 64,
}
PROTOCOL = (
    "ISLR2 section 10.9.6: 5 lags of return, log volume and log volatility, standardised on the training days; 12 plain "
    "recurrent units; the book's split (4,281 training days, 1,770 test days); R2 on the test days."
)


@dataclass(frozen=True)
class Windows:
    """Five days each, (N, 5, features), and the volume that followed, (N,)."""

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Parts:
    """Windows whose following day is a training day, and those whose is a test day."""

    train: Windows
    test: Windows


def windows(days: Any, *, day_of_week: bool) -> Parts:
    """Cut the days into windows.

    Args:
        days: a frame with FEATURES, `day_of_week` and `train`, in order of time.
        day_of_week: whether each step also says which weekday the *next* day is: known in advance, so no leak.
    """
    train = days["train"].to_numpy(bool)
    values = days[FEATURES].to_numpy(float)
    values = ((values - values[train].mean(0)) / values[train].std(0)).astype(np.float32)
    following = np.arange(LAGS, len(days))
    steps = [values[following - lag] for lag in range(LAGS, 0, -1)]
    if day_of_week:
        names = sorted(set(days["day_of_week"]))
        weekday = (days["day_of_week"].to_numpy()[:, None] == np.array(names)).astype(np.float32)
        steps = [np.concatenate([step, weekday[following - lag + 1]], 1) for step, lag in zip(steps, range(LAGS, 0, -1))]
    inputs, targets = torch.tensor(np.stack(steps, 1)), torch.tensor(values[following, FEATURES.index("log_volume")])
    chosen = torch.tensor(train[following])
    return Parts(Windows(inputs[chosen], targets[chosen]), Windows(inputs[~chosen], targets[~chosen]))


def r2(predicted: Tensor, targets: Tensor) -> float:
    """1 - squared errors / squared distances from the targets' own mean, both (N,)."""
    return float(1 - (predicted - targets).square().sum() / (targets - targets.mean()).square().sum())


def _measure(seeds: Sequence[int], *, day_of_week: bool) -> list[float]:
    from stepwell.core.signature import Signature
    from stepwell.models.registry import build

    parts = windows(real_data.nyse(), day_of_week=day_of_week)
    signature = Signature("series", tuple(parts.train.inputs.shape[1:]), 1)
    values = []
    for seed in seeds:
        model = build("recurrent", signature, {"cell": "rnn", "num_units": 12, "dropout": 0.1}, seed=seed)
        data = (parts.train.inputs, parts.train.targets)
        model = trained(model, data, recipe=RECIPE, budget="30 epochs", seed=seed)
        values.append(r2(outputs(model, parts.test.inputs).squeeze(1), parts.test.targets))
    return values


def nyse(seeds: Sequence[int]) -> Finding:
    """Published: 0.42 for this network, 0.41 for a linear autoregression."""
    return Finding("NYSE log volume, test R2", _measure(seeds, day_of_week=False), "at least", 0.405, PROTOCOL)


def nyse_day_of_week(seeds: Sequence[int]) -> Finding:
    """Published: 0.46 for a linear autoregression with the day of week."""
    values = _measure(seeds, day_of_week=True)
    return Finding(
        "NYSE log volume with day of week, test R2", values, "at least", 0.45, PROTOCOL + " Each step says the next weekday."
    )
