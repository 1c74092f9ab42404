"""Sick by what the model can or may fit."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.rules_seen import cures, drawings, networks, patients, tables
from benchmarks.clinic.rules_seen.networks import weights_from


def _two_units(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(10, 2, 5, activation=nn.Tanh)
    return patients.clouds(seed, model=model, optimizer={"name": "adam", "lr": 0.02}, epochs=20)


def _one_filter(seed: int) -> Setup:
    with weights_from(seed):
        model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 4))
    return patients.stripes(seed, model=model, optimizer={"name": "adam", "lr": 0.02}, epochs=10)


def _one_state(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.TextReader(8, 2, width=1)
    return patients.motifs(seed, model=model)


def _straight_rings(seed: int) -> Setup:
    with weights_from(seed):
        return patients.rings(seed, model=nn.Linear(2, 1))


def _straight_waves(seed: int) -> Setup:
    with weights_from(seed):
        model = nn.Sequential(nn.Linear(5, 1), nn.Tanh(), nn.Linear(1, 1))
    return patients.waves(seed, model=model)


def _memorised_lines(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(6, 128, 128, 1)
    split = tables.lines(seed, num_features=6, num_train=80, noise=0.9)
    settings = {"name": "adamw", "lr": 0.003, "weight_decay": 0.0}
    return patients.of(split, model, nn.MSELoss(), settings, batch_size=16, epochs=150)


def _memorised_spots(seed: int) -> Setup:
    """140 images with noisy targets, a net that sees every pixel."""
    random = drawn(seed, "noisy depth")

    def blur(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return inputs, targets + 0.8 * torch.randn(targets.shape, generator=random)

    with weights_from(seed):
        model = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), networks.mlp(864, 64, 1))
    settings = {"name": "adamw", "lr": 0.002, "weight_decay": 0.0}
    setup = patients.of(drawings.spots(seed, num_train=140, noise=0.2), model, nn.MSELoss(), settings, epochs=100)
    return cures.everywhere(blur)(setup)


def _decayed_clouds(seed: int) -> Setup:
    return patients.clouds(seed, optimizer={"name": "sgd", "lr": 0.1, "weight_decay": 0.3})


def _decayed_mirrors(seed: int) -> Setup:
    return patients.mirrors(seed, optimizer={"name": "adamw", "lr": 0.005, "weight_decay": 30.0})


def _decayed_sums(seed: int) -> Setup:
    return patients.sums(seed, optimizer={"name": "adam", "lr": 0.01, "weight_decay": 0.1})


def _dropped_waves(seed: int) -> Setup:
    with weights_from(seed):
        return patients.waves(seed, model=networks.mlp(5, 48, 48, 1, dropout=0.9))


class _Dropping(nn.Module):
    """A net with functional dropout of channels between its convolutions and of features before its head."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 16, 3, padding=1)
        self.head = nn.Linear(144, 3)
        self.share = share

    def forward(self, images: Tensor) -> Tensor:
        states = F.dropout2d(F.max_pool2d(self.first(images).relu(), 2), self.share, self.training)
        states = F.dropout(F.adaptive_avg_pool2d(self.second(states).relu(), 3).flatten(1), self.share, self.training)
        outputs: Tensor = self.head(states)
        return outputs


def _dropped_shapes(seed: int) -> Setup:
    with weights_from(seed):
        return patients.shapes(seed, model=_Dropping(0.85))


def _kept(setup: Setup) -> Setup:
    for part in setup["model"].modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if isinstance(part, _Dropping):
            part.share = 0.1
    return setup


CASES: tuple[Case, ...] = (
    Case(
        "clouds-two-units",
        _two_units,
        ("capacity_too_small", "underfitting"),
        "accuracy",
        "DeepFD's and deepmufl's programs with far too few units: two for five classes of ten clouds",
        fix=cures.model(lambda: networks.mlp(10, 48, 5, activation=nn.Tanh)),
    ),
    Case(
        "stripes-one-filter",
        _one_filter,
        ("capacity_too_small", "underfitting"),
        "accuracy",
        "one filter for four directions",
        architecture="cnn",
        data="image",
        tolerate=("vanishing_gradient",),
        fix=cures.model(lambda: networks.cnn(4), optimizer={"name": "adam", "lr": 0.003}),
    ),
    Case(
        "motifs-one-state",
        _one_state,
        ("capacity_too_small", "underfitting"),
        "accuracy",
        "a recurrent state of a single number",
        architecture="rnn",
        data="sequence",
        tolerate=("too_few_epochs",),
        fix=cures.model(lambda: networks.TextReader(8, 2)),
    ),
    Case(
        "rings-straight",
        _straight_rings,
        ("underfitting", "capacity_too_small", "missing_nonlinearity"),
        "accuracy",
        "textbook: a straight line cannot part a disc from a ring",
        fix=cures.model(lambda: networks.mlp(2, 24, 24, 1, activation=nn.Tanh)),
    ),
    Case(
        "waves-one-direction",
        _straight_waves,
        ("underfitting", "capacity_too_small"),
        "r2",
        "a single hidden unit for a law of four features: both losses stay high together",
        fix=cures.model(lambda: networks.mlp(5, 48, 48, 1, activation=nn.Tanh)),
    ),
    Case(
        "lines-memorised",
        _memorised_lines,
        ("overfitting",),
        "r2",
        "80 rows, half of the variance is noise, 17,000 weights, 150 epochs: training error 0, validation error grows",
        fix=cures.job(epochs=12),
    ),
    Case(
        "spots-memorised",
        _memorised_spots,
        ("overfitting",),
        "r2",
        "140 images with noisy targets, every pixel visible, 100 epochs",
        architecture="cnn",
        data="image",
        fix=cures.job(epochs=8),
    ),
    Case(
        "clouds-decay-0.3",
        _decayed_clouds,
        ("over_regularised",),
        "accuracy",
        "weight decay mistaken for a learning-rate decay",
        tolerate=("underfitting", "vanishing_gradient"),
        fix=cures.optimizer(weight_decay=1e-4),
    ),
    Case(
        "mirrors-decay-30",
        _decayed_mirrors,
        ("over_regularised",),
        "accuracy",
        "decoupled decay read as a share: 30 for 30 percent",
        architecture="transformer",
        data="sequence",
        tolerate=("underfitting", "vanishing_gradient"),
        fix=cures.optimizer(weight_decay=0.01),
    ),
    Case(
        "sums-decay-0.1",
        _decayed_sums,
        ("over_regularised",),
        "r2",
        "AdamW's usual 0.1 put into Adam, where it is part of the gradient",
        architecture="rnn",
        data="sequence",
        tolerate=("underfitting", "vanishing_gradient"),
        fix=cures.optimizer(weight_decay=0.0),
    ),
    Case(
        "waves-dropout-0.9",
        _dropped_waves,
        ("dropout_too_high",),
        "r2",
        "keep probability mistaken for drop probability (TensorFlow 1 counted what is kept)",
        tolerate=("underfitting", "over_regularised"),
        fix=_kept,
    ),
    Case(
        "shapes-functional-dropout",
        _dropped_shapes,
        ("dropout_too_high",),
        "accuracy",
        "the same with functional dropout, twice",
        architecture="cnn",
        data="image",
        tolerate=("underfitting", "over_regularised", "too_few_epochs"),
        fix=_kept,
    ),
)
