"""Sick by what the hand on the knobs chose: rates, batches, epochs, strength of regularisation, size of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_5 import benches
from benchmarks.clinic.round_5.benches import setup, weights_of


class Shift(nn.Module):
    """A residual block of a 1-d network, without norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv1d(width, width, 5, padding=2), nn.GELU(), nn.Conv1d(width, width, 5, padding=2))

    def forward(self, waves: Tensor) -> Tensor:
        changed: Tensor = waves + self.inner(waves)
        return changed


class Tagger(nn.Module):
    """Words to a label each, through a two-way GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(24, 12)
        self.reader = nn.GRU(12, 16, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 3)

    def forward(self, words: Tensor) -> Tensor:
        labels: Tensor = self.head(self.reader(self.words(words))[0])
        return labels


class Hires(nn.Module):
    """Weather and day to two quantities."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.days = nn.Embedding(7, 4)
        self.body = nn.Sequential(nn.Linear(10, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.head = nn.Linear(width, 2)

    def forward(self, rows: dict[str, Tensor]) -> Tensor:
        hires: Tensor = self.head(self.body(torch.cat([rows["weather"], self.days(rows["day"])], 1)))
        return hires


class Patches(nn.Module):
    """A small vision transformer: patches of 2 by 2, norm after each branch as in the first paper."""

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.cut = nn.Conv2d(1, 32, 2, stride=2)
        self.places = nn.Parameter(torch.randn(25, 32) * 0.1)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.head = nn.Linear(32, 3)

    def forward(self, pictures: Tensor) -> Tensor:
        states = self.body(self.cut(pictures).flatten(2).transpose(1, 2) + self.places)
        kinds: Tensor = self.head(states.mean(1))
        return kinds


class Topics(nn.Module):
    """The mean of a note's words to the chance of each topic."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(40, 24)
        self.body = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 4), nn.Sigmoid())

    def forward(self, words: Tensor) -> Tensor:
        chances: Tensor = self.body(self.words(words))
        return chances


def _waves(drop: float = 0.0) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(1, 16, 7, stride=2, padding=3), nn.GELU(), nn.Dropout(drop), Shift(16), nn.GELU(), nn.Dropout(drop),
        nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(16, 24), nn.GELU(), nn.Dropout(drop), nn.Linear(24, 4),
    )  # fmt: skip


def _adamw_as_sgd(seed: int) -> Setup:
    with weights_of(seed):
        return setup(_waves(), benches.pulses(seed), nn.CrossEntropyLoss(), {"name": "adamw", "lr": 0.12}, epochs=10)


def _keep(seed: int) -> Setup:
    with weights_of(seed):
        return setup(_waves(0.85), benches.pulses(seed), nn.CrossEntropyLoss(), {"name": "adam", "lr": 3e-3}, epochs=10)


def _keep_well(patient: Setup) -> Setup:
    for module in patient["model"].modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.15
    return patient


def _tuned_finely(seed: int) -> Setup:
    with weights_of(seed):
        return setup(Tagger(), benches.phrases(seed), benches.per_word, {"name": "adamw", "lr": 5e-5}, epochs=12)


def _heavy_ball(seed: int) -> Setup:
    with weights_of(seed):
        chosen = {"name": "sgd", "lr": 0.02, "momentum": 0.99}
        return setup(Hires(), benches.bikes(seed), nn.MSELoss(), chosen, epochs=12)


def _meters(waist: int) -> nn.Module:
    return nn.Sequential(nn.Linear(20, 32), nn.ELU(), nn.Linear(32, waist), nn.Linear(waist, 32), nn.ELU(), nn.Linear(32, 20))


def _short(seed: int) -> Setup:
    with weights_of(seed):
        data = benches.readings(seed, num_train=500)
        return setup(_meters(6), data, nn.SmoothL1Loss(), {"name": "adam", "lr": 3e-3}, epochs=3)


def _narrow(seed: int, waist: int = 1) -> Setup:
    with weights_of(seed):
        return setup(_meters(waist), benches.readings(seed), nn.MSELoss(), {"name": "adam", "lr": 5e-3}, epochs=25)


def _pairs(seed: int) -> Setup:
    with weights_of(seed):
        model = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1))
        chosen = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
        return setup(model, benches.clients(seed), benches.stays, chosen, batch_size=2, epochs=10)


def _patches(seed: int) -> Setup:
    with weights_of(seed):
        data = benches.grids(seed, num_train=400, noise=0.3)
        return setup(Patches(6), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 6e-3}, epochs=6)


def _decayed(seed: int) -> Setup:
    with weights_of(seed):
        chosen = {"name": "adam", "lr": 5e-3, "weight_decay": 0.05}
        return setup(Topics(), benches.topics(seed), nn.BCELoss(), chosen, epochs=15)


def _learnt_by_heart(seed: int) -> Setup:
    with weights_of(seed):
        model = nn.Sequential(nn.Linear(10, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1))
        data = benches.lodges(seed, num_train=80, num_columns=10)
        return setup(model, data, nn.MSELoss(), {"name": "adamw", "lr": 3e-3}, batch_size=16, epochs=80)


def _normed_pairs(seed: int) -> Setup:
    with weights_of(seed):
        model = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1),
            nn.BatchNorm2d(24), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(24, 24), nn.BatchNorm1d(24),
            nn.ReLU(), nn.Linear(24, 3),
        )  # fmt: skip
        data = benches.grids(seed, num_train=400)
        return setup(model, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 5e-3}, batch_size=2, epochs=5)


class _Squeezed(nn.Module):
    """Pools to [N, 4, 1] and squeezes whatever has one entry."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 16, 7, padding=3), nn.SiLU(), nn.Conv1d(16, 16, 7, stride=2), nn.SiLU())
        self.head = nn.Conv1d(16, 4, 1)

    def forward(self, waves: Tensor) -> Tensor:
        kinds: Tensor = self.head(self.body(waves)).amax(2, keepdim=True).squeeze()
        return kinds


def _squeezed(seed: int) -> Setup:
    with weights_of(seed):
        data = benches.pulses(seed, num_train=641)
        return setup(_Squeezed(), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 5e-3}, epochs=10)


def _with(**changes: Any) -> Callable[[Setup], Setup]:
    return lambda patient: {**patient, **changes}


def _set(**changes: Any) -> Callable[[Setup], Setup]:
    return lambda patient: {**patient, "optimizer": {**patient["optimizer"], **changes}}


CASES: tuple[Case, ...] = (
    Case("pulses-adamw-at-the-rate-of-a-tutorial", _adamw_as_sgd, ("lr_too_high",), "accuracy",
        "forum reports of AdamW given the rate of an SGD tutorial: 1-d residual network stuck at chance",
        architecture="cnn", data="sequence", tolerate=("unstable_gradient", "warmup_too_short", "exploding_gradient"),
        fix=_set(lr=2e-3)),
    Case("phrases-tuned-like-bert", _tuned_finely, ("lr_too_low",), "accuracy",
        "forum reports of a tagger from scratch at the rate of a BERT fine-tuning: hardly moves in a dozen epochs",
        architecture="rnn", data="sequence", tolerate=("too_few_epochs", "underfitting"), fix=_set(lr=5e-3)),
    Case("bikes-ball-too-heavy", _heavy_ball, ("momentum_too_high",), "r2",
        "momentum 0.99 from a paper on large batches, with a rate that suits 0.9; inputs are a mapping",
        tolerate=("lr_too_high", "unstable_gradient"), fix=_set(momentum=0.9)),
    Case("readings-three-epochs", _short, ("too_few_epochs", "lr_too_low"), "r2",
        "forum reports of autoencoders that return the mean of the data after a few epochs", fix=_with(epochs=30),
        tolerate=("underfitting",)),
    Case("clients-two-at-a-time", _pairs, ("batch_too_small", "lr_too_high"), "accuracy",
        "batch size cut to 2 on a small machine with the rate and momentum left",
        tolerate=("momentum_too_high", "dead_relu", "unstable_gradient"), fix=_with(batch_size=64)),
    Case("grids-patches-from-a-cold-start", _patches, ("warmup_too_short", "lr_too_high"), "accuracy",
        "forum reports of post-norm transformers stuck at one class: no warmup", architecture="transformer", data="image",
        tolerate=("vanishing_gradient", "unstable_gradient"), fix=_set(lr=5e-4)),
    Case("topics-decay-inside-adam", _decayed, ("over_regularised",), "r2",
        "StackOverflow, 'Keras L2 regularization makes the network not learn': here Adam's weight_decay and several labels",
        data="sequence", tolerate=("underfitting",), fix=_set(weight_decay=0.0)),
    Case("pulses-keep-probability", _keep, ("dropout_too_high",), "accuracy",
        "reports of TensorFlow's keep_prob given to torch as p: 85 of 100 units dropped, thrice", architecture="cnn",
        data="sequence", tolerate=("over_regularised", "underfitting"), fix=_keep_well),
    Case("lodges-prices-by-heart", _learnt_by_heart, ("overfitting",), "r2",
        "eighty rows with as much noise as law, a wide network and eighty epochs", fix=_with(epochs=3)),
    Case("readings-one-number-waist", _narrow, ("capacity_too_small", "underfitting"), "r2",
        "reports of autoencoders whose code is too small for what varies"),
    Case("grids-norms-over-two", _normed_pairs, ("batchnorm_small_batch",), "accuracy",
        "GitHub microsoft/CNTK#905: a batch-normed network that fails at tiny batches", architecture="cnn", data="image",
        tolerate=("batch_too_small",), fix=_with(batch_size=32)),
    Case("pulses-squeezed-once-too-often", _squeezed, ("last_batch_of_one",), "accuracy",
        "reports of a bare squeeze() that fails on the last batch: 641 rows by 32", architecture="cnn", data="sequence",
        tolerate=("target_shape_mismatch",), fix=_with(batch_size=36)),
)  # fmt: skip

PROOFS: dict[str, Callable[[int], Setup]] = {"readings-one-number-waist": lambda seed: _narrow(seed, waist=6)}
