"""Sick by what a net can fit, by what holds it back, and by parts that never learn."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_2 import builds, nets
from benchmarks.clinic.round_2.builds import Calls, plan, stack, weights_of


def _one_taste(seed: int) -> Setup:
    with weights_of(seed):
        model = nets.Factors(1)
    return plan(builds.ratings(seed), model, nn.MSELoss(), "adam", 0.02, epochs=25)


def _four_tastes(setup: Setup) -> Setup:
    with weights_of(4):
        return {**setup, "model": nets.Factors(4)}


def _column_by_column(seed: int) -> Setup:
    with weights_of(seed):
        model = Calls(nets.summed_columns, curves=nn.ModuleList(stack(1, 32, 32, 1) for _ in range(4)))
    return plan(builds.terrain(seed), model, nn.MSELoss(), "adam", 0.005, epochs=15)


def _jointly(setup: Setup) -> Setup:
    with weights_of(5):
        return {**setup, "model": stack(4, 64, 64, 1)}


def _remembered_numbers(seed: int) -> Setup:
    with weights_of(seed):
        model = nets.Customers()
    return plan(builds.loans(seed), model, nn.MSELoss(), "adam", 0.01, epochs=40)


def _forgotten_numbers(setup: Setup) -> Setup:
    nn.init.zeros_(setup["model"].numbers.weight).requires_grad_(False)
    return setup


def reader(seed: int, **job: Any) -> Setup:
    """Depth at each place by a GRU."""
    with weights_of(seed):
        model = Calls(nets.tag, words=nn.Embedding(4, 12), reader=nn.GRU(12, 32, batch_first=True), head=nn.Linear(32, 4))
    return plan(builds.nesting(seed), model, builds.places_entropy, "rmsprop", 0.004, epochs=12, **job)


def _coder(seed: int) -> Setup:
    with weights_of(seed):
        down, up = (nn.Linear(32, 24), nn.ELU(), nn.Dropout(0.6), nn.Linear(24, 8)), (nn.Dropout(0.6), nn.Linear(8, 24))
        model = nn.Sequential(*down, *up, nn.ELU(), nn.Dropout(0.6), nn.Linear(24, 32))
    return plan(builds.spectra(seed), model, nn.MSELoss(), "adamw", 0.005, epochs=30)


def _less_dropout(setup: Setup) -> Setup:
    for part in setup["model"].modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.02
    return setup


def _given_words(seed: int) -> Setup:
    with weights_of(seed):
        words = nn.Embedding.from_pretrained(torch.randn(80, 4))  # type: ignore[no-untyped-call]
        model = Calls(nets.bag, words=words, head=stack(4, 24, 3))
    return plan(builds.recipes(seed), model, nn.CrossEntropyLoss(), "adam", 0.02, epochs=15)


def _learned_words(setup: Setup) -> Setup:
    setup["model"].words.weight.requires_grad_(True)
    return setup


def _normed_later(seed: int) -> Setup:
    with weights_of(seed):
        body = (nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten())
        model = nn.Sequential(*body, nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))
    held = list(model.parameters())
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.utils.parametrizations.weight_norm(layer)
    return plan(builds.dials(seed), model, nn.MSELoss(), "adam", 0.005, epochs=15, params=held)


def _hold_all(setup: Setup) -> Setup:
    return {**setup, "optimizer": {"name": "adam", "lr": 0.005}}


def _exp_link(seed: int) -> Setup:
    with weights_of(seed):
        model = nets.Demand("exp")
    return plan(builds.demand(seed), model, nn.MSELoss(), "sgd", 0.02, epochs=20, momentum=0.9)


def _soft_link(setup: Setup) -> Setup:
    setup["model"].link = "softplus"
    return setup


def _plain_block(seed: int) -> Setup:
    with weights_of(seed):
        model = nets.Listener()
    return plan(builds.pulses(seed, noise=0.9), model, nn.CrossEntropyLoss(), "adam", 0.004, epochs=10)


def _registered(setup: Setup) -> Setup:
    setup["model"].held = nn.ModuleList([setup["model"].block.filters, setup["model"].block.mix])
    return setup


def _listed_states(seed: int) -> Setup:
    with weights_of(seed):
        model = nets.Peaks()
    return plan(builds.pulses(seed, noise=0.9), model, nn.CrossEntropyLoss(), "adamw", 0.005, epochs=10)


def _kept_states(setup: Setup) -> Setup:
    setup["model"].listed = False
    return setup


def _resting_norm(seed: int) -> Setup:
    with weights_of(seed):
        model = nets.Normed()
    return plan(builds.dials(seed, scale=-6.0, level=160.0), model, nn.SmoothL1Loss(), "adam", 0.003, epochs=10)


def _working_norm(setup: Setup) -> Setup:
    setup["model"].says_training = True
    return setup


CASES: tuple[Case, ...] = (
    Case(
        "ratings-one-taste",
        _one_taste,
        ("capacity_too_small", "underfitting"),
        "r2",
        "questions on matrix factorisation with n_factors=1: marks that follow three tastes",
        fix=_four_tastes,
    ),
    Case(
        "terrain-column-by-column",
        _column_by_column,
        ("underfitting", "capacity_too_small"),
        "r2",
        "questions on additive nets: a curve per column can't tell a product, however wide",
        fix=_jointly,
    ),
    Case(
        "loans-customer-numbers",
        _remembered_numbers,
        ("overfitting",),
        "r2",
        "threads on embeddings of identity numbers: 600 customers in 300 rows are learnt by heart",
        fix=_forgotten_numbers,
    ),
    Case(
        "nesting-coupled-decay",
        lambda seed: reader(seed, weight_decay=0.05),
        ("over_regularised",),
        "accuracy",
        "threads on weight_decay of RMSprop: it is divided by the root of squares as gradients are, and wins",
        architecture="rnn",
        data="sequence",
        tolerate=("underfitting",),
        fix=lambda setup: {**setup, "optimizer": {"name": "rmsprop", "lr": 0.004}},
    ),
    Case(
        "spectra-dropped-thrice",
        _coder,
        ("dropout_too_high",),
        "r2",
        "questions on autoencoders with dropout behind every layer, the code of eight too",
        tolerate=("underfitting", "over_regularised", "capacity_too_small"),
        fix=_less_dropout,
    ),
    Case(
        "recipes-from-pretrained",
        _given_words,
        ("frozen_params",),
        "accuracy",
        "forum threads on Embedding.from_pretrained, which freezes unless told otherwise; the vectors are noise here",
        data="sequence",
        tolerate=("underfitting", "capacity_too_small", "params_not_in_optimizer"),
        fix=_learned_words,
    ),
    Case(
        "dials-weight-norm-afterwards",
        _normed_later,
        ("params_not_in_optimizer",),
        "r2",
        "threads on weight_norm applied after the optimizer was made: it holds the former weights, and biases alone move",
        architecture="cnn",
        data="image",
        tolerate=("underfitting",),
        fix=_hold_all,
    ),
    Case(
        "demand-exponential-link",
        _exp_link,
        ("unstable_gradient", "exploding_gradient", "lr_too_high"),
        "r2",
        "questions on exp as the last step under squared error: one wide row makes a step that undoes hundreds",
        tolerate=("unstable_loss", "wrong_output_activation", "dead_relu"),
        fix=_soft_link,
    ),
    Case(
        "pulses-block-of-a-plain-class",
        _plain_block,
        ("unregistered_params",),
        "accuracy",
        "threads on a class that forgets nn.Module among its bases: its layers work and aren't among parameters()",
        architecture="cnn",
        data="sequence",
        tolerate=("params_not_in_optimizer", "frozen_params", "underfitting"),
        fix=_registered,
    ),
    Case(
        "pulses-listed-peaks",
        _listed_states,
        ("detached_graph",),
        "accuracy",
        "forum threads on torch.tensor([...]) over computed numbers: a new tensor knows nothing of where they came from",
        architecture="cnn",
        data="sequence",
        tolerate=("frozen_params", "underfitting", "capacity_too_small"),
        fix=_kept_states,
    ),
    Case(
        "dials-functional-norm-at-rest",
        _resting_norm,
        ("eval_mode_in_training", "unnormalised_inputs"),
        "r2",
        "questions on F.batch_norm, whose training is False unless given: nothing is taken off pictures near 160",
        architecture="cnn",
        data="image",
        tolerate=("saturated_activation",),
        fix=_working_norm,
    ),
)
