"""Sick by what the loss asks, what the last layer gives, or the sizes of either."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_5 import stores
from benchmarks.clinic.round_5.stores import changed, cut, dense, first_weights, job


def _log_cosh(outputs: Tensor, targets: Tensor) -> Tensor:
    error = outputs - targets
    return error + F.softplus(-2 * error) - 0.6931


def _lamps_added_up(seed: int) -> Setup:
    with first_weights(seed):
        model = stores.eye(2)
    slow = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True}
    data = cut(*stores.lamps(seed), 700)
    return job(data, model, lambda o, t: _log_cosh(o, t).sum(), epochs=12, optimizer=slow)


def _focal(outputs: Tensor, targets: Tensor) -> Tensor:
    log_chance = F.log_softmax(outputs, dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)
    return ((1 - log_chance.exp()) ** 2 * log_chance).mean()


def _notes_focal(seed: int) -> Setup:
    with first_weights(seed):
        model = stores.Reader(50, 3)
    return job(cut(*stores.notes(seed), 1_000), model, _focal, epochs=10, lr=0.005)


def _parcels_direction(seed: int) -> Setup:
    with first_weights(seed):
        model = dense(8, 3)
    data = cut(*stores.parcels(seed), 1_000)
    return job(data, model, lambda o, t: (1 - F.cosine_similarity(o, t, dim=1)).mean(), epochs=25, lr=0.005)


def _baskets_poisson(seed: int) -> Setup:
    columns, brings = stores.baskets(seed)
    with first_weights(seed):
        model = stores.Till(nn.SiLU)
    standard = (brings - brings[:1_000].mean()) / brings[:1_000].std()
    return job(stores.rows_cut(columns, standard, 1_000), model, nn.PoissonNLLLoss(), epochs=20, lr=0.005)


def _squeezed(answers: Tensor) -> Tensor:
    return answers.squeeze(2)


def _rooms_tanh(seed: int) -> Setup:
    with first_weights(seed):
        model = stores.Steps(3, 1, last=lambda answers: torch.tanh(_squeezed(answers)))
    return job(cut(*stores.rooms(seed), 500), model, F.mse_loss, epochs=15, lr=0.01)


def _rooms_last_hour(seed: int) -> Setup:
    with first_weights(seed):
        model = stores.Steps(3, 1, last=lambda answers: answers[:, -1])
    return job(cut(*stores.rooms(seed), 500), model, nn.SmoothL1Loss(), epochs=15, lr=0.01)


def _last(bend: stores.Bend) -> stores.Fix:
    def fix(setup: Setup) -> Setup:
        setup["model"].last = bend
        return setup

    return fix


def _missed_overlap(outputs: Tensor, targets: Tensor) -> Tensor:
    return 1 - (2 * (outputs * targets).sum() + 1) / (outputs.sum() + targets.sum() + 1)


def _fields_overlap(seed: int) -> Setup:
    pictures, kinds = stores.fields(seed)
    with first_weights(seed):
        model = stores.Mapper(1)
    return job(cut(pictures, (kinds == 1).float().unsqueeze(3), 400), model, _missed_overlap, epochs=10, batch_size=32, lr=0.005)


def _speech_chances(seed: int) -> Setup:
    with first_weights(seed):
        model = stores.Steps(20, 16, num_words=25, last=lambda scores: torch.distributions.Categorical(logits=scores).probs)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    return job(cut(*stores.speech(seed), 700), model, loss, epochs=12, optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9})


def _fields_across_columns(seed: int) -> Setup:
    with first_weights(seed):
        model = stores.Mapper(3, last=partial(torch.log_softmax, dim=-1))
    loss: Any = lambda o, t: F.nll_loss(o.permute(0, 3, 1, 2), t)  # noqa: E731
    return job(cut(*stores.fields(seed), 400), model, loss, epochs=10, batch_size=32, lr=0.005)


def _lamps_rows_of_one(seed: int) -> Setup:
    pictures, at = stores.lamps(seed)
    with first_weights(seed):
        model = stores.eye(2)
    return job(cut(pictures, at.unsqueeze(1), 700), model, nn.HuberLoss(), epochs=10)


def _between_odds(outputs: Tensor, targets: Tensor, least: float | None = None) -> Tensor:
    return F.mse_loss(torch.logit(outputs, eps=1e-6), torch.logit(targets, eps=least))


def _shares(seed: int) -> Setup:
    x, y = stores.parcels(seed)
    with first_weights(seed):
        model = nn.Sequential(dense(8, 1), nn.Sigmoid())
    return job(cut(x, torch.sigmoid(2 * y[:, :1]).round(decimals=2), 1_000), model, _between_odds, epochs=25, lr=0.005)


CASES: tuple[Case, ...] = (
    Case(
        "lamps-log-cosh-added-up",
        _lamps_added_up,
        ("loss_reduction_sum",),
        "r2",
        "losses of one's own that end in .sum() where the rate was chosen for a mean: frequent on the PyTorch forum",
        architecture="cnn",
        data="image",
        tolerate=("lr_too_high", "exploding_gradient", "unstable_gradient", "dead_relu", "momentum_too_high"),
        fix=changed(loss=lambda o, t: _log_cosh(o, t).mean()),
    ),
    Case(
        "notes-focal-without-its-minus",
        _notes_focal,
        ("loss_sign_flipped",),
        "accuracy",
        "GitHub pytorch/vision#8519: a focal loss read as having lost its minus goes ever further below zero",
        architecture="rnn",
        data="sequence",
        tolerate=("unstable_loss", "exploding_gradient"),
        fix=changed(loss=lambda o, t: -_focal(o, t)),
    ),
    Case(
        "parcels-direction-only",
        _parcels_direction,
        ("wrong_loss",),
        "r2",
        "Keras: cosine similarity as the loss of a regression of several columns; it falls well, the amounts are arbitrary",
        fix=changed(loss=nn.MSELoss()),
    ),
    Case(
        "baskets-standardised-then-poisson",
        _baskets_poisson,
        ("wrong_loss",),
        "r2",
        "the Poisson loss kept from counts after a scaler made half of the targets negative: the loss has no floor",
        tolerate=("unstable_loss", "label_out_of_range"),
        fix=changed(loss=nn.MSELoss()),
    ),
    Case(
        "rooms-warmth-through-tanh",
        _rooms_tanh,
        ("wrong_output_activation",),
        "r2",
        "Questions like Data Science 16840: a last layer with a range, targets with a wider one; the peaks are cut off",
        architecture="rnn",
        data="sequence",
        tolerate=("saturated_activation", "unscaled_targets", "underfitting"),
        fix=_last(_squeezed),
    ),
    Case(
        "rooms-one-number-for-the-day",
        _rooms_last_hour,
        ("wrong_num_outputs", "target_shape_mismatch"),
        "r2",
        "Keras return_sequences=False with a target for every step, in PyTorch: [rows, 1] is spread over [rows, 24]",
        architecture="rnn",
        data="sequence",
        tolerate=("underfitting",),
        fix=_last(_squeezed),
    ),
    Case(
        "fields-overlap-of-bare-scores",
        _fields_overlap,
        ("missing_output_activation",),
        "balanced_accuracy",
        "GitHub milesial/Pytorch-UNet#271 and ScrollPrize/villa#1488: an overlap of scores instead of chances, far above one",
        architecture="cnn",
        data="image",
        tolerate=("unstable_loss", "exploding_gradient", "unstable_gradient"),
        fix=changed(loss=lambda o, t: _missed_overlap(o.sigmoid(), t)),
    ),
    Case(
        "speech-chances-of-a-distribution",
        _speech_chances,
        ("softmax_before_ce",),
        "accuracy",
        "the probs of a distribution object, from a reinforcement example, handed to cross entropy: an old fault renamed",
        architecture="rnn",
        data="sequence",
        tolerate=("vanishing_gradient", "too_few_epochs", "lr_too_low", "underfitting"),
        fix=_last(lambda scores: scores),
    ),
    Case(
        "fields-chances-along-a-row",
        _fields_across_columns,
        ("softmax_wrong_dim",),
        "balanced_accuracy",
        "log_softmax over the last axis, which in a picture is not the kinds but the places: frequent with segmentation",
        architecture="cnn",
        data="image",
        tolerate=("unstable_loss",),
        fix=_last(partial(torch.log_softmax, dim=1)),
    ),
    Case(
        "lamps-places-as-rows-of-one",
        _lamps_rows_of_one,
        ("target_shape_mismatch",),
        "r2",
        "boxes as [rows, 1, 2], one object each, against [rows, 2]: the warning of the size of the target was silenced",
        architecture="cnn",
        data="image",
        fix=changed(loss=lambda o, t: F.huber_loss(o, t.squeeze(1))),
    ),
    Case(
        "shares-in-whole-percents",
        _shares,
        ("unstable_loss",),
        "r2",
        "log odds of shares that were rounded to percents: a share of exactly 0 or 1 makes the loss infinite",
        tolerate=("label_out_of_range",),
        fix=changed(loss=partial(_between_odds, least=0.005)),
    ),
)
