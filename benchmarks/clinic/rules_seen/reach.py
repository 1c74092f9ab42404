"""Sick by what the optimizer or the gradient doesn't reach."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.rules_seen import cures, networks, patients
from benchmarks.clinic.rules_seen.networks import weights_from


def _frozen_body(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(10, 8, 8, 5)
    model[:4].requires_grad_(False)
    return patients.clouds(seed, model=model)


def _frozen_filters(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.cnn(3, width=2, norm=nn.BatchNorm2d)
    model[:8].requires_grad_(False)
    return patients.shapes(seed, model=model)


def _frozen_reader(seed: int) -> Setup:
    setup = patients.sums(seed)
    setup["model"].body.requires_grad_(False)
    return setup


def _held(setup: Setup, params: list[Tensor]) -> Setup:
    return {**setup, "optimizer": {**setup["optimizer"], "params": params}}


def _former_model(seed: int) -> Setup:
    setup = patients.waves(seed)
    return _held(setup, list(copy.deepcopy(setup["model"]).parameters()))


def _head_only(seed: int) -> Setup:
    setup = patients.mirrors(seed)
    return _held(setup, list(setup["model"].head.parameters()))


def _biases_only(seed: int) -> Setup:
    setup = patients.stripes(seed)
    return _held(setup, [tensor for name, tensor in setup["model"].named_parameters() if "bias" in name])


CASES: tuple[Case, ...] = (
    Case(
        "clouds-frozen-body",
        _frozen_body,
        ("frozen_params",),
        "accuracy",
        "GitHub OrderLab/TrainCheck's forum case 84911: layers frozen by mistake; narrow hidden layers stay random",
        tolerate=("underfitting", "capacity_too_small"),
        fix=cures.all_parameters,
    ),
    Case(
        "shapes-frozen-filters",
        _frozen_filters,
        ("frozen_params",),
        "accuracy",
        "a backbone was frozen that had never been trained",
        architecture="cnn",
        data="image",
        tolerate=("underfitting", "capacity_too_small"),
        fix=cures.all_parameters,
    ),
    Case(
        "sums-frozen-reader",
        _frozen_reader,
        ("frozen_params",),
        "r2",
        "requires_grad_(False) on the recurrent layer was left over from another experiment",
        architecture="rnn",
        data="sequence",
        tolerate=("underfitting",),
        fix=cures.all_parameters,
    ),
    Case(
        "waves-former-model",
        _former_model,
        ("params_not_in_optimizer",),
        "r2",
        "GitHub microsoft/nni#4521 and pytorch/pytorch#14467: the model was rebuilt after the optimizer",
        fix=cures.all_parameters,
    ),
    Case(
        "mirrors-head-only",
        _head_only,
        ("params_not_in_optimizer",),
        "accuracy",
        "the optimizer was given the head's parameters; the encoder is new as well",
        architecture="transformer",
        data="sequence",
        tolerate=("underfitting",),
        fix=cures.all_parameters,
    ),
    Case(
        "stripes-biases-only",
        _biases_only,
        ("params_not_in_optimizer",),
        "accuracy",
        "two groups with and without decay were meant, and one of them was forgotten",
        architecture="cnn",
        data="image",
        tolerate=("underfitting", "lr_too_low"),
        fix=cures.all_parameters,
    ),
)
