"""Sick by the order of their rows, or by how training and validation were parted."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.rules_seen import cures, drawings, networks, patients, tables
from benchmarks.clinic.rules_seen.networks import weights_from


def _in_order(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    order = targets.reshape(-1).argsort(stable=True)
    return inputs[order], targets[order]


def _sorted_clouds(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(10, 48, 32, 5, norm=nn.BatchNorm1d)
    return cures.train_rows(_in_order)(patients.clouds(seed, model=model, shuffle=False, batch_size=20))


def _sorted_spots(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.cnn(1)
    settings = {"name": "adam", "lr": 0.01}
    setup = patients.of(drawings.spots(seed), model, nn.MSELoss(), settings, epochs=6, shuffle=False)
    return cures.train_rows(_in_order)(setup)


def _copied_rows(seed: int) -> Setup:
    """Labels are nearly noise; half of the validation rows are also training rows."""
    random = drawn(seed, "copies")
    inputs = torch.randn(460, 20, generator=random)
    labels = (inputs[:, 0] + 2.5 * torch.randn(460, generator=random) > 0).long()
    split = tables.Split(TensorDataset(inputs[:360], labels[:360]), TensorDataset(inputs[260:], labels[260:]))
    with weights_from(seed):
        model = networks.mlp(20, 64, 2)
    return patients.of(split, model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.005}, epochs=40)


def _oversampled_before_split(seed: int) -> Setup:
    """Rare rows were repeated first and split afterwards."""
    rows = tables.rare(seed, share=0.08, num_train=600, num_val=1)
    inputs, labels = rows.train.tensors
    few = (labels == 1).nonzero().squeeze(1)
    order = torch.cat([torch.arange(len(labels)), few.repeat(9)])
    order = order[torch.randperm(len(order), generator=drawn(seed, "split"))]
    split = tables.cut(inputs[order], labels[order], int(0.7 * len(order)))
    with weights_from(seed):
        model = networks.mlp(6, 64, 64, 2)
    return patients.of(split, model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.005}, epochs=20)


def _without_copies(setup: Setup) -> Setup:
    seen = setup["val"].tensors[0]

    def drop(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        kept = torch.cdist(inputs, seen).min(1).values > 1e-4
        return inputs[kept], targets[kept]

    return cures.train_rows(drop)(setup)


def _unscaled_validation(seed: int) -> Setup:
    setup = patients.clouds(seed)
    return cures.val_rows(lambda inputs, targets: (inputs * 12.0 + 40.0, targets))(setup)


def _scaled_back(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return (inputs - 40.0) / 12.0, targets


def _negative(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return 1.0 - inputs, targets


def _negatives(seed: int) -> Setup:
    return cures.val_rows(_negative)(patients.shapes(seed))


CASES: tuple[Case, ...] = (
    Case(
        "clouds-sorted",
        _sorted_clouds,
        ("unshuffled_data",),
        "accuracy",
        "GitHub zalandoresearch/fashion-mnist#5 and keras-team/keras#6955: rows sorted by class, not shuffled",
        tolerate=("unstable_gradient",),
        fix=cures.job(shuffle=True),
    ),
    Case(
        "spots-sorted",
        _sorted_spots,
        ("unshuffled_data",),
        "r2",
        "the same in a regression: rows sorted by target",
        architecture="cnn",
        data="image",
        tolerate=("unstable_gradient",),
        fix=cures.job(shuffle=True),
    ),
    Case(
        "noise-copied-rows",
        _copied_rows,
        ("data_leakage",),
        "accuracy",
        "GitHub js0nwu/webui#1 and huggingface/datasets#4261: validation rows that are also in training",
        tolerate=("overfitting",),
        fix=_without_copies,
        changes_data=True,
    ),
    Case(
        "rare-oversampled-before-split",
        _oversampled_before_split,
        ("data_leakage",),
        "balanced_accuracy",
        "frequent mistake: rare rows are repeated before the split",
        tolerate=("overfitting",),
        fix=_without_copies,
        changes_data=True,
    ),
    Case(
        "clouds-unscaled-validation",
        _unscaled_validation,
        ("train_val_mismatch",),
        "accuracy",
        "frequent mistake: only the training part went through the scaler",
        fix=cures.val_rows(_scaled_back),
        changes_data=True,
    ),
    Case(
        "shapes-negatives",
        _negatives,
        ("train_val_mismatch",),
        "accuracy",
        "drawings from another source: dark on white instead of white on dark",
        architecture="cnn",
        data="image",
        fix=cures.val_rows(_negative),
        changes_data=True,
    ),
)
