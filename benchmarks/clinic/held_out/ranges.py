"""Patients whose outputs don't fit the labels in number."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.held_out import images, sequences, tables
from benchmarks.clinic.held_out.kit import changed_rows, in_turn, made, mended, parted, swapped
from benchmarks.clinic.held_out.models import SeriesReader, stacked


def four_for_six(seed: int) -> Setup:
    data = parted(tables.clusters(seed, classes=6), 900)
    return made(seed, lambda: stacked([16, 48, 4]), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 5e-3}, epochs=12)


def _six(model: Any) -> None:
    model[-1] = nn.Linear(48, 6)


def one_under_entropy(seed: int) -> Setup:
    """A single output and truth [rows, 1] under cross-entropy over classes: its loss is nothing from the start."""
    inputs, labels = sequences.wave_kinds(seed)
    data = parted((inputs, (labels >= 2).float()[:, None]), 650)
    net = lambda: SeriesReader(1, 1, kind=nn.GRU)  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=12)


def labels_from_one(seed: int) -> Setup:
    pictures, labels = images.flecks(seed, most=2)
    data = parted((pictures, labels + 1), 700)
    net = lambda: nn.Sequential(nn.Flatten(), stacked([100, 64, 3]))  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 3e-3}, epochs=12)


def unlabelled_rows(seed: int) -> Setup:
    """Rows nobody labelled carry the number 255."""
    inputs, labels = tables.pinwheel(seed, rows=1300)
    labels[(torch.arange(1300) % 23 == 5) & (torch.arange(1300) < 1000)] = 255
    return made(
        seed, lambda: stacked([2, 48, 48, 4]), parted((inputs, labels), 1000), nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}
    )


CASES: tuple[Case, ...] = (
    Case(
        "four-outputs-six-classes", four_for_six, ("wrong_num_outputs", "label_out_of_range"), "accuracy",
        "aws/studio-lab-examples#236: Target 4 is out of bounds after the data got more classes than the head",
        fix=mended(_six),
    ),
    Case(
        "one-output-under-cross-entropy", one_under_entropy, ("wrong_num_outputs", "wrong_loss"), "accuracy",
        "APPFL/APPFL#60: one output under CrossEntropyLoss, which wants at least two",
        architecture="rnn", data="sequence", fix=swapped(loss=nn.BCEWithLogitsLoss()),
    ),
    Case(
        "flecks-counted-from-one", labels_from_one, ("label_out_of_range", "wrong_num_outputs"), "accuracy",
        "EricFillion/happy-transformer#248: the lowest valid label is 0",
        architecture="mlp", data="image", changes_data=True, fix=changed_rows(lambda x, y: (x, y - 1)),
    ),
    Case(
        "rows-labelled-255", unlabelled_rows, ("label_out_of_range",), "accuracy",
        "milesial/Pytorch-UNet#291: grey values among class numbers, Target 192 is out of bounds",
        changes_data=True, tolerate=("wrong_num_outputs",),
        fix=in_turn(changed_rows(lambda x, y: (x[y < 255], y[y < 255]), parts=("train",))),
    ),
)  # fmt: skip
