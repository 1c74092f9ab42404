"""Sick by how the model is wired: cut gradients, frozen weights, wrong modes, rows that look at one another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_6 import ill_parts as parts


class _Stepper(nn.Module):
    """A gated cell, called for each step; its state may be cut off from the step before."""

    def __init__(self, *, cut: bool) -> None:
        super().__init__()
        self.cell, self.head, self.cut = nn.GRUCell(4, 24), nn.Linear(24, 4), cut

    def forward(self, series: Tensor) -> Tensor:
        state = torch.zeros(len(series), 24)
        for step in range(series.shape[1]):
            state = self.cell(series[:, step], state.detach() if self.cut else state)
        outputs: Tensor = self.head(state)
        return outputs


def _recalls_cut(seed: int, *, mended: bool = False) -> Setup:
    with parts.weights_from(seed):
        model = _Stepper(cut=not mended)
    return parts.setup(parts.recalls(seed, steps=16), model, nn.CrossEntropyLoss(), lr=0.01, epochs=14)


class _Watcher(nn.Module):
    """Convolutions under no_grad, as they stood there when they were a pretrained part, and a head."""

    def __init__(self, *, watched: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 6, 5, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU())
        self.head, self.watched = nn.Linear(8, 5), watched

    def forward(self, pictures: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.watched and torch.is_grad_enabled()):
            states = self.body(pictures).mean((2, 3))
        outputs: Tensor = self.head(states)
        return outputs


def _tiles_unwatched(seed: int, *, mended: bool = False) -> Setup:
    with parts.weights_from(seed):
        model = _Watcher(watched=mended)
    return parts.setup(parts.tiles(seed, noise=0.2), model, nn.CrossEntropyLoss(), lr=0.01)


def _notes_frozen(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.Attender(20, 12, 4, mean=0)
    for name, weights in model.named_parameters():
        weights.requires_grad_(name.startswith("head"))
    return parts.setup(parts.notes(seed), model, parts.by_place, lr=3e-3, epochs=10)


def _thawed(sick: Setup) -> Setup:
    sick["model"].requires_grad_(True)
    return sick


class _Pinned(nn.Sequential):
    """Its normalisation stays in evaluation mode, whatever is asked."""

    pinned = True

    def train(self, mode: bool = True) -> _Pinned:
        super().train(mode)
        for part in self:
            if self.pinned and isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        return self


def _free(sick: Setup) -> Setup:
    sick["model"].pinned = False
    return sick


def _flats_pinned(seed: int) -> Setup:
    with parts.weights_from(seed):
        hidden: list[nn.Module] = [nn.Linear(6, 32), nn.BatchNorm1d(32), nn.Tanh(), nn.Linear(32, 32), nn.BatchNorm1d(32)]
        model = _Pinned(nn.BatchNorm1d(6), *hidden, nn.Tanh(), nn.Linear(32, 1))
    return parts.setup(parts.flats(seed, raw=True), model, nn.MSELoss(), name="sgd", lr=0.05, momentum=0.9)


def _tiles_pinned(seed: int) -> Setup:
    with parts.weights_from(seed):
        stack: list[nn.Module] = []
        for inside, outside in ((1, 8), (8, 8), (8, 12), (12, 12), (12, 12), (12, 12)):
            stack += [nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
            stack += [nn.MaxPool2d(2)] if inside == 8 and outside == 12 else []
        model = _Pinned(*stack, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 5))
    return parts.setup(parts.tiles(seed), model, nn.CrossEntropyLoss(), name="sgd", lr=0.05, momentum=0.9, epochs=8)


def _gaits_time_first(seed: int, *, batch_first: bool = False) -> Setup:
    with parts.weights_from(seed):
        model = parts.Reader(3, 4, batch_first=batch_first)
    return parts.setup(parts.gaits(seed), model, nn.CrossEntropyLoss(), lr=0.01, epochs=12)


def _notes_across(seed: int, *, batch_first: bool = False) -> Setup:
    with parts.weights_from(seed):
        model = parts.Attender(20, 12, 4, mean=0, batch_first=batch_first)
    return parts.setup(parts.notes(seed), model, parts.by_place, lr=2e-3, epochs=10)


def _normed(inputs: int, outputs: int) -> nn.Sequential:
    hidden: list[Any] = [nn.Linear(inputs, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(32, outputs))


def _soils_in_twos(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = _normed(8, 5)
    return parts.setup(parts.soils(seed, rows=500), model, nn.CrossEntropyLoss(), batch_size=2, epochs=6)


CASES: tuple[Case, ...] = (
    Case(
        "recalls-state-cut-at-each-step",
        _recalls_cut,
        ("detached_graph",),
        "accuracy",
        "frequent question: the advice to detach the state between batches, followed between steps",
        architecture="rnn",
        data="sequence",
        tolerate=(
            "vanishing_gradient",
            "underfitting",
            "capacity_too_small",
            "too_few_epochs",
            "lr_too_low",
        ),
    ),
    Case(
        "tiles-body-under-no-grad",
        _tiles_unwatched,
        (
            "detached_graph",
            "frozen_params",
        ),
        "accuracy",
        "frequent question: no_grad around the encoder was left from a version with a pretrained one",
        architecture="cnn",
        data="image",
        tolerate=(
            "underfitting",
            "capacity_too_small",
        ),
    ),
    Case(
        "notes-all-frozen-but-the-head",
        _notes_frozen,
        ("frozen_params",),
        "accuracy",
        "frequent question: the recipe for fine-tuning freezes a transformer whose weights were never loaded",
        architecture="transformer",
        data="sequence",
        tolerate=(
            "underfitting",
            "capacity_too_small",
        ),
        fix=_thawed,
    ),
    Case(
        "flats-norm-that-never-trains",
        _flats_pinned,
        ("eval_mode_in_training",),
        "r2",
        "open-mmlab/mmdetection#4769: train() keeps norm layers in evaluation mode, from scratch",
        tolerate=(
            "unnormalised_inputs",
            "saturated_activation",
            "lr_too_high",
        ),
        fix=_free,
    ),
    Case(
        "tiles-norm-that-never-trains",
        _tiles_pinned,
        ("eval_mode_in_training",),
        "accuracy",
        "the same habit in a convolutional network trained from scratch",
        architecture="cnn",
        data="image",
        tolerate=(
            "vanishing_gradient",
            "underfitting",
        ),
        fix=_free,
    ),
    Case(
        "gaits-time-comes-first",
        _gaits_time_first,
        ("batch_dependence",),
        "accuracy",
        "frequent question: batch_first forgotten, so that the network reads across the batch",
        architecture="rnn",
        data="sequence",
        tolerate=(
            "underfitting",
            "overfitting",
        ),
    ),
    Case(
        "notes-attention-across-the-batch",
        _notes_across,
        ("batch_dependence",),
        "accuracy",
        "Exorust/TorchLeet#5: TransformerEncoderLayer without batch_first, high training loss and test error",
        architecture="transformer",
        data="sequence",
        tolerate=(
            "underfitting",
            "overfitting",
        ),
    ),
    Case(
        "soils-in-twos",
        _soils_in_twos,
        ("batchnorm_small_batch",),
        "accuracy",
        "layumi/Person_reID_baseline_pytorch#218 and others: batch norm after training in tiny batches, results poor in eval()",
        tolerate=("batch_too_small",),
        fix=parts.job(batch_size=32, epochs=20),
    ),
)

PROOFS: dict[str, Callable[[int], Setup]] = {
    "recalls-state-cut-at-each-step": partial(_recalls_cut, mended=True),
    "tiles-body-under-no-grad": partial(_tiles_unwatched, mended=True),
    "gaits-time-comes-first": partial(_gaits_time_first, batch_first=True),
    "notes-attention-across-the-batch": partial(_notes_across, batch_first=True),
}
