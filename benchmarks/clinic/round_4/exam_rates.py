"""An exam, first half: setups whose steps are too long, too short, too few or too noisy."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_4.exam_parts import LastStep, Reader, convnet, job, mlp, rate, seeded, setup
from benchmarks.clinic.round_4.exam_rows import crops, customers, demand, digits, flats, reviews, signs, tones


@seeded
def _adam_tenth(seed: int) -> Setup:
    rows = digits(seed).mapped(lambda x: x / 16)
    return setup(rows, convnet(8, 10), nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.1}, batch_size=64, epochs=10)


@seeded
def _attentive_reader(seed: int) -> Setup:
    return setup(reviews(seed), Reader(40, 2), nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.05}, batch_size=64, epochs=6)


@seeded
def _diverging_flats(seed: int) -> Setup:
    rows = flats(seed).scaled().target_scaled()
    return setup(rows, nn.Linear(7, 1), nn.MSELoss(), {"name": "sgd", "lr": 1.0}, epochs=20)


@seeded
def _slow_customers(seed: int) -> Setup:
    rows = customers(seed).scaled()
    return setup(rows, mlp(9, 64, 32, 1), nn.BCEWithLogitsLoss(), {"name": "sgd", "lr": 1e-4, "momentum": 0.9}, epochs=20)


@seeded
def _slow_tones(seed: int) -> Setup:
    model = LastStep(nn.GRU(1, 32, batch_first=True), 4)
    return setup(tones(seed), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 1e-5}, epochs=12)


@seeded
def _swinging_signs(seed: int) -> Setup:
    optimizer = {"name": "sgd", "lr": 0.05, "momentum": 0.99}
    return setup(signs(seed), convnet(12, 4), nn.CrossEntropyLoss(), optimizer, batch_size=32, epochs=12)


@seeded
def _swinging_flats(seed: int) -> Setup:
    rows = flats(seed).scaled().target_scaled()
    optimizer = {"name": "sgd", "lr": 0.02, "momentum": 0.999}
    return setup(rows, mlp(7, 32, 1, act=nn.Tanh), nn.MSELoss(), optimizer, batch_size=64, epochs=20)


@seeded
def _one_epoch(seed: int) -> Setup:
    rows = signs(seed)
    return setup(rows, convnet(12, 4), nn.CrossEntropyLoss(), {"name": "adam", "lr": 1e-3}, batch_size=32, epochs=2)


@seeded
def _short_demand(seed: int) -> Setup:
    model = LastStep(nn.LSTM(1, 24, batch_first=True), 1)
    return setup(demand(seed), model, nn.MSELoss(), {"name": "adam", "lr": 1e-3}, batch_size=64, epochs=2)


@seeded
def _one_by_one(seed: int) -> Setup:
    rows = crops(seed, num=1100)
    optimizer = {"name": "sgd", "lr": 0.02, "momentum": 0.9}
    return setup(rows, mlp(8, 48, 48, 6), nn.CrossEntropyLoss(), optimizer, batch_size=1, epochs=5)


@seeded
def _flat_by_flat(seed: int) -> Setup:
    rows = flats(seed, num=1000).scaled().target_scaled()
    rows = rows.train_only(y=rows.y + torch.randn(rows.y.shape, generator=drawn(seed, "haggling")))
    return setup(rows, mlp(7, 32, 32, 1, act=nn.Tanh), nn.MSELoss(), {"name": "sgd", "lr": 0.05}, batch_size=1, epochs=8)


_TOO_LONG = ("exploding_gradient", "unstable_gradient", "dead_relu")

CASES: tuple[Case, ...] = (
    Case(
        "digits-cnn-adam-a-tenth",
        _adam_tenth,
        ("lr_too_high",),
        "accuracy",
        "StackOverflow, often: a small CNN under Adam(lr=0.1) stays at a loss of 2.30; 0.001 trains",
        architecture="cnn",
        data="image",
        tolerate=_TOO_LONG,
        fix=rate(3e-3),
    ),
    Case(
        "reviews-encoder-adam-too-fast",
        _attentive_reader,
        ("lr_too_high",),
        "accuracy",
        "PyTorch forum: a transformer encoder for sentiment stays at 0.69 under Adam(lr=0.05), a rate copied from an MLP",
        architecture="transformer",
        data="sequence",
        tolerate=("warmup_too_short", "unstable_gradient"),
        fix=rate(1e-3),
    ),
    Case(
        "flats-line-diverges",
        _diverging_flats,
        ("lr_too_high",),
        "r2",
        "qa.1r1g.com/sf/ask/4433342651: a linear regression whose MSE becomes NaN within a few epochs",
        tolerate=("exploding_gradient", "unstable_gradient"),
        fix=rate(0.05),
    ),
    Case(
        "customers-sgd-barely-moves",
        _slow_customers,
        ("lr_too_low",),
        "accuracy",
        "taourl.com/read-2391810: the loss stays constant under SGD(lr=0.0001)",
        tolerate=("too_few_epochs", "underfitting"),
        fix=rate(0.05),
    ),
    Case(
        "tones-gru-adam-too-slow",
        _slow_tones,
        ("lr_too_low",),
        "accuracy",
        "GitHub thtrieu/darkflow#894: convergence doesn't decrease at a rate of 1e-5, chosen after a NaN",
        architecture="rnn",
        data="sequence",
        tolerate=("too_few_epochs", "underfitting"),
        fix=rate(5e-3),
    ),
    Case(
        "signs-cnn-momentum-99",
        _swinging_signs,
        ("momentum_too_high",),
        "accuracy",
        "StackOverflow: momentum 0.99 instead of 0.9 with an ordinary rate, the loss swings up and never settles",
        architecture="cnn",
        data="image",
        tolerate=("lr_too_high", *_TOO_LONG),
        fix=rate(0.05, momentum=0.9),
    ),
    Case(
        "flats-momentum-999",
        _swinging_flats,
        ("momentum_too_high",),
        "r2",
        "StackOverflow: beta of 0.999 taken from Adam's second moment and given to SGD as its momentum",
        tolerate=("lr_too_high", "exploding_gradient", "unstable_gradient", "saturated_activation"),
        fix=rate(0.02, momentum=0.9),
    ),
    Case(
        "signs-cnn-two-epochs",
        _one_epoch,
        ("too_few_epochs",),
        "accuracy",
        "StackOverflow: num_epochs = 2 from the CIFAR tutorial on a set fifty times smaller; accuracy still climbs at the end",
        architecture="cnn",
        data="image",
        tolerate=("lr_too_low", "underfitting"),
        fix=job(epochs=20),
    ),
    Case(
        "demand-lstm-two-epochs",
        _short_demand,
        ("too_few_epochs",),
        "r2",
        "StackOverflow: an LSTM forecaster stopped after two epochs predicts nearly the mean",
        architecture="rnn",
        data="sequence",
        tolerate=("lr_too_low", "underfitting"),
        fix=job(epochs=25),
    ),
    Case(
        "crops-one-row-a-step",
        _one_by_one,
        ("batch_too_small",),
        "accuracy",
        "GitHub BVLC/caffe#3801: the loss fluctuates largely; the answer is a batch of more than one row",
        tolerate=("lr_too_high", "unstable_gradient", "dead_relu", "momentum_too_high"),
        fix=job(batch_size=32),
    ),
    Case(
        "flats-haggled-one-by-one",
        _flat_by_flat,
        ("batch_too_small",),
        "r2",
        "GitHub facebookresearch/dino#110: batch of 1 or 2 for want of memory, the loss doesn't decline",
        tolerate=("lr_too_high", "unstable_gradient", "dead_relu"),
        fix=job(batch_size=32),
    ),
)
