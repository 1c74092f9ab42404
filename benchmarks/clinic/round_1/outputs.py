"""Sick by the end of the net, or by what the targets are to it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_1.tabular import (
    Tagger,
    listener,
    mlp,
    motions,
    rentals,
    seeded,
    setup_of,
    spans,
    spectra,
    strokes,
    topics,
    viewer,
)

ADAM = {"name": "adam", "lr": 3e-3}


def _cut(setup: Setup) -> Setup:
    """The model without its last layer."""
    return {**setup, "model": setup["model"][:-1]}


def _then(*layers: nn.Module) -> Callable[[Setup], Setup]:
    """A fix that appends layers."""
    return lambda setup: {**setup, "model": nn.Sequential(setup["model"], *layers)}


def _topics(seed: int) -> Setup:
    with seeded(seed):
        model = nn.Sequential(nn.EmbeddingBag(40, 16, mode="sum"), mlp(16, 6, depth=1), nn.Softmax(dim=1))
        return setup_of(topics(seed), model, nn.BCELoss(), ADAM)


def _curves(seed: int) -> Setup:
    with seeded(seed):
        model = nn.Sequential(nn.Linear(24, 32), nn.SiLU(), nn.Linear(32, 4), nn.SiLU(), nn.Linear(4, 24), nn.Sigmoid())
        return setup_of(spectra(seed), model, nn.SmoothL1Loss(), {"name": "adamw", "lr": 5e-3}, epochs=25)


def _fast_one(seed: int) -> Setup:
    """Is it the fastest motion? A sigmoid, then a loss that wants logits."""
    table = motions(seed).with_targets(lambda kinds: (kinds == 3).float()[:, None])
    with seeded(seed):
        return setup_of(table, listener(1).append(nn.Sigmoid()), nn.BCEWithLogitsLoss(), ADAM, epochs=10)


def _nll(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.nll_loss(outputs.flatten(0, 1), targets.flatten())


def _own_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy by hand, safe from the logarithm of nought."""
    chances = outputs.clamp(1e-6, 1 - 1e-6)
    return -(targets * chances.log() + (1 - targets) * (1 - chances).log()).mean()


def _raw_topics(seed: int) -> Setup:
    with seeded(seed):
        model = nn.Sequential(nn.EmbeddingBag(40, 16, mode="sum"), mlp(16, 6, depth=1))
        return setup_of(topics(seed), model, _own_entropy, ADAM)


def _raw_counts(seed: int) -> Setup:
    table = rentals(seed).with_targets(lambda demand: torch.round(2 * torch.exp(0.6 * demand)))
    with seeded(seed):
        return setup_of(table, mlp(8, 1), nn.PoissonNLLLoss(log_input=False), ADAM, epochs=20)


class _SoftStrokes(nn.Module):
    """The net as its author shows it to users: chances come out."""

    def __init__(self, scores: nn.Module) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, pictures: Tensor) -> Tensor:
        return F.softmax(self.scores(pictures), dim=-1)


def _soft_strokes(seed: int) -> Setup:
    with seeded(seed):
        model = _SoftStrokes(viewer(5))
        return setup_of(strokes(seed), model, nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.02, "momentum": 0.9}, epochs=12)


class _LogTagger(Tagger):
    """Log-chances of tags, over the wrong one of three dimensions."""

    dim = 1

    def forward(self, tokens: Tensor) -> Tensor:
        return F.log_softmax(super().forward(tokens), dim=self.dim)


def _tags_by_place(seed: int) -> Setup:
    with seeded(seed):
        return setup_of(spans(seed, length=5, rarity=3), _LogTagger(7, 3), _nll, ADAM, epochs=12)


def _over_tags(setup: Setup) -> Setup:
    setup["model"].dim = -1
    return setup


CASES: tuple[Case, ...] = (
    Case(
        name="topics-softmax-over-independent-labels",
        build=_topics,
        accept=("wrong_output_activation",),
        fix=lambda setup: {**setup, "model": setup["model"][:-1].append(nn.Sigmoid())},
        skill="r2",
        source="keras-team/keras#2711: softmax where each label is a yes or no of its own",
        data="sequence",
    ),
    Case(
        name="curves-decoder-ends-in-a-sigmoid",
        build=_curves,
        accept=("wrong_output_activation",),
        tolerate=("unscaled_targets", "saturated_activation"),
        fix=_cut,
        skill="r2",
        source="jcjohnson/pytorch-examples#30: an activation after the last layer bounds what can be said, here a sigmoid",
    ),
    Case(
        name="motions-sigmoid-twice",
        build=_fast_one,
        accept=("wrong_output_activation", "softmax_before_ce"),
        fix=_cut,
        skill="accuracy",
        source="forum threads on BCEWithLogitsLoss behind nn.Sigmoid: scores between 0 and 1 can't say no",
        architecture="cnn",
        data="sequence",
    ),
    Case(
        name="topics-scores-clamped-to-chances",
        build=_raw_topics,
        accept=("missing_output_activation",),
        tolerate=("wrong_loss", "saturated_activation"),
        fix=_then(nn.Sigmoid()),
        skill="r2",
        source="NVIDIA/apex#358: a cross-entropy by hand over clamped inputs; here the scores themselves are clamped",
        data="sequence",
    ),
    Case(
        name="counts-rate-without-softplus",
        build=_raw_counts,
        accept=("missing_output_activation", "wrong_loss"),
        tolerate=("unstable_loss",),
        fix=_then(nn.Softplus()),
        skill="r2",
        source="mhpi/generic_deltamodel#114: a head that nothing keeps positive, behind a logarithm",
    ),
    Case(
        name="strokes-chances-into-cross-entropy",
        build=_soft_strokes,
        accept=("softmax_before_ce",),
        tolerate=("lr_too_low", "too_few_epochs"),
        fix=lambda setup: {**setup, "model": setup["model"].scores},
        skill="accuracy",
        source="Lightning-Universe/lightning-bolts#654, Softmax applied twice when computing loss",
        architecture="cnn",
        data="image",
    ),
    Case(
        name="tags-log-softmax-over-places",
        build=_tags_by_place,
        accept=("softmax_wrong_dim",),
        fix=_over_tags,
        skill="balanced_accuracy",
        source="ctallec/world-models#10, Wrong dimension for pi softmax: the second of three dimensions was not the classes",
        architecture="rnn",
        data="sequence",
    ),
)
