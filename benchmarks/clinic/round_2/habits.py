"""Sick by habit: rates, momentum, lengths and sizes carried over from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_2 import givens


def _ratings(seed: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Readers and books as ids (40, 30), the rating [N, 1] standardised."""
    random = drawn(seed, "ratings")
    readers, books = (torch.randint(count, (2400,), generator=random) for count in (40, 30))
    taste, style = torch.randn(40, 2, generator=random), torch.randn(30, 2, generator=random)
    liking = (taste[readers] * style[books]).sum(1) + torch.randn(40, generator=random)[readers]
    liking = liking + torch.randn(30, generator=random)[books] + 0.3 * torch.randn(2400, generator=random)
    return (readers, books), ((liking - liking.mean()) / liking.std())[:, None]


class _Rater(nn.Module):
    """Both ids' vectors side by side, then layers."""

    def __init__(self) -> None:
        super().__init__()
        self.readers, self.books = nn.Embedding(40, 12), nn.Embedding(30, 12)
        self.body = givens.layers(24, 48, 1, activation=nn.ReLU)

    def forward(self, pair: Sequence[Tensor]) -> Tensor:
        liking: Tensor = self.body(torch.cat([self.readers(pair[0]), self.books(pair[1])], 1))
        return liking


def _tagger_hot(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.Tagger(num_layers=2)
    return givens.setup_of(
        givens.tags(seed), model, givens.per_place, {"name": "adam", "lr": 0.1}, batch_size=32, epochs=8, num_train=700
    )


def _rater_cold(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = _Rater()
    return givens.setup_of(
        _ratings(seed), model, nn.MSELoss(), {"name": "sgd", "lr": 0.005}, batch_size=64, epochs=20, num_train=1800
    )


def _engines_heavy(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.layers(10, 64, 64, 3)
    settings = {"name": "sgd", "lr": 0.3, "momentum": 0.99}
    return givens.setup_of(givens.engines(seed), model, functional.smooth_l1_loss, settings, epochs=12)


def _tagger_brief(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.Tagger(num_layers=2)
    return givens.setup_of(
        givens.tags(seed), model, givens.per_place, {"name": "adamw", "lr": 0.015}, batch_size=32, epochs=3, num_train=700
    )


def _loans_in_twos(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.layers(12, 48, 48, 1, activation=nn.ReLU)
    settings = {"name": "sgd", "lr": 0.04, "momentum": 0.9}
    data = givens.loans(seed, flipped=0.1)
    return givens.setup_of(data, model, nn.BCEWithLogitsLoss(), settings, batch_size=2, epochs=4, num_train=1000)


def _by_use(inputs: Any, targets: Tensor) -> tuple[Any, Tensor]:
    order = targets[:, 0].argsort()
    return givens.rows_of(inputs, order), targets[order]


def _homes_by_use(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.Home()
    setup = givens.setup_of(givens.homes(seed), model, nn.SmoothL1Loss(), {"name": "adamw", "lr": 0.01}, batch_size=32, epochs=8)
    return {**givens.with_rows(setup, _by_use, where="train"), "shuffle": False}


def _huber_of_all(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.huber_loss(outputs, targets, reduction="sum")


def _engines_added_up(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.layers(10, 64, 64, 3)
    settings = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
    return givens.setup_of(givens.engines(seed), model, _huber_of_all, settings, epochs=12)


def _explained(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of the variance that the outputs explain: the score of the report, here taken for a loss."""
    return 1.0 - (targets - outputs).square().sum() / (targets - targets.mean()).square().sum()


def _tides_explained(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.Follower()
    return givens.setup_of(givens.tides(seed), model, _explained, {"name": "adam", "lr": 0.01}, epochs=8)


CASES: tuple[Case, ...] = (
    Case(
        name="tags-attention-at-a-tenth",
        build=_tagger_hot,
        accept=("lr_too_high",),
        tolerate=("warmup_too_short", "unstable_gradient"),
        skill="accuracy",
        source="StackOverflow and forum threads on encoders that stay at chance under Adam until the rate is cut; here sevenfold",
        architecture="transformer",
        data="sequence",
        fix=givens.optimizer(lr=0.015),
    ),
    Case(
        name="ratings-sgd-on-ids",
        build=_rater_cold,
        accept=("lr_too_low",),
        tolerate=("too_few_epochs",),
        skill="r2",
        source="GitHub ibalazevic/multirelational-poincare#2: why so large a rate? each id meets few rows of a batch",
        fix=givens.optimizer(lr=0.5),
    ),
    Case(
        name="engines-momentum-of-another-paper",
        build=_engines_heavy,
        accept=("momentum_too_high", "lr_too_high"),
        tolerate=("unstable_gradient",),
        skill="r2",
        source="momentum 0.99 as the U-Net paper has it for single images, kept for batches of 64 and a dozen epochs",
        fix=givens.optimizer(momentum=0.9),
    ),
    Case(
        name="tags-three-epochs",
        build=_tagger_brief,
        accept=("too_few_epochs",),
        tolerate=("underfitting",),
        skill="accuracy",
        source="the three epochs of a fine-tuning tutorial kept for an encoder that starts from random weights",
        architecture="transformer",
        data="sequence",
        fix=givens.job(epochs=12),
    ),
    Case(
        name="loans-two-by-two",
        build=_loans_in_twos,
        accept=("batch_too_small", "lr_too_high"),
        tolerate=("momentum_too_high", "unstable_gradient"),
        skill="accuracy",
        source="the batch was cut to 2 to save memory and the accumulation over 8 of the former script got lost",
        fix=givens.job(batch_size=16),
    ),
    Case(
        name="homes-listed-by-use",
        build=_homes_by_use,
        accept=("unshuffled_data",),
        skill="r2",
        source="a table exported in the order of the wanted quantity and a loader without shuffle",
        fix=givens.job(shuffle=True),
    ),
    Case(
        name="engines-huber-added-up",
        build=_engines_added_up,
        accept=("loss_reduction_sum",),
        tolerate=("lr_too_high", "unstable_gradient"),
        skill="r2",
        source="GitHub ai-safety-foundation/sparse_autoencoder#63 and XPixelGroup/BasicSR#359: sum or mean over the batch",
        fix=givens.job(loss=functional.huber_loss),
    ),
    Case(
        name="tides-share-explained-minimised",
        build=_tides_explained,
        accept=("loss_sign_flipped",),
        tolerate=("wrong_loss", "unstable_loss"),
        skill="r2",
        source="GitHub EpistasisLab/tpot#631 and forum threads: a score to be raised is handed over to be lowered",
        architecture="rnn",
        data="sequence",
        fix=givens.job(loss=lambda outputs, targets: 1.0 - _explained(outputs, targets)),
    ),
)
