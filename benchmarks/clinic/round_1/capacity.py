"""Sick by too small, too large, too bound or too noisy a model."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_1 import shapes
from benchmarks.clinic.round_1.parts import Coder, layers
from benchmarks.clinic.round_1.readers import Bag, Encoder, Reader, ShortSighted
from benchmarks.clinic.round_1.shapes import Split, job, started, with_model, with_settings


def _every_place(width: int = 32) -> nn.Module:
    return Reader(5, width, 6, places=slice(None))


def _short_sight(seed: int) -> Setup:
    with started(seed):
        model = ShortSighted(1)
    return job(shapes.waits(seed), model, shapes.places_loss, {"name": "adam", "lr": 0.005})


def _one_number(seed: int) -> Setup:
    with started(seed):
        model = Coder(1)
    return job(shapes.panels(seed), model, nn.MSELoss(), {"name": "adam", "lr": 0.01}, epochs=25)


def _bag(seed: int) -> Setup:
    with started(seed):
        model = Bag()
    return job(shapes.picks(seed), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01})


def _ordered_reader() -> nn.Module:
    return Reader(8, 48, 7)


def _few_flights(seed: int) -> Setup:
    with started(seed):
        model = layers(5, 128, 128, 3)
    settings = {"name": "adam", "lr": 0.003}
    return job(shapes.flights(seed, 70, 0.8), model, nn.MSELoss(), settings, batch_size=16, epochs=120)


def _careless_notes(seed: int) -> Setup:
    split = shapes.topics(seed, 400, 0.5)
    words, label = shapes.columns(split.train)
    source = drawn(seed, "carelessness")
    guessed = torch.randint(0, 4, label.shape, generator=source)
    label = torch.where(torch.rand(label.shape, generator=source) < 0.4, guessed, label)
    with started(seed):
        model = Reader(40, 48, 4)
    settings = {"name": "adam", "lr": 0.005}
    return job(Split(TensorDataset(words, label), split.val), model, nn.CrossEntropyLoss(), settings, epochs=40)


def _decayed(seed: int) -> Setup:
    with started(seed):
        model = _every_place()
    settings = {"name": "adam", "lr": 0.01, "weight_decay": 0.2}
    return job(shapes.waits(seed), model, shapes.places_loss, settings)


def _shrunk(seed: int) -> Setup:
    with started(seed):
        model = layers(5, 64, 64, 3, activation=nn.SiLU)
    settings = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}
    return job(shapes.flights(seed), model, nn.MSELoss(), settings)


def _thin_blocks(seed: int) -> Setup:
    with started(seed):
        model = Encoder(5, 6, length=14, norm_first=True, dropout=0.85)
    return job(shapes.waits(seed), model, shapes.places_loss, {"name": "adamw", "lr": 0.003}, epochs=12)


CASES: tuple[Case, ...] = (
    Case(
        "waits-short-sight",
        _short_sight,
        ("capacity_too_small", "underfitting"),
        "accuracy",
        "one causal convolution sees two moments, the wait may be of five: the field of view is too small however wide the layer",
        architecture="cnn",
        data="sequence",
        fix=with_model(lambda: ShortSighted(3)),
    ),
    Case(
        "panels-one-number",
        _one_number,
        ("capacity_too_small", "underfitting"),
        "r2",
        "an autoencoder with a code of one for gauges that follow three quantities (Stats StackExchange on narrow codes)",
        fix=with_model(Coder),
    ),
    Case(
        "picks-bag-of-tokens",
        _bag,
        ("underfitting", "capacity_too_small"),
        "accuracy",
        "the mean of word vectors knows no order, the task asks for the token behind a marker (GlobalAveragePooling1D reports)",
        data="sequence",
        tolerate=("overfitting",),
        fix=with_model(_ordered_reader),
    ),
    Case(
        "flights-few-and-noisy",
        _few_flights,
        ("overfitting",),
        "r2",
        "70 noisy rows, 17,000 weights, 120 epochs",
        fix=lambda setup: {**setup, "epochs": 12},
    ),
    Case(
        "topics-careless-labels",
        _careless_notes,
        ("overfitting",),
        "accuracy",
        "Stats StackExchange 204745, 'Preventing overfitting of LSTM on small dataset'; three labels of ten were guessed wrong",
        architecture="rnn",
        data="sequence",
        fix=lambda setup: {**setup, "epochs": 6},
    ),
    Case(
        "waits-adam-decay",
        _decayed,
        ("over_regularised",),
        "accuracy",
        "Adam's weight_decay is no decoupled decay: 0.2 as for AdamW binds all weights",
        architecture="rnn",
        data="sequence",
        tolerate=("underfitting",),
        fix=with_settings(weight_decay=0.0),
    ),
    Case(
        "flights-sgd-decay",
        _shrunk,
        ("over_regularised",),
        "r2",
        "a decay of 0.1 taken from an AdamW recipe and put into SGD",
        tolerate=("underfitting",),
        fix=with_settings(weight_decay=0.0),
    ),
    Case(
        "waits-thin-blocks",
        _thin_blocks,
        ("dropout_too_high",),
        "accuracy",
        "the keep rate of an older library taken over as dropout=0.85: it acts on attention, on both sums and within the network",
        architecture="transformer",
        data="sequence",
        tolerate=("underfitting", "over_regularised"),
        fix=with_model(lambda: Encoder(5, 6, length=14, norm_first=True, dropout=0.05)),
    ),
)
