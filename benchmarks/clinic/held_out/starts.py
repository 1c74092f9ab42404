"""Patients whose weights start badly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.held_out import images, sequences, tables
from benchmarks.clinic.held_out.kit import made, mended, parted
from benchmarks.clinic.held_out.models import TokenReader, convnet, stacked


def refreshed(model: Any) -> None:
    """Default starts for every layer that has one."""
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


def filled(build: Callable[[], nn.Module], value: float) -> Callable[[], nn.Module]:
    """A model all of whose weights start at one value."""

    def model() -> nn.Module:
        net = build()
        for weight in net.parameters():
            nn.init.constant_(weight, value)
        return net

    return model


def spread(build: Callable[[], nn.Module], deviation: float) -> Callable[[], nn.Module]:
    """A model whose matrices start as noise of one deviation."""

    def model() -> nn.Module:
        net = build()
        for weight in net.parameters():
            if weight.dim() > 1:
                weight.data = deviation * torch.randn_like(weight)
        return net

    return model


def all_alike(seed: int) -> Setup:
    data = parted(tables.pinwheel(seed), 900)
    net = filled(lambda: stacked([2, 48, 48, 4], nn.Tanh), 0.05)
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=25)


def gates_alike(seed: int) -> Setup:
    def model() -> nn.Module:
        net = TokenReader(5, 5, hidden=24)
        for name, weight in net.named_parameters():
            if "table" not in name:
                nn.init.constant_(weight, 0.1)
        return net

    data = parted(sequences.first_word(seed, words=5, length=7), 700)
    return made(seed, model, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=12)


def all_nothing(seed: int) -> Setup:
    """Every weight starts at zero; only the last bias ever moves."""
    data = parted(images.strokes(seed), 600)
    net = filled(lambda: convnet(1, 5, flat=96), 0.0)
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 3e-3}, epochs=10)


def normal_weights(seed: int) -> Setup:
    data = parted(tables.pinwheel(seed), 900)
    net = spread(lambda: stacked([2, 96, 96, 96, 4]), 2.0)
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 2e-3}, epochs=12)


def normal_kernels(seed: int) -> Setup:
    data = parted(images.lamps(seed), 600)
    net = spread(lambda: convnet(1, 2, widths=(12, 12), flat=108), 1.0)
    return made(seed, net, data, nn.SmoothL1Loss(), {"name": "adam", "lr": 2e-3}, epochs=12)


def sunk_biases(seed: int) -> Setup:
    def model() -> nn.Module:
        net = stacked([16, 64, 64, 6])
        nn.init.constant_(net[2].bias, -4.0)
        return net

    data = parted(tables.clusters(seed, classes=6), 900)
    return made(seed, model, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 2e-3}, epochs=12)


def _level(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)


def negative_kernels(seed: int) -> Setup:
    """All second kernels start negative, over features that are never negative."""

    def model() -> nn.Module:
        net = convnet(1, 3, widths=(8, 16))
        net[3].weight.data.abs_().neg_()
        nn.init.constant_(net[3].bias, -0.1)
        return net

    return made(
        seed,
        model,
        parted(images.hollows(seed), 600),
        nn.CrossEntropyLoss(),
        {"name": "sgd", "lr": 0.1, "momentum": 0.9},
        epochs=15,
    )


class Steep(nn.Module):
    """Tanh units with a steepness that one may set."""

    def __init__(self, steepness: float) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 48), nn.Linear(48, 48), nn.Linear(48, 1)
        self.steepness = steepness

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.steepness * self.first(x))
        return self.head(torch.tanh(self.steepness * self.second(hidden)))


def steep_units(seed: int) -> Setup:
    data = parted(tables.reaction(seed), 700)
    return made(seed, lambda: Steep(60.0), data, nn.MSELoss(), {"name": "sgd", "lr": 0.02, "momentum": 0.9}, epochs=20)


def _gentle(model: Any) -> None:
    model.steepness = 1.0


def shut_gates(seed: int) -> Setup:
    """Sigmoids whose biases start far out: every unit sits at its upper rail."""

    def model() -> nn.Module:
        net = stacked([2, 48, 48, 4], nn.Sigmoid)
        nn.init.constant_(net[0].bias, 14.0)
        nn.init.constant_(net[2].bias, 14.0)
        return net

    data = parted(tables.pinwheel(seed, turns=0.4), 900)
    return made(seed, model, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.02}, epochs=25)


CASES: tuple[Case, ...] = (
    Case(
        "wheel-all-alike", all_alike, ("symmetric_init",), "accuracy",
        "wagonhelm/NaNmnist#2: all weights start alike, so all units learn the same",
        tolerate=("underfitting", "capacity_too_small"), fix=mended(refreshed),
    ),
    Case(
        "gates-all-alike", gates_alike, ("symmetric_init",), "accuracy",
        "d2l-ai/d2l-vi#1127, a translation of the textbook on constants as starts",
        architecture="rnn", data="sequence", tolerate=("underfitting", "capacity_too_small", "saturated_activation"),
        fix=mended(refreshed),
    ),
    Case(
        "strokes-from-nothing", all_nothing, ("symmetric_init", "dead_relu"), "accuracy",
        "yz93/LAVT-RIS#25: two zero starts in a row, no gradient passes",
        architecture="cnn", data="image", tolerate=("vanishing_gradient",), fix=mended(refreshed),
    ),
    Case(
        "wheel-normal-weights", normal_weights, ("init_too_large",), "accuracy",
        "pytorch-tpu/transformers#26: parameters from randn are too large, unstable loss",
        tolerate=("exploding_gradient", "lr_too_high", "unstable_gradient"), fix=mended(refreshed),
    ),
    Case(
        "lamps-normal-kernels", normal_kernels, ("init_too_large",), "r2",
        "hasktorch/hasktorch#210: everything starts as standard normals; not a good choice",
        architecture="cnn", data="image", tolerate=("exploding_gradient", "unscaled_targets"), fix=mended(refreshed),
    ),
    Case(
        "biases-sunk", sunk_biases, ("dead_relu",), "accuracy",
        "stats.stackexchange.com 450100: units that are below zero for all rows never recover",
        tolerate=("vanishing_gradient",), fix=mended(_level),
    ),
    Case(
        "kernels-all-negative", negative_kernels, ("dead_relu",), "accuracy",
        "stats.stackexchange.com 450100, on pictures: negative weights over features that are never negative",
        architecture="cnn", data="image", tolerate=("vanishing_gradient",), fix=mended(refreshed),
    ),
    Case(
        "units-too-steep", steep_units, ("saturated_activation",), "r2",
        "mukul-rathi/deep-learning-tutorials#2: saturated tanh units, gradients gone; here by a steepness in forward",
        tolerate=("vanishing_gradient", "exploding_gradient", "lr_too_high", "init_too_large"), fix=mended(_gentle),
    ),
    Case(
        "gates-shut", shut_gates, ("saturated_activation",), "accuracy",
        "guevara/read-it-later#5492, course notes: sigmoids at their rails pass no gradient",
        tolerate=("vanishing_gradient", "init_too_large"), fix=mended(_level),
    ),
)  # fmt: skip
