"""Healthy, however odd they look."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_5 import stores
from benchmarks.clinic.round_5.stores import cut, first_weights, job


def _large_numbers(seed: int) -> Setup:
    columns, brings = stores.baskets(seed)
    columns["numbers"] = 4_000 + 1_500 * columns["numbers"]
    with first_weights(seed):
        model = stores.Till(nn.SiLU, nn.BatchNorm1d(5))
    return job(stores.rows_cut(columns, brings, 1_000), model, nn.MSELoss(), epochs=30, lr=0.005)


class InUnits(nn.Module):
    """A network in standard units whose answers are given in those of the targets."""

    centre: Tensor
    spread: Tensor

    def __init__(self, body: nn.Module, centre: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("centre", centre)
        self.register_buffer("spread", spread)

    def forward(self, inputs: Tensor) -> Tensor:
        standard: Tensor = self.body(inputs)
        return self.centre + self.spread * standard


def _units_inside(seed: int) -> Setup:
    x, y = stores.parcels(seed)
    y = 52_000 + 9_000 * y[:, :1]
    with first_weights(seed):
        model = InUnits(stores.dense(8, 1), y[:1_000].mean(0), y[:1_000].std(0))
    return job(cut(x, y, 1_000), model, nn.MSELoss(), epochs=30, lr=0.005)


def _unlabelled_places(seed: int) -> Setup:
    words, tags = stores.speech(seed)
    tags[torch.rand(tags.shape, generator=drawn(seed, "unlabelled")) < 0.2] = -100
    with first_weights(seed):
        model = stores.Steps(20, 16, num_words=25)
    loss: Any = lambda o, t: F.cross_entropy(o.flatten(0, 1), t.flatten())  # noqa: E731
    return job(cut(words, tags, 700), model, loss, epochs=15, lr=0.01)


def _entropy_less_overlap(outputs: Tensor, targets: Tensor) -> Tensor:
    chances = outputs.softmax(3)
    truth = F.one_hot(targets, 3).float()
    overlap = 2 * (chances * truth).sum((0, 1, 2)) / (chances + truth).sum((0, 1, 2))
    return 0.3 * F.cross_entropy(outputs.permute(0, 3, 1, 2), targets) - overlap.mean()


def _below_zero(seed: int) -> Setup:
    with first_weights(seed):
        model = stores.Mapper(3)
    data = cut(*stores.fields(seed, noise=0.3), 400)
    return job(data, model, _entropy_less_overlap, epochs=12, batch_size=16, lr=0.005)


def _log_twice(seed: int) -> Setup:
    with first_weights(seed):
        model = nn.Sequential(stores.ear(5), nn.LogSoftmax(dim=1))
    data = cut(*stores.tones(seed), 900)
    return job(data, model, nn.CrossEntropyLoss(), epochs=16, lr=0.01)


def _spikes(seed: int) -> Setup:
    inputs, warmth = stores.rooms(seed, 900)
    generator = drawn(seed, "spikes")
    spikes = torch.rand(700, 24, generator=generator) < 0.02
    warmth[:700] += spikes * 20 * torch.randn(700, 24, generator=generator)
    with first_weights(seed):
        model = stores.Steps(3, 1, last=lambda answers: answers.squeeze(2))
    return job(cut(inputs, warmth, 700), model, nn.L1Loss(), epochs=25, lr=0.01, shuffle=False)


def _soft_pictures(seed: int) -> Setup:
    grid = torch.linspace(-1, 1, 12)
    pictures, at = stores.lamps(seed)
    far = (grid[None, :, None] - at[:, 0, None, None]) ** 2 + (grid[None, None, :] - at[:, 1, None, None]) ** 2
    clean = torch.exp(-far / 0.08).unsqueeze(3)
    with first_weights(seed):
        model = stores.Mapper(1, last=torch.sigmoid)
    return job(cut(pictures, clean, 700), model, nn.BCELoss(), epochs=10, batch_size=32, lr=0.01)


CASES: tuple[Case, ...] = (
    Case(
        "baskets-thousands-before-a-norm",
        _large_numbers,
        (),
        "r2",
        "inputs of 4000 and more, as they come: the network's first layer for them is a batch norm",
        floor=0.85,
    ),
    Case(
        "parcels-units-inside-the-network",
        _units_inside,
        (),
        "r2",
        "targets of 52000 and losses of a million: the network scales its answers itself, Adam doesn't mind",
        floor=0.85,
    ),
    Case(
        "speech-unlabelled-places",
        _unlabelled_places,
        (),
        "accuracy",
        "a fifth of the labels is -100, which the loss leaves out on purpose; no more than 0.8 can be right",
        architecture="rnn",
        data="sequence",
        floor=0.75,
    ),
    Case(
        "fields-loss-below-zero",
        _below_zero,
        (),
        "balanced_accuracy",
        "GitHub MIC-DKFZ/nnUNet#666: entropy less overlap is below zero when all goes well",
        architecture="cnn",
        data="image",
        floor=0.85,
    ),
    Case(
        "tones-log-softmax-twice",
        _log_twice,
        (),
        "accuracy",
        "a LogSoftmax before cross entropy: the second changes nothing, as log chances are already normalised",
        architecture="cnn",
        data="sequence",
        floor=0.93,
    ),
    Case(
        "rooms-spikes-and-no-shuffle",
        _spikes,
        (),
        "r2",
        "targets with spikes of twenty spreads under an absolute error, read in the order of the file, which is a chance one",
        architecture="rnn",
        data="sequence",
        floor=0.9,
    ),
    Case(
        "lamps-cleaned-by-soft-labels",
        _soft_pictures,
        (),
        "r2",
        "binary entropy with targets between 0 and 1: it ends far above zero and can't fall further",
        architecture="cnn",
        data="image",
        floor=0.75,
    ),
)
