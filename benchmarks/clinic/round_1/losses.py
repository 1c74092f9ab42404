"""Sick by the loss that they minimise."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_1.tabular import (
    Loss,
    Mixed,
    Tagger,
    claims,
    listener,
    mlp,
    motions,
    rentals,
    seeded,
    setup_of,
    spans,
    spectra,
)

ADAM = {"name": "adam", "lr": 3e-3}


def _narrow(seed: int, loss: Loss) -> Setup:
    """An autoencoder through four numbers."""
    with seeded(seed):
        model = nn.Sequential(mlp(24, 4, 32, depth=1), mlp(4, 24, 32, depth=1))
        return setup_of(spectra(seed), model, loss, {"name": "sgd", "lr": 0.05, "momentum": 0.9}, batch_size=50, epochs=20)


def _summed_tags(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="sum")


def _mean_tags(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.transpose(1, 2), targets)


def _tags(seed: int) -> Setup:
    with seeded(seed):
        optimizer = {"name": "sgd", "lr": 1.0, "momentum": 0.9}
        return setup_of(spans(seed), Tagger(12, 3), _summed_tags, optimizer, epochs=12)


def _log_density(outputs: Tensor, targets: Tensor) -> Tensor:
    return (-0.5 * (targets - outputs).square() - 0.5 * math.log(2 * math.pi)).mean()


def _overlap(outputs: Tensor, targets: Tensor) -> Tensor:
    """The Dice coefficient of scores and labels."""
    chances = torch.sigmoid(outputs)
    return (2 * (chances * targets).sum() + 1) / (chances.sum() + targets.sum() + 1)


def _with_loss(seed: int, loss: Loss) -> Setup:
    with seeded(seed):
        return setup_of(rentals(seed), mlp(8, 1), loss, ADAM)


def _claims(seed: int, loss: Loss) -> Setup:
    with seeded(seed):
        return setup_of(claims(seed), Mixed(), loss, ADAM)


def _one_unit(seed: int) -> Setup:
    """Fast or slow motions, one score each, under a loss for several classes."""
    table = motions(seed).with_targets(lambda kinds: (kinds >= 2).float()[:, None])
    with seeded(seed):
        return setup_of(table, listener(1), nn.CrossEntropyLoss(), ADAM, epochs=10)


def _from_zero(seed: int) -> Setup:
    """Rain of an hour, none in most hours; a root of squares; a head that starts from zero."""
    table = rentals(seed).with_targets(lambda amounts: (amounts - 0.2).clamp(min=0))
    with seeded(seed):
        model = mlp(8, 1)
        for tensor in model[-1].parameters():
            nn.init.zeros_(tensor)
        return setup_of(table, model, lambda outputs, targets: ((outputs - targets) ** 2).sqrt().mean(), ADAM)


def _squared_logs(outputs: Tensor, targets: Tensor) -> Tensor:
    return (torch.log(outputs + 1e-2) - torch.log(targets + 1e-2)).square().mean()


def _prices(seed: int) -> Setup:
    table = rentals(seed).with_targets(lambda demand: torch.exp(0.7 * demand))
    with seeded(seed):
        return setup_of(table, mlp(8, 1, 64, act=nn.Tanh), _squared_logs, {"name": "adam", "lr": 0.01})


def _kept_positive(setup: Setup) -> Setup:
    return {**setup, "model": nn.Sequential(setup["model"], nn.Softplus())}


class _Weighted(nn.Module):
    """Squared error, with the busiest hours counted once more."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        high = targets > 1.5
        return F.mse_loss(outputs, targets) + 0.1 * F.mse_loss(outputs[high], targets[high])


def _empty_group(seed: int) -> Setup:
    with seeded(seed):
        return setup_of(rentals(seed), mlp(8, 1), _Weighted(), ADAM, batch_size=16)


CASES: tuple[Case, ...] = (
    Case(
        name="curves-summed-over-everything",
        build=lambda seed: _narrow(seed, lambda outputs, targets: ((outputs - targets) ** 2).sum()),
        accept=("loss_reduction_sum",),
        tolerate=("lr_too_high",),
        fix=lambda setup: {**setup, "loss": nn.MSELoss()},
        skill="r2",
        source="jax-ml/jax#3113: a sum over the batch worked for one batch size and rate and exploded for others",
    ),
    Case(
        name="tags-summed-over-places",
        build=_tags,
        accept=("loss_reduction_sum",),
        tolerate=("lr_too_high",),
        fix=lambda setup: {**setup, "loss": _mean_tags},
        skill="balanced_accuracy",
        source="ai-safety-foundation/sparse_autoencoder#63: sum rather than mean, so that the step grows with the batch",
        architecture="rnn",
        data="sequence",
    ),
    Case(
        name="rentals-log-density-minimised",
        build=lambda seed: _with_loss(seed, _log_density),
        accept=("loss_sign_flipped",),
        fix=lambda setup: {**setup, "loss": lambda outputs, targets: -_log_density(outputs, targets)},
        skill="r2",
        source="kmkurn/pytorch-crf#27, Multiply -1 before loss.backward()?: what comes back is the log-likelihood itself",
    ),
    Case(
        name="claims-overlap-minimised",
        build=lambda seed: _claims(seed, _overlap),
        accept=("loss_sign_flipped",),
        tolerate=("wrong_loss",),
        fix=lambda setup: {**setup, "loss": lambda outputs, targets: 1 - _overlap(outputs, targets)},
        skill="accuracy",
        source="haebeom-lee/dropmax#2, Sign of loss: a measure that should grow was handed over as the loss",
    ),
    Case(
        name="motions-classes-loss-on-one-unit",
        build=_one_unit,
        accept=("wrong_loss", "wrong_num_outputs"),
        fix=lambda setup: {**setup, "loss": nn.BCEWithLogitsLoss()},
        skill="accuracy",
        source="threads on a cross-entropy of classes over a single unit: the loss is zero from the first step on",
        architecture="cnn",
        data="sequence",
    ),
    Case(
        name="claims-margin-loss-with-noughts",
        build=lambda seed: _claims(seed, nn.SoftMarginLoss()),
        accept=("wrong_loss", "label_out_of_range"),
        fix=lambda setup: {**setup, "loss": lambda outputs, targets: F.soft_margin_loss(outputs, 2 * targets - 1)},
        skill="accuracy",
        source="forum threads on SoftMarginLoss and HingeEmbeddingLoss: labels have to be -1 and 1, and were 0 and 1",
    ),
    Case(
        name="rain-root-at-zero",
        build=_from_zero,
        accept=("unstable_loss",),
        fix=lambda setup: {**setup, "loss": lambda outputs, targets: ((outputs - targets) ** 2 + 1e-6).sqrt().mean()},
        skill="r2",
        source="akanazawa/cmr#11, triangle_loss_fn returns nan: the gradient of a root is not defined at zero",
    ),
    Case(
        name="prices-log-of-negative-guesses",
        build=_prices,
        accept=("unstable_loss", "missing_output_activation"),
        fix=_kept_positive,
        skill="r2",
        source="timeseriesAI/tsai#150, MSLE as loss function: the logarithm of outputs that nothing keeps positive gives NaN",
    ),
    Case(
        name="rentals-mean-over-an-empty-group",
        build=_empty_group,
        accept=("unstable_loss",),
        fix=lambda setup: {**setup, "loss": nn.MSELoss()},
        skill="r2",
        source="threads on a masked mean: over a part of the batch that is empty now and then it is NaN",
    ),
)
