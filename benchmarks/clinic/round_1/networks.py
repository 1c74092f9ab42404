"""Sick deep networks on tables: their start, their signals, what trains and what does not."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_1 import shapes
from benchmarks.clinic.round_1.parts import Bilinear, Coder, Features, Rank, Ratio, Residual, as_is, at_least_half, layers
from benchmarks.clinic.round_1.shapes import Split, columns, job, started, with_model


def _lone_order(seed: int) -> Setup:
    with started(seed):
        model = Rank(nn.Sequential(nn.Linear(10, 48), nn.BatchNorm1d(48), nn.SiLU(), nn.Dropout(0.1), nn.Linear(48, 1)))
    settings = {"name": "adamw", "lr": 0.01, "weight_decay": 0.01}
    return job(shapes.orders(seed, 961), model, nn.BCEWithLogitsLoss(), settings, batch_size=40)


def _constant_flights(seed: int) -> Setup:
    with started(seed):
        model = layers(5, 40, 40, 3, activation=nn.Tanh)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.weight, 0.05)
            nn.init.zeros_(layer.bias)
    return job(shapes.flights(seed), model, nn.SmoothL1Loss(), {"name": "adam", "lr": 0.005})


def _plain_depth(seed: int) -> Setup:
    with started(seed):
        model = layers(5, *[32] * 18, 3)
    return job(shapes.flights(seed), model, nn.MSELoss(), {"name": "adam", "lr": 0.001}, epochs=12)


def _bare_depth(seed: int) -> Setup:
    with started(seed):
        model = Residual(14, lambda width: nn.Identity())
        for part in model.modules():
            if isinstance(part, nn.Linear):
                nn.init.kaiming_normal_(part.weight)
    return job(shapes.flights(seed), model, nn.MSELoss(), {"name": "sgd", "lr": 0.02, "momentum": 0.9}, epochs=10)


def _squashed(seed: int) -> Setup:
    split = shapes.flights(seed)
    units, base = torch.tensor([40.0, 30.0, 25.0, 10.0, 300.0]), torch.tensor([90.0, 45.0, 50.0, 20.0, 600.0])
    rows = [TensorDataset(base + units * columns(part)[0], columns(part)[1]) for part in (split.train, split.val)]
    with started(seed):
        model = nn.Sequential(nn.Tanh(), layers(5, 64, 64, 3))
    return job(Split(rows[0], rows[1]), model, nn.MSELoss(), {"name": "adamw", "lr": 0.005})


def _scaled_first(setup: Setup) -> Setup:
    setup["model"][0] = nn.BatchNorm1d(5)
    return setup


def _affine(seed: int) -> Setup:
    def block(given: int, wide: int) -> list[nn.Module]:
        return [nn.Linear(given, wide), nn.BatchNorm1d(wide), nn.Dropout(0.05)]

    with started(seed):
        model = nn.Sequential(*block(2, 64), *block(64, 64), nn.Linear(64, 3))
    return job(shapes.spirals(seed), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=20)


def _bent(setup: Setup) -> Setup:
    bends = [[layer, nn.GELU()] if isinstance(layer, nn.BatchNorm1d) else [layer] for layer in setup["model"]]
    return {**setup, "model": nn.Sequential(*[part for parts in bends for part in parts])}


def _frozen_decoder(seed: int) -> Setup:
    with started(seed):
        model = Coder()
    model.decoder.requires_grad_(False)
    return job(shapes.panels(seed), model, nn.MSELoss(), {"name": "adam", "lr": 0.01})


def _readout(seed: int) -> Setup:
    with started(seed):
        model = Features()
    return job(shapes.panels(seed), model, nn.MSELoss(), {"name": "adam", "lr": 0.01})


def _cast_parameter(seed: int) -> Setup:
    with started(seed):
        model = Bilinear()
    return job(shapes.orders(seed), model, nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 0.01})


def _registered(setup: Setup) -> Setup:
    model = setup["model"]
    values = model.matrices.detach().clone()
    del model.matrices
    model.matrices = nn.Parameter(values)
    return setup


def _ratio(seed: int) -> Setup:
    with started(seed):
        model = Ratio(as_is)
    return job(shapes.flights(seed), model, nn.MSELoss(), {"name": "sgd", "lr": 0.02, "momentum": 0.9})


def _kept_away(setup: Setup) -> Setup:
    setup["model"].below = at_least_half
    return setup


CASES: tuple[Case, ...] = (
    Case(
        "orders-lone-row",
        _lone_order,
        ("last_batch_of_one",),
        "accuracy",
        "GitHub scverse/scvi-tools#2314: the last batch holds one observation and batch norm refuses it",
        fix=lambda setup: {**setup, "batch_size": 50},
    ),
    Case(
        "flights-constant-start",
        _constant_flights,
        ("symmetric_init",),
        "r2",
        "forum questions on nn.init.constant_ for weights: every unit of a layer stays what its neighbour is",
        tolerate=("underfitting", "capacity_too_small", "vanishing_gradient"),
        fix=shapes.freshly_started,
    ),
    Case(
        "flights-plain-depth",
        _plain_depth,
        ("vanishing_gradient",),
        "r2",
        "eighteen linear layers with ReLU at the library's own start: signals shrink at each (He et al. 2015 on std 0.01)",
        tolerate=("dead_relu", "lr_too_low", "too_few_epochs", "underfitting"),
        fix=with_model(lambda: Residual(9, nn.LayerNorm)),
    ),
    Case(
        "flights-bare-residuals",
        _bare_depth,
        ("exploding_gradient", "init_too_large"),
        "r2",
        "a residual tower without norms, He's start in every branch: the signal doubles at each sum",
        tolerate=("lr_too_high", "unstable_gradient"),
        fix=with_model(lambda: Residual(14, nn.LayerNorm)),
    ),
    Case(
        "flights-squashed-units",
        _squashed,
        ("saturated_activation", "unnormalised_inputs"),
        "r2",
        "tanh as the first layer, to keep inputs in range; they come as km/h, degrees and grams, so it answers 1 throughout",
        tolerate=("underfitting",),
        fix=_scaled_first,
    ),
    Case(
        "spirals-norms-without-bends",
        _affine,
        ("missing_nonlinearity",),
        "accuracy",
        "blocks of linear, batch norm, dropout and nothing that bends (AI StackExchange 36488 wonders what a linear net can do)",
        tolerate=("underfitting", "capacity_too_small"),
        fix=_bent,
    ),
    Case(
        "panels-frozen-decoder",
        _frozen_decoder,
        ("frozen_params",),
        "r2",
        "half of an autoencoder was frozen for a former experiment, and starts at random now",
        tolerate=("underfitting",),
        fix=shapes.unfrozen,
    ),
    Case(
        "panels-codes-without-grad",
        _readout,
        ("detached_graph",),
        "r2",
        "torch.no_grad() was left around the encoder of a script that only reads codes out",
        tolerate=("underfitting",),
        fix=with_model(Coder),
    ),
    Case(
        "orders-cast-parameter",
        _cast_parameter,
        ("unregistered_params",),
        "accuracy",
        "GitHub pytorch/pytorch#17484: a cast behind nn.Parameter(...) gives a tensor that the module doesn't know",
        tolerate=("underfitting", "params_not_in_optimizer"),
        fix=_registered,
    ),
    Case(
        "flights-ratio",
        _ratio,
        ("unstable_gradient", "exploding_gradient"),
        "r2",
        "an output divided by another output that may cross zero: a rare row's gradient ruins the run",
        tolerate=("lr_too_high",),
        fix=_kept_away,
    ),
)
