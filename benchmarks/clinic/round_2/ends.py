"""Sick at the end: what the last layer gives out, what the loss makes of it, and the targets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_2 import givens


def _panels(seed: int) -> tuple[Tensor, Tensor]:
    """Twenty standardised readings that follow from three hidden ones; the targets are the readings."""
    random = drawn(seed, "gauges of panels")
    hidden = torch.randn(1600, 3, generator=random)
    mixing, mixed = torch.randn(3, 10, generator=random), torch.randn(10, 20, generator=random)
    readings = torch.tanh(hidden @ mixing) @ mixed / 2.0 + 0.1 * torch.randn(1600, 20, generator=random)
    readings = (readings - readings.mean(0)) / readings.std(0)
    return readings, readings.clone()


def _panels_as_bits(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.layers(20, 32, 4, 32, 20)
    return givens.setup_of(_panels(seed), model, nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 0.005}, epochs=15)


def _engines_bent(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.layers(10, 48, 48, 3, last=True)
    return givens.setup_of(givens.engines(seed), model, functional.mse_loss, {"name": "adamw", "lr": 0.005}, epochs=12)


def _plain_end(setup: Setup) -> Setup:
    return {**setup, "model": setup["model"][:-1]}


class _Shares(givens.Speller):
    """Gives out shares for the page that shows them."""

    def forward(self, words: Tensor) -> Tensor:
        return functional.softmax(super().forward(words), dim=-1)


def _spellings_as_shares(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = _Shares()
    settings = {"name": "sgd", "lr": 0.2, "momentum": 0.9}
    return givens.setup_of(givens.spellings(seed), model, functional.cross_entropy, settings, epochs=12)


def _scores_of(setup: Setup) -> Setup:
    with givens.weights_from(3):
        model = givens.Speller()
    model.load_state_dict(setup["model"].state_dict())
    return {**setup, "model": model}


def _likelihood_per_place(outputs: Tensor, labels: Tensor) -> Tensor:
    return functional.nll_loss(outputs.flatten(0, 1), labels.flatten())


def _fields(words: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    """Records of five fields by place; a quarter of the words belongs to the field after."""
    return words, torch.arange(14) // 3 + (words < 9).long()


def _tags_unsaid(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.Tagger(end=nn.LogSoftmax())
    setup = givens.setup_of(
        givens.tags(seed), model, _likelihood_per_place, {"name": "adam", "lr": 0.005}, batch_size=32, epochs=6, num_train=700
    )
    return givens.with_rows(setup, _fields, where="both")


def _over_tags(setup: Setup) -> Setup:
    setup["model"].end = nn.LogSoftmax(dim=-1)
    return setup


def _engines_one_for_three(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.layers(10, 48, 48, 1)
    return givens.setup_of(givens.engines(seed), model, nn.MSELoss(), {"name": "adam", "lr": 0.005}, epochs=10)


def _three(setup: Setup) -> Setup:
    with givens.weights_from(4):
        setup["model"][-1] = nn.Linear(48, 3)
    return setup


def _less_one(words: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The last places of some sentences are padding, told by -100; then all labels were counted from 0 instead of 1."""
    labels = (labels + 1).clone()
    labels[::3, 11:] = -100
    return words, labels - 1


def _tags_less_one(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.Tagger()
    setup = givens.setup_of(
        givens.tags(seed), model, givens.per_place, {"name": "adamw", "lr": 0.01}, batch_size=32, epochs=8, num_train=700
    )
    return givens.with_rows(setup, _less_one, where="train")


def _tides_column(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.Follower(flat=False)
    return givens.setup_of(
        givens.tides(seed), model, nn.SmoothL1Loss(), {"name": "adam", "lr": 0.01}, batch_size=16, epochs=5, num_train=960
    )


def _hectopascals(forces: Any, levels: Tensor) -> tuple[Any, Tensor]:
    return forces, 1013.0 + 9.0 * levels


def _tides_in_hectopascals(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.Follower()
    setup = givens.setup_of(givens.tides(seed), model, nn.L1Loss(), {"name": "adamw", "lr": 0.003}, epochs=10)
    return givens.with_rows(setup, _hectopascals, where="both")


def _percentage(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets).abs() / targets.abs()).mean()


def _steadied(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().mean() / targets.abs().mean()


def _homes_some_empty(seed: int) -> Setup:
    """What is used can't be below zero, and some homes stand empty."""
    with givens.weights_from(seed):
        model = givens.Home()
    setup = givens.setup_of(givens.homes(seed), model, _percentage, {"name": "adam", "lr": 0.005}, epochs=10)
    return givens.with_rows(setup, lambda home, used: (home, (used + 1.5).clamp(min=0.0)), where="both")


CASES: tuple[Case, ...] = (
    Case(
        name="panels-readings-taken-for-bits",
        build=_panels_as_bits,
        accept=("wrong_loss", "unscaled_targets"),
        tolerate=("unstable_loss",),
        skill="r2",
        source="GitHub keras-team/keras#2841 and #1917: loss below zero, the standardised values aren't shares",
        fix=givens.job(loss=nn.MSELoss()),
    ),
    Case(
        name="engines-bent-at-the-end",
        build=_engines_bent,
        accept=("wrong_output_activation",),
        skill="r2",
        source="GitHub lucidrains/tab-transformer-pytorch#9 and nerfstudio#932: the loop over widths bends the last layer too",
        fix=_plain_end,
    ),
    Case(
        name="spellings-shares-for-the-page",
        build=_spellings_as_shares,
        accept=("softmax_before_ce",),
        tolerate=("wrong_output_activation", "lr_too_low", "too_few_epochs"),
        skill="accuracy",
        source="forum threads: a model that gives out softmax for its users is trained with cross_entropy",
        architecture="rnn",
        data="sequence",
        fix=_scores_of,
    ),
    Case(
        name="tags-log-softmax-without-a-dimension",
        build=_tags_unsaid,
        accept=("softmax_wrong_dim",),
        tolerate=("batch_dependence", "wrong_output_activation"),
        skill="accuracy",
        source="GitHub pytorch/pytorch#37399 and benatorc/OTGNN#2: LogSoftmax() of three axes takes the first one, the batch",
        architecture="transformer",
        data="sequence",
        fix=_over_tags,
    ),
    Case(
        name="engines-one-output-for-three",
        build=_engines_one_for_three,
        accept=("wrong_num_outputs", "target_shape_mismatch"),
        skill="r2",
        source="forum threads on 'target size different to the input size': [N, 1] is spread over [N, 3] and only warns",
        fix=_three,
    ),
    Case(
        name="tags-padding-less-one",
        build=_tags_less_one,
        accept=("label_out_of_range",),
        skill="accuracy",
        source="GitHub JindongJiang/RedNet#13: labels less 1 fall out of range; here the -100 of padding becomes -101",
        architecture="transformer",
        data="sequence",
        fix=givens.rows(lambda words, labels: (words, labels.masked_fill(labels == -101, -100)), "train"),
    ),
    Case(
        name="tides-as-many-rows-as-hours",
        build=_tides_column,
        accept=("target_shape_mismatch",),
        skill="r2",
        source="GitHub AIStream-Peelout/flow-forecast#246: [B, T, 1] against [B, T]; with 16 rows and 16 hours it only warns",
        architecture="rnn",
        data="sequence",
        fix=givens.job(loss=lambda outputs, targets: functional.smooth_l1_loss(outputs.squeeze(-1), targets)),
    ),
    Case(
        name="tides-in-hectopascals",
        build=_tides_in_hectopascals,
        accept=("unscaled_targets",),
        tolerate=("lr_too_low", "too_few_epochs", "underfitting"),
        skill="r2",
        source="forum threads on recurrent forecasts that give one value for all: the targets lie far from 0",
        architecture="rnn",
        data="sequence",
        fix=givens.rows(lambda forces, levels: (forces, (levels - 1013.0) / 9.0)),
    ),
    Case(
        name="homes-percentage-of-nothing",
        build=_homes_some_empty,
        accept=("unstable_loss",),
        tolerate=("wrong_loss",),
        skill="r2",
        source="GitHub dmlc/xgboost#7586 and keras#15604: the percentage error of a target that is 0",
        fix=givens.job(loss=_steadied),
    ),
)
