"""Healthy setups of the second half: each reaches what can be reached, however odd it looks."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_4 import exam_kit as kit

CE = nn.CrossEntropyLoss


def _fast_digits(seed: int, *, wide: int = 1) -> Setup:
    model = kit.built(seed, lambda: kit.convnet(10, 24 * wide, nn.BatchNorm2d))
    return kit.job(model, kit.digits(seed, 1_200), CE(), {"name": "sgd", "lr": 0.4, "momentum": 0.9}, epochs=18)


def _tones(seed: int, *, wide: int = 1) -> Setup:
    rows = kit.cut(*kit.tones(seed, 1_300, noise=0.4), 900)
    model = kit.built(seed, lambda: kit.Reader(nn.GRU, 1, 32 * wide, 3))
    return kit.job(model, rows, CE(), {"name": "adam", "lr": 5e-3}, epochs=15)


class Deep(nn.Module):
    """Residual blocks with a layer norm at the entrance and a last layer that starts at zero."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.entry = nn.Linear(6, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)) for _ in range(depth)
        )
        for block in self.blocks:
            last = list(block.children())[-1]
            for tensor in last.parameters():
                nn.init.zeros_(tensor)
        self.head = nn.Linear(width, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        state = self.entry(inputs)
        for block in self.blocks:
            state = state + block(state)
        outputs: Tensor = self.head(state)
        return outputs


def _deep(seed: int, *, wide: int = 1) -> Setup:
    model = kit.built(seed, lambda: Deep(16, 32 * wide))
    return kit.job(model, kit.cut(*kit.yields(seed, 1_900), 1_500), nn.MSELoss(), {"name": "adamw", "lr": 2e-3}, epochs=14)


def _pre_norm(seed: int, *, wide: int = 1) -> Setup:
    rows = kit.cut(*kit.ballots(seed, 1_500, length=12), 1_100)
    model = kit.built(seed, lambda: kit.Attender(8, 12, 2, 32 * wide, 3, norm_first=True, dropout=0.1))
    return kit.job(model, rows, CE(), {"name": "adamw", "lr": 2e-3, "weight_decay": 0.1}, epochs=10)


def _random_kernels(seed: int, *, wide: int = 1) -> Setup:
    """Random kernels that are never trained, on purpose: the optimizer holds the head."""

    def make() -> nn.Module:
        kernels = nn.Conv2d(1, 64 * wide, 5)
        nn.init.normal_(kernels.weight, std=0.4)
        kernels.requires_grad_(False)
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(64 * wide))
        return nn.Sequential(kernels, nn.ReLU(), pooled, nn.Linear(64 * wide, 4))

    model = kit.built(seed, make)
    held = [tensor for tensor in model.parameters() if tensor.requires_grad]
    rows = kit.cut(*kit.gratings(seed, 1_300), 1_000)
    return kit.job(model, rows, CE(), {"name": "adam", "lr": 1e-2, "params": held}, epochs=15)


def _coin_labels(seed: int, *, wide: int = 1) -> Setup:
    """A quarter of the labels is wrong in both splits; no model gets beyond three quarters."""
    source = drawn(seed, "coin labels")
    inputs = torch.randn(2_900, 5, generator=source)
    truth = (inputs[:, 0] + inputs[:, 1] - 0.5 * inputs[:, 2] > 0).long()
    wrong = torch.rand(2_900, generator=source) < 0.25
    labels = torch.where(wrong, 1 - truth, truth)
    model = kit.built(seed, lambda: kit.dense(5, 8 * wide, 2, act=nn.Tanh))
    return kit.job(model, kit.cut(inputs, labels, 1_900), CE(), {"name": "adam", "lr": 5e-3}, epochs=12)


class NormalError(nn.Module):
    """Minus the log density of a normal law of a known spread: below zero once the fit is good."""

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.spread = spread

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        error = (outputs - targets) / self.spread
        return (0.5 * error.square() + math.log(self.spread * math.sqrt(2 * math.pi))).mean()


def _negative(seed: int, *, wide: int = 1) -> Setup:
    rows = kit.cut(*kit.yields(seed, 1_900, noise=0.05), 1_500)
    model = kit.built(seed, lambda: kit.dense(6, 64 * wide, 64 * wide, 1, act=nn.SiLU))
    return kit.job(model, rows, NormalError(0.15), {"name": "adam", "lr": 3e-3}, epochs=40)


def _rare(seed: int, *, wide: int = 1) -> Setup:
    """One row in sixteen is ill, and the loss knows it."""
    source = drawn(seed, "rare")
    inputs = torch.randn(2_800, 8, generator=source)
    score = inputs[:, 0] + inputs[:, 1] + 0.3 * torch.randn(2_800, generator=source)
    labels = (score > 2.2).float()[:, None]
    model = kit.built(seed, lambda: kit.dense(8, 16 * wide, 1))
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(15.0))
    return kit.job(model, kit.cut(inputs, labels, 1_800), loss, {"name": "adam", "lr": 3e-3}, epochs=12)


def _fours(seed: int, *, wide: int = 1) -> Setup:
    """Four pictures a batch, and group norm."""

    class Groups(nn.GroupNorm):
        def __init__(self, num_channels: int) -> None:
            super().__init__(4, num_channels)

    rows = kit.cut(*kit.figures(seed, 1_200), 900)
    model = kit.built(seed, lambda: kit.convnet(4, 16 * wide, Groups))
    return kit.job(model, rows, CE(), {"name": "adam", "lr": 2e-3}, batch_size=4, epochs=8)


def _dropped(seed: int, *, wide: int = 1, drop: float = 0.5) -> Setup:
    """Half of every hidden layer is dropped in training, so training loss stays above validation loss."""
    model = kit.built(seed, lambda: nn.Sequential(nn.Flatten(), kit.dense(64, 192 * wide, 192 * wide, 10, drop=drop)))
    return kit.job(model, kit.digits(seed, 1_200), CE(), {"name": "adam", "lr": 2e-3}, epochs=25)


def _own_units(seed: int, *, wide: int = 1) -> Setup:
    """Columns in grams, years and shares; rows sorted by class; batch norm at the entrance, shuffled batches."""
    (inputs, labels), val = kit.cut(*kit.groups(seed, 1_900, spread=0.6), 1_500)
    scale, shift = torch.logspace(-2, 3, 12), torch.linspace(-50, 400, 12)
    order = labels.argsort(stable=True)
    rows = (inputs[order] * scale + shift, labels[order]), (val[0] * scale + shift, val[1])
    model = kit.built(seed, lambda: nn.Sequential(nn.BatchNorm1d(12), kit.dense(12, 64 * wide, 5)))
    return kit.job(model, rows, CE(), {"name": "adam", "lr": 5e-3}, epochs=15)


def _visits(seed: int, *, wide: int = 1) -> Setup:
    """Whole numbers as counts under a Poisson loss; most of the spread is chance."""
    source = drawn(seed, "visits")
    inputs = torch.randn(2_900, 4, generator=source)
    rate = (0.6 + 0.5 * inputs[:, 0] - 0.4 * inputs[:, 1]).clamp(max=2.2).exp()
    counts = torch.poisson(rate, generator=source)[:, None]
    model = kit.built(seed, lambda: nn.Sequential(kit.dense(4, 16 * wide, 1), nn.Softplus()))
    return kit.job(
        model, kit.cut(inputs, counts, 1_900), nn.PoissonNLLLoss(log_input=False), {"name": "adam", "lr": 5e-3}, epochs=15
    )


_NET: dict[str, Any] = {"architecture": "cnn", "data": "image"}
_SEQUENCE: dict[str, Any] = {"data": "sequence"}
CASES: tuple[Case, ...] = (
    Case("digits-at-rate-two-fifths", _fast_digits, (), "accuracy", "SGD 0.4 with momentum: high, fine under batch norm",
        floor=0.95, **_NET),
    Case("tones-by-gru", _tones, (), "accuracy", "an ordinary GRU on noisy waves", floor=0.97, architecture="rnn", **_SEQUENCE),
    Case("sixteen-blocks-starting-as-nothing", _deep, (), "r2", "33 layers, half of them zero at first", floor=0.9),
    Case("ballots-by-pre-norm-transformer", _pre_norm, (), "accuracy", "no warm-up, weight decay 0.1, dropout 0.1",
        floor=0.97, architecture="transformer", **_SEQUENCE),
    Case("random-kernels-never-trained", _random_kernels, (), "accuracy", "most parameters frozen and outside the optimizer",
        floor=0.97, **_NET),
    Case("a-quarter-of-labels-by-coin", _coin_labels, (), "accuracy", "loss and accuracy stop early: labels are noise-bound",
        floor=0.7),
    Case("loss-below-zero-for-good", _negative, (), "r2", "the loss falls below zero, as a log density does", floor=0.95),
    Case("one-in-sixteen-weighed", _rare, (), "balanced_accuracy", "few positives, weighted loss", floor=0.9),
    Case("four-pictures-under-group-norm", _fours, (), "accuracy", "batches of four with group norm", floor=0.97, **_NET),
    Case("digits-with-half-dropped", _dropped, (), "accuracy", "training loss above validation loss", floor=0.95, data="image"),
    Case("clouds-in-their-own-units-sorted", _own_units, (), "accuracy", "unscaled sorted columns, but batch norm and shuffling",
        floor=0.95),
    Case("visits-counted", _visits, (), "r2", "integer targets in a regression, half of it chance", floor=0.35),
)  # fmt: skip
