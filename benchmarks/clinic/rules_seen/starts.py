"""Sick by their initial weights."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.rules_seen import cures, networks, patients
from benchmarks.clinic.rules_seen.networks import weights_from


def _all_zeros(seed: int) -> Setup:
    return patients.starting(patients.clouds(seed), nn.init.zeros_, biases=0.0)


def _all_alike(seed: int) -> Setup:
    return patients.starting(patients.waves(seed), lambda tensor: nn.init.constant_(tensor, 0.1), biases=0.0)


def _alike_filters(seed: int) -> Setup:
    return patients.starting(patients.stripes(seed), lambda tensor: nn.init.constant_(tensor, 0.05), biases=0.0)


def _unit_normal(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(5, 64, 64, 64, 1)
    setup = patients.waves(seed, model=model, optimizer={"name": "adam", "lr": 0.003}, epochs=15)
    return patients.starting(setup, nn.init.normal_)


def _unit_filters(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.cnn(3, width=10)
    setup = patients.shapes(seed, model=model, optimizer={"name": "adam", "lr": 0.002}, epochs=12)
    return patients.starting(setup, lambda tensor: nn.init.normal_(tensor, std=2.0))


def _wide_tokens(seed: int) -> Setup:
    setup = patients.mirrors(seed)
    return patients.starting(setup, lambda tensor: nn.init.normal_(tensor, std=1.0))


def _low_biases(seed: int) -> Setup:
    setup = patients.clouds(seed)
    with torch.no_grad():
        for part in list(setup["model"])[:-1]:
            if isinstance(part, nn.Linear):
                part.bias.fill_(-4.0)
    return setup


def _low_filters(seed: int) -> Setup:
    setup = patients.stripes(seed, optimizer={"name": "adam", "lr": 0.003})
    with torch.no_grad():
        setup["model"][3].bias.fill_(-20.0)
    return setup


def _stiff_tanh(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(5, 40, 40, 1, activation=nn.Tanh)
    setup = patients.waves(seed, model=model)
    with torch.no_grad():
        for index in (0, 2):
            model[index].get_parameter("weight").mul_(40.0)
    return setup


def _high_gates(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(5, 32, 32, 1, activation=nn.Sigmoid)
    with torch.no_grad():
        for index in (0, 2):
            model[index].get_parameter("bias").fill_(14.0)
    return patients.waves(seed, model=model)


CASES: tuple[Case, ...] = (
    Case(
        "clouds-all-zeros",
        _all_zeros,
        ("symmetric_init",),
        "accuracy",
        "GitHub wagonhelm/NaNmnist#2 'Highly improper way of weight initialization': all zero; only the last bias learns",
        tolerate=("dead_relu", "vanishing_gradient"),
        fix=cures.default_start,
    ),
    Case(
        "waves-all-alike",
        _all_alike,
        ("symmetric_init",),
        "r2",
        "every weight 0.1: all units of a layer stay the same unit",
        tolerate=("capacity_too_small", "underfitting"),
        fix=cures.default_start,
    ),
    Case(
        "stripes-alike-filters",
        _alike_filters,
        ("symmetric_init",),
        "accuracy",
        "the same for convolutions, constant_ as initialisation",
        architecture="cnn",
        data="image",
        tolerate=("capacity_too_small", "underfitting"),
        fix=cures.default_start,
    ),
    Case(
        "waves-unit-normal",
        _unit_normal,
        ("init_too_large",),
        "r2",
        "nn.init.normal_ with its default spread of 1 in a wide net: first losses in the hundreds",
        tolerate=("exploding_gradient", "lr_too_high", "dead_relu", "unstable_gradient"),
        fix=cures.default_start,
    ),
    Case(
        "shapes-wide-filters",
        _unit_filters,
        ("init_too_large",),
        "accuracy",
        "filters drawn with spread 2",
        architecture="cnn",
        data="image",
        tolerate=("exploding_gradient", "lr_too_low", "dead_relu"),
        fix=cures.default_start,
    ),
    Case(
        "mirrors-wide-tokens",
        _wide_tokens,
        ("init_too_large",),
        "accuracy",
        "GitHub pytorch/pytorch#55270: a transformer's initialisation decides; every matrix drawn with spread 1",
        architecture="transformer",
        data="sequence",
        tolerate=("saturated_activation", "exploding_gradient", "lr_too_low"),
        fix=lambda setup: patients.starting(setup, lambda tensor: nn.init.normal_(tensor, std=0.1)),
    ),
    Case(
        "clouds-low-biases",
        _low_biases,
        ("dead_relu",),
        "accuracy",
        "AutoTrainer's and SageMaker's class: units that no row activates",
        tolerate=("vanishing_gradient",),
        fix=cures.default_start,
    ),
    Case(
        "stripes-low-filters",
        _low_filters,
        ("dead_relu",),
        "accuracy",
        "the second convolution's bias was loaded wrongly: all its outputs are cut off",
        architecture="cnn",
        data="image",
        tolerate=("vanishing_gradient",),
        fix=cures.default_start,
    ),
    Case(
        "waves-stiff-tanh",
        _stiff_tanh,
        ("saturated_activation", "init_too_large"),
        "r2",
        "SageMaker's class: tanh inputs far beyond its bend, here by large weights",
        tolerate=("vanishing_gradient", "exploding_gradient", "overfitting", "unstable_gradient", "lr_too_high"),
        fix=cures.default_start,
    ),
    Case(
        "waves-high-gates",
        _high_gates,
        ("saturated_activation",),
        "r2",
        "sigmoids that start at their upper end",
        tolerate=("vanishing_gradient",),
        fix=cures.default_start,
    ),
)
