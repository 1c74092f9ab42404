"""Healthy sequences that look odd."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.rules_seen import cures, networks, patients, series
from benchmarks.clinic.rules_seen.networks import weights_from


def _sums(seed: int) -> Setup:
    return patients.sums(seed)


def _mirrors(seed: int) -> Setup:
    return patients.mirrors(seed)


def _frozen_embedding(seed: int) -> Setup:
    setup = patients.motifs(seed)
    setup["model"].tokens.weight.requires_grad_(False)
    held = [tensor for tensor in setup["model"].parameters() if tensor.requires_grad]
    return {**setup, "optimizer": {**setup["optimizer"], "params": held}}


def _untouched_rows(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.Attender(500, 12, 4, width=16)
    return patients.majorities(seed, model=model)


def _deep_reader(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.Reader(1, 1, cell="gru", num_layers=2, width=16)
    return patients.of(series.sines(seed), model, nn.MSELoss(), {"name": "adam", "lr": 0.01}, epochs=10)


def _slow_but_enough(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.Reader(1, 1, cell="rnn", width=24)
    settings = {"name": "adam", "lr": 8e-4}
    return patients.of(series.sines(seed), model, nn.MSELoss(), settings, batch_size=8, epochs=15)


def _deep_pre_norm(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.Attender(4, 12, 4, width=16, num_layers=5)
    return patients.majorities(seed, model=model, epochs=8)


def _rare_motifs(seed: int) -> Setup:
    """One row in eight has the motif; balanced by drawing the others' loss down."""
    split = series.motifs(seed, num_train=1400)
    inputs, labels = split.train.tensors
    kept = (labels == 0) | (torch.rand(len(labels), generator=drawn(seed, "thin")) < 0.14)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.57, 4.0]))
    setup = patients.motifs(seed, loss=loss, epochs=12)
    return {**cures.train_rows(lambda *_: (inputs[kept], labels[kept]))(setup), "val": split.val}


def _smoothed(seed: int) -> Setup:
    return patients.majorities(seed, loss=nn.CrossEntropyLoss(label_smoothing=0.2))


CASES: tuple[Case, ...] = (
    Case("ok-sums", _sums, (), "r2", "nothing odd: LSTM", architecture="rnn", data="sequence", floor=0.95),
    Case(
        "ok-mirrors",
        _mirrors,
        (),
        "accuracy",
        "nothing odd: a label per place",
        architecture="transformer",
        data="sequence",
        floor=0.95,
    ),
    Case(
        "ok-frozen-embedding",
        _frozen_embedding,
        (),
        "accuracy",
        "random embeddings are kept on purpose",
        architecture="rnn",
        data="sequence",
        floor=0.95,
    ),
    Case(
        "ok-untouched-rows",
        _untouched_rows,
        (),
        "accuracy",
        "496 of 500 embedding rows never occur",
        architecture="transformer",
        data="sequence",
        floor=0.93,
    ),
    Case(
        "ok-deep-reader",
        _deep_reader,
        (),
        "r2",
        "two recurrent layers, loss near its noise",
        architecture="rnn",
        data="sequence",
        floor=0.93,
    ),
    Case(
        "ok-slow-but-enough",
        _slow_but_enough,
        (),
        "r2",
        "a rate below 1e-3 over 940 steps",
        architecture="rnn",
        data="sequence",
        floor=0.93,
    ),
    Case(
        "ok-deep-pre-norm",
        _deep_pre_norm,
        (),
        "accuracy",
        "five layers without warm-up, borne by pre-norm",
        architecture="transformer",
        data="sequence",
        floor=0.93,
    ),
    Case(
        "ok-rare-motifs",
        _rare_motifs,
        (),
        "balanced_accuracy",
        "an eighth of the rows is positive, met by weights",
        architecture="rnn",
        data="sequence",
        floor=0.9,
    ),
    Case(
        "ok-smoothed",
        _smoothed,
        (),
        "accuracy",
        "label smoothing: the loss stays far above zero",
        architecture="transformer",
        data="sequence",
        floor=0.93,
    ),
)
