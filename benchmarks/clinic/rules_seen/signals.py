"""Sick by their initial weights or by signals that die, saturate or explode on their way."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.rules_seen import cures, networks, patients, series, tables
from benchmarks.clinic.rules_seen.networks import weights_from


def _sigmoids(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(10, 32, 32, 32, 32, 32, 32, 5, activation=nn.Sigmoid)
    return patients.of(tables.clouds(seed), model, nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.1}, epochs=15)


def _rectified(setup: Setup) -> Setup:
    with weights_from(6):
        model = networks.mlp(10, 32, 32, 32, 32, 32, 32, 5)
        networks.start_all(model, lambda tensor: nn.init.kaiming_normal_(tensor, nonlinearity="relu"), biases=0.0)
    return {**setup, "model": model}


def _long_memory(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.Reader(4, 4, cell="rnn")
    setup = patients.recalls(seed, length=8, model=model, optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9}, epochs=15)
    return patients.starting(setup, lambda tensor: nn.init.normal_(tensor, std=0.02), biases=0.0)


def _tiny_start(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(5, 32, 32, 32, 32, 1, activation=nn.Tanh)
    setup = patients.waves(seed, model=model, optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.9})
    return patients.starting(setup, lambda tensor: nn.init.normal_(tensor, std=0.01), biases=0.0)


class _Growing(nn.Module):
    """A rectified recurrence whose matrix is a rotation times a gain."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.body = nn.RNN(1, 24, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(24, 1)
        nn.init.orthogonal_(self.body.get_parameter("weight_hh_l0"), gain=gain)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(inputs)[0][:, -1])
        return outputs


def _growing(seed: int) -> Setup:
    with weights_from(seed):
        model = _Growing(2.2)
    settings = {"name": "sgd", "lr": 0.01, "momentum": 0.9}
    return patients.of(series.sines(seed, length=24), model, nn.MSELoss(), settings, epochs=10)


def _tamed(setup: Setup) -> Setup:
    with weights_from(4):
        nn.init.orthogonal_(setup["model"].body.weight_hh_l0, gain=0.8)
    return setup


def _stacked_gains(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.cnn(4)
        deep = [part for _ in range(3) for part in (nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())]
        body = nn.Sequential(*list(model)[:3], *deep, *list(model)[3:])
    setup = patients.stripes(seed, model=body, optimizer={"name": "sgd", "lr": 0.01, "momentum": 0.9}, epochs=8)
    return patients.starting(setup, lambda tensor: nn.init.kaiming_normal_(tensor).mul_(4))


def _kaiming(setup: Setup) -> Setup:
    return patients.starting(setup, nn.init.kaiming_normal_, biases=0.0)


def _straight_quadrants(seed: int) -> Setup:
    with weights_from(seed):
        model = nn.Sequential(nn.Linear(6, 48), nn.Linear(48, 48), nn.Linear(48, 2))
    return patients.of(tables.quadrants(seed), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=20)


def _curved(setup: Setup) -> Setup:
    return {**setup, "model": nn.Sequential(*[part for layer in setup["model"] for part in (layer, nn.ReLU())][:-1])}


class _Filters(nn.Module):
    """Convolutions without anything between them."""

    def __init__(self, activation: Any) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 16, 3, padding=1)
        self.head = nn.Linear(16, 4)
        self.activation = activation

    def forward(self, images: Tensor) -> Tensor:
        states = self.activation(self.second(self.activation(self.first(images))))
        outputs: Tensor = self.head(states.mean((2, 3)))
        return outputs


def _straight_filters(seed: int) -> Setup:
    with weights_from(seed):
        return patients.stripes(seed, model=_Filters(nn.Identity()))


def _curved_filters(setup: Setup) -> Setup:
    setup["model"].activation = nn.ReLU()
    return setup


CASES: tuple[Case, ...] = (
    Case(
        "clouds-deep-sigmoids",
        _sigmoids,
        ("vanishing_gradient",),
        "accuracy",
        "AutoTrainer's first class: deep sigmoids; first layers stand still",
        tolerate=("saturated_activation", "lr_too_low", "too_few_epochs", "underfitting"),
        fix=_rectified,
    ),
    Case(
        "recalls-long-memory",
        _long_memory,
        ("vanishing_gradient",),
        "accuracy",
        "textbook: a plain recurrent net whose matrix starts near zero forgets the start of eight steps",
        architecture="rnn",
        data="sequence",
        tolerate=("lr_too_low", "too_few_epochs", "underfitting", "capacity_too_small"),
        fix=cures.default_start,
    ),
    Case(
        "waves-tiny-start",
        _tiny_start,
        ("vanishing_gradient",),
        "r2",
        "weights drawn with spread 0.01 in five layers: signals and gradients shrink tenfold per layer",
        tolerate=("lr_too_low", "too_few_epochs", "underfitting", "symmetric_init"),
        fix=cures.default_start,
    ),
    Case(
        "sines-growing-states",
        _growing,
        ("exploding_gradient", "init_too_large"),
        "r2",
        "textbook: a rectified recurrence with too large a matrix; gradients grow with length",
        architecture="rnn",
        data="sequence",
        tolerate=("lr_too_high", "unstable_gradient", "dead_relu"),
        fix=_tamed,
    ),
    Case(
        "stripes-stacked-gains",
        _stacked_gains,
        ("exploding_gradient", "init_too_large"),
        "accuracy",
        "five convolutions, each four times too large: the loss is NaN after a few steps",
        architecture="cnn",
        data="image",
        tolerate=("lr_too_high", "unstable_gradient", "dead_relu"),
        fix=_kaiming,
    ),
    Case(
        "quadrants-straight",
        _straight_quadrants,
        ("missing_nonlinearity",),
        "accuracy",
        "GitHub questions on XOR: three linear layers in a row stay linear",
        tolerate=("underfitting", "capacity_too_small"),
        fix=_curved,
    ),
    Case(
        "stripes-straight-filters",
        _straight_filters,
        ("missing_nonlinearity",),
        "accuracy",
        "convolutions, mean, head: the activations were left out in forward",
        architecture="cnn",
        data="image",
        tolerate=("underfitting", "capacity_too_small"),
        fix=_curved_filters,
    ),
)
