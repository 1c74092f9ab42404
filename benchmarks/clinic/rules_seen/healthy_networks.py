"""Healthy images and sequences that look odd."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.rules_seen import cures, drawings, networks, patients, tables
from benchmarks.clinic.rules_seen.networks import weights_from


def _stripes(seed: int) -> Setup:
    return patients.stripes(seed)


def _shapes(seed: int) -> Setup:
    return patients.shapes(seed)


def _groups_of_four(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.cnn(3, norm=lambda width: nn.GroupNorm(4, width))
    split = drawings.shapes(seed, num_train=300)
    settings = {"name": "adam", "lr": 0.003}
    return patients.of(split, model, nn.CrossEntropyLoss(), settings, batch_size=4, epochs=5)


def _small_batches(seed: int) -> Setup:
    settings = {"name": "sgd", "lr": 0.01, "momentum": 0.5}
    return patients.stripes(seed, batch_size=3, epochs=3, optimizer=settings)


def _dropping(seed: int) -> Setup:
    with weights_from(seed):
        body = networks.cnn(32, width=12)
        model = nn.Sequential(body, nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 4))
    return patients.stripes(seed, model=model, optimizer={"name": "adam", "lr": 0.005})


def _bytes_before_norm(seed: int) -> Setup:
    split = tables.with_inputs(drawings.stripes(seed), 50.0, 128.0)
    with weights_from(seed):
        model = nn.Sequential(nn.BatchNorm2d(1), *networks.cnn(4))
    setup = patients.stripes(seed, model=model)
    return {**setup, "train": split.train, "val": split.val}


class _ZeroBranch(nn.Module):
    """A residual branch whose last norm starts with gain zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm.weight)

    def forward(self, images: Tensor) -> Tensor:
        change: Tensor = self.norm(self.first(images)).relu()
        return images + change


def _zero_branches(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.cnn(3, norm=nn.BatchNorm2d)
        model.insert(4, nn.Sequential(*[_ZeroBranch(8) for _ in range(3)]))
    return patients.shapes(seed, model=model)


def _fixed_filters(seed: int) -> Setup:
    """Filters that were set by hand and stay; the optimizer holds the head only."""
    angles = [math.pi * step / 8 for step in range(8)]
    steps = torch.arange(5.0) - 2
    waves = [(1.3 * (math.cos(a) * steps[None, :] + math.sin(a) * steps[:, None])) for a in angles]
    bank = torch.stack([wave.cos() for wave in waves] + [wave.sin() for wave in waves]).unsqueeze(1) / 5
    with weights_from(seed):
        filters = nn.Conv2d(1, 16, 5, padding=2)
        head = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 4))
    filters.weight = nn.Parameter(bank, requires_grad=False)
    filters.requires_grad_(False)
    settings: dict[str, Any] = {"name": "adam", "lr": 0.02, "params": list(head.parameters())}
    return patients.stripes(seed, model=nn.Sequential(filters, head), optimizer=settings)


def _noisy_spots(seed: int) -> Setup:
    """A third of the targets' variance is noise; strong decay keeps the net from learning it."""
    split = drawings.spots(seed, num_train=600)
    random = drawn(seed, "noisy spots")

    def blur(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return inputs, targets + 0.7 * torch.randn(targets.shape, generator=random)

    with weights_from(seed):
        model = networks.cnn(1)
    settings = {"name": "adamw", "lr": 0.003, "weight_decay": 0.5}
    return cures.everywhere(blur)(patients.of(split, model, nn.MSELoss(), settings, epochs=12))


CASES: tuple[Case, ...] = (
    Case("ok-stripes", _stripes, (), "accuracy", "nothing odd: plain convolutions", architecture="cnn", data="image", floor=0.95),
    Case("ok-shapes", _shapes, (), "accuracy", "nothing odd: batch norm", architecture="cnn", data="image", floor=0.9),
    Case(
        "ok-groups-of-four",
        _groups_of_four,
        (),
        "accuracy",
        "batches of four with group norm",
        architecture="cnn",
        data="image",
        floor=0.9,
    ),
    Case(
        "ok-batches-of-three",
        _small_batches,
        (),
        "accuracy",
        "batches of three, no norm, a rate that fits",
        architecture="cnn",
        data="image",
        floor=0.93,
    ),
    Case(
        "ok-dropout-half",
        _dropping,
        (),
        "accuracy",
        "training loss lies above validation loss",
        architecture="cnn",
        data="image",
        floor=0.95,
    ),
    Case(
        "ok-bytes-before-norm",
        _bytes_before_norm,
        (),
        "accuracy",
        "images in 0..255, but batch norm comes first",
        architecture="cnn",
        data="image",
        floor=0.95,
    ),
    Case(
        "ok-zero-branches",
        _zero_branches,
        (),
        "accuracy",
        "branches that give zero at first",
        architecture="cnn",
        data="image",
        floor=0.9,
    ),
    Case(
        "ok-fixed-filters",
        _fixed_filters,
        (),
        "accuracy",
        "a frozen bank of filters that suffices; the optimizer holds the head only",
        architecture="cnn",
        data="image",
        floor=0.95,
    ),
    Case(
        "ok-noisy-spots",
        _noisy_spots,
        (),
        "r2",
        "a third of the variance is noise, strong decay",
        architecture="cnn",
        data="image",
        floor=0.45,
    ),
)
