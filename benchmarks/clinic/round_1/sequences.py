"""Sick readers of sequences: recurrent nets and small transformers."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_1 import shapes
from benchmarks.clinic.round_1.readers import (
    BothWays,
    BothWaysViewed,
    Chooser,
    Cosine,
    Encoder,
    HardChooser,
    Improvised,
    MaskedMean,
    Memory,
    Prepared,
    Reader,
    Stack,
)
from benchmarks.clinic.round_1.shapes import job, started, whole, with_model, with_settings


def _five_deep(seed: int) -> Setup:
    with started(seed):
        model = Stack(nn.LSTM(16, 32, num_layers=5, batch_first=True), 7)
    settings = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    return job(shapes.picks(seed), model, nn.CrossEntropyLoss(), settings, epochs=20)


def _growing_memory(seed: int) -> Setup:
    with started(seed):
        model = Memory(1.25)
    return job(shapes.echoes(seed, 30), model, nn.MSELoss(), {"name": "adam", "lr": 0.003})


def _loud_words(seed: int) -> Setup:
    with started(seed):
        model = Reader(8, 48, 7)
        for tensor in model.parameters():
            nn.init.normal_(tensor)
    return job(shapes.picks(seed), model, nn.CrossEntropyLoss(), {"name": "adamw", "lr": 0.002}, epochs=25)


def _viewed(seed: int) -> Setup:
    with started(seed):
        model = BothWaysViewed()
    return job(shapes.topics(seed), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.005})


def _cold_start(seed: int) -> Setup:
    with started(seed):
        model = Encoder(5, 6, depth=6, length=14, activation="gelu")
    settings = {"name": "adam", "lr": 0.01}
    return job(shapes.waits(seed, 500), model, shapes.places_loss, settings, epochs=10)


def _hard_choice(seed: int) -> Setup:
    with started(seed):
        model = HardChooser()
    return job(shapes.picks(seed), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01})


def _improvised(seed: int) -> Setup:
    with started(seed):
        model = Improvised()
    return job(shapes.topics(seed), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01})


def _visits(seed: int) -> Setup:
    with started(seed):
        model = MaskedMean("stamp")
    return job(shapes.visits(seed), model, nn.MSELoss(), {"name": "adam", "lr": 0.01}, epochs=30)


def _by_length(setup: Setup) -> Setup:
    setup["model"].column = "length"
    return setup


def _no_decay_only(seed: int) -> Setup:
    with started(seed):
        model = Encoder(5, 6, length=14, norm_first=True)
    held = [tensor for name, tensor in model.named_parameters() if "norm" in name or name.endswith("bias")]
    settings = {"name": "adamw", "lr": 0.003, "params": held}
    return job(shapes.waits(seed), model, shapes.places_loss, settings, epochs=12)


def _frozen_blocks(seed: int) -> Setup:
    with started(seed):
        model = Encoder(5, 6, length=14, norm_first=True)
    for name, tensor in model.named_parameters():
        tensor.requires_grad_(not name.startswith(("blocks", "places")))
    return job(shapes.waits(seed), model, shapes.places_loss, {"name": "adamw", "lr": 0.003}, epochs=12)


def _padded(seed: int) -> Setup:
    tokens, label = whole(shapes.topics(seed))
    lengths = torch.randint(8, 17, (len(label), 1), generator=drawn(seed, "lengths"))
    padded = torch.where(torch.arange(16) < lengths, tokens + 1, 0)
    with started(seed):
        model = Cosine(0.0)
    return job(shapes.cut(padded, label, 700), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01})


def _kept_from_zero(setup: Setup) -> Setup:
    setup["model"].least = 1e-12
    return setup


CASES: tuple[Case, ...] = (
    Case(
        "picks-five-layers-deep",
        _five_deep,
        ("vanishing_gradient",),
        "accuracy",
        "forum: LSTM with num_layers=5 stays at chance with SGD, one layer learns; each layer passes a tenth of the gradient",
        architecture="rnn",
        data="sequence",
        tolerate=("underfitting", "lr_too_low", "too_few_epochs"),
        fix=with_model(lambda: Stack(nn.LSTM(16, 32, batch_first=True), 7)),
    ),
    Case(
        "echoes-growing-memory",
        _growing_memory,
        ("exploding_gradient", "init_too_large"),
        "r2",
        "a recurrence by hand whose matrix stretches by a quarter at each of 30 moments; loss of millions (RNN loss NaN reports)",
        architecture="rnn",
        data="sequence",
        tolerate=("unstable_gradient", "lr_too_high"),
        fix=with_model(lambda: Memory(1.0)),
    ),
    Case(
        "picks-unit-normal",
        _loud_words,
        ("init_too_large", "saturated_activation"),
        "accuracy",
        "PyTorch forum 23605 on starting a GRU: all tensors, biases too, were drawn from N(0, 1)",
        architecture="rnn",
        data="sequence",
        tolerate=("exploding_gradient", "lr_too_low", "too_few_epochs"),
        fix=shapes.freshly_started,
    ),
    Case(
        "topics-both-ways-viewed",
        _viewed,
        ("batch_dependence",),
        "accuracy",
        "the states of a bidirectional GRU, [2, rows, width], were given the shape [rows, 2 * width] by reshape alone",
        architecture="rnn",
        data="sequence",
        tolerate=("underfitting", "overfitting"),
        fix=with_model(BothWays),
    ),
    Case(
        "waits-post-norm-cold",
        _cold_start,
        ("warmup_too_short", "lr_too_high"),
        "accuracy",
        "GitHub openclimatefix predict_pv_yield#43 and dmlc/gluon-nlp#543: norms behind the sums, full rate from the first step",
        architecture="transformer",
        data="sequence",
        tolerate=("unstable_gradient", "vanishing_gradient", "exploding_gradient"),
        fix=with_settings(lr=0.003),
    ),
    Case(
        "picks-hard-choice",
        _hard_choice,
        ("detached_graph",),
        "accuracy",
        "attention by argmax and one_hot: no gradient comes back to what gave the scores",
        data="sequence",
        tolerate=("underfitting",),
        fix=with_model(Chooser),
    ),
    Case(
        "topics-layer-in-forward",
        _improvised,
        ("unregistered_params",),
        "accuracy",
        "GitHub pytorch/pytorch#1291: nn.Linear is made anew within forward, so it is another one at each call",
        data="sequence",
        tolerate=("underfitting",),
        fix=with_model(Prepared),
    ),
    Case(
        "visits-mask-of-stamps",
        _visits,
        ("out_of_memory",),
        "r2",
        "a mask of lengths is made from the column of time stamps in milliseconds: arange of 1.7e12",
        data="sequence",
        fix=_by_length,
    ),
    Case(
        "waits-no-decay-group",
        _no_decay_only,
        ("params_not_in_optimizer",),
        "accuracy",
        "of the groups with and without decay only that of biases and norms was handed to the optimizer",
        architecture="transformer",
        data="sequence",
        tolerate=("underfitting",),
        fix=shapes.all_held,
    ),
    Case(
        "waits-frozen-blocks",
        _frozen_blocks,
        ("frozen_params",),
        "accuracy",
        "blocks were frozen by their name for fine-tuning, but no checkpoint was loaded into them",
        architecture="transformer",
        data="sequence",
        tolerate=("underfitting",),
        fix=shapes.unfrozen,
    ),
    Case(
        "topics-length-of-padding",
        _padded,
        ("unstable_gradient", "exploding_gradient"),
        "accuracy",
        "GitHub pytorch/pytorch#2421 and #6394: the root of a sum of squares has no slope at the zero vector of padding",
        data="sequence",
        tolerate=("unstable_loss",),
        fix=_kept_from_zero,
    ),
)
