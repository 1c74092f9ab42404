"""Sick by their targets: ranges, shapes, units, shares, pairing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.rules_seen import cures, networks, patients, tables
from benchmarks.clinic.rules_seen.networks import weights_from


def _from_one(seed: int) -> Setup:
    return cures.everywhere(lambda inputs, targets: (inputs, targets + 1))(patients.clouds(seed))


def _unknown(value: int, every: int) -> cures.Fix:
    def mark(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        marked = targets.clone()
        marked[::every] = value
        return inputs, marked

    return cures.train_rows(mark)


def _known_rows(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    known = (targets >= 0) & (targets < 200)
    return inputs[known], targets[known]


def _void_label(seed: int) -> Setup:
    return _unknown(255, 30)(patients.shapes(seed))


def _minus_one(seed: int) -> Setup:
    return _unknown(-1, 20)(patients.majorities(seed))


def _head_of_four(seed: int) -> Setup:
    with weights_from(seed):
        return patients.clouds(seed, model=networks.mlp(10, 48, 32, 4))


def _one_logit_of_three(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.cnn(1, norm=nn.BatchNorm2d)
    setup = patients.shapes(seed, model=model, loss=nn.BCEWithLogitsLoss())
    return cures.everywhere(lambda inputs, targets: (inputs, targets.float().unsqueeze(1)))(setup)


def _three_outputs(setup: Setup) -> Setup:
    with weights_from(5):
        setup["model"][-1] = nn.Linear(setup["model"][-1].in_features, 3)
    return {**setup, "loss": patients.entropy_of_column}


def _next_row(seed: int) -> Setup:
    return cures.train_rows(lambda inputs, targets: (inputs, targets.roll(1, 0)))(patients.clouds(seed))


def _third_next_row(seed: int) -> Setup:
    return cures.train_rows(lambda inputs, targets: (inputs, targets.roll(-3, 0)))(patients.waves(seed))


def _shuffled_images(seed: int) -> Setup:
    def shuffle(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return inputs[torch.randperm(len(inputs), generator=drawn(seed, "lost order"))], targets

    return cures.train_rows(shuffle)(patients.stripes(seed))


def _rare_table(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(6, 16, 2)
    settings = {"name": "adam", "lr": 0.003}
    return patients.of(tables.rare(seed), model, nn.CrossEntropyLoss(), settings, batch_size=64, epochs=10)


def _rare_spots(seed: int) -> Setup:
    """Images with a faint spot in one of sixteen, one logit."""
    random = drawn(seed, "faint")
    labels = (torch.rand(1800, 1, generator=random) < 0.06).float()
    images = torch.randn(1800, 1, 8, 8, generator=random)
    images[:, :, 3:5, 3:5] += 0.95 * labels[:, :, None, None]
    with weights_from(seed):
        model = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 1))
    settings = {"name": "sgd", "lr": 0.02, "momentum": 0.9}
    return patients.of(tables.cut(images, labels, 1200), model, nn.BCEWithLogitsLoss(), settings, batch_size=64, epochs=3)


CASES: tuple[Case, ...] = (
    Case(
        "clouds-labels-from-one",
        _from_one,
        ("label_out_of_range",),
        "accuracy",
        "GitHub tensorflow/models#15 and happy-transformer#248: labels counted from 1",
        tolerate=("wrong_num_outputs",),
        fix=cures.model(lambda: networks.mlp(10, 48, 32, 6)),
    ),
    Case(
        "shapes-void-label",
        _void_label,
        ("label_out_of_range",),
        "accuracy",
        "GitHub milesial/Pytorch-UNet#291 'Target 192 is out of bounds': grey values among the labels; here 255 for unknown",
        architecture="cnn",
        data="image",
        tolerate=("wrong_num_outputs",),
        fix=cures.train_rows(_known_rows),
    ),
    Case(
        "majorities-minus-one",
        _minus_one,
        ("label_out_of_range",),
        "accuracy",
        "GitHub EricFillion/happy-transformer#248 'Target -1 is out of bounds'",
        architecture="transformer",
        data="sequence",
        fix=cures.train_rows(_known_rows),
    ),
    Case(
        "clouds-head-of-four",
        _head_of_four,
        ("wrong_num_outputs", "label_out_of_range"),
        "accuracy",
        "GitHub aws/studio-lab-examples#236 'Target 4 is out of bounds': one class more than outputs",
        fix=cures.model(lambda: networks.mlp(10, 48, 32, 5)),
    ),
    Case(
        "shapes-one-logit-of-three",
        _one_logit_of_three,
        ("wrong_num_outputs", "wrong_loss", "label_out_of_range"),
        "accuracy",
        "GitHub open-mmlab/mmsegmentation#3609: a two-class setup fed with more classes; the loss falls below zero",
        architecture="cnn",
        data="image",
        tolerate=("unstable_loss", "unscaled_targets"),
        fix=_three_outputs,
    ),
    Case(
        "clouds-next-row",
        _next_row,
        ("labels_misaligned",),
        "accuracy",
        "a header row was dropped from the labels only: each row has its neighbour's label",
        tolerate=("overfitting",),
        fix=cures.train_rows(lambda inputs, targets: (inputs, targets.roll(-1, 0))),
    ),
    Case(
        "waves-third-next-row",
        _third_next_row,
        ("labels_misaligned",),
        "r2",
        "a rolling window moved the targets by three rows",
        tolerate=("overfitting",),
        fix=cures.train_rows(lambda inputs, targets: (inputs, targets.roll(3, 0))),
    ),
    Case(
        "stripes-lost-order",
        _shuffled_images,
        ("labels_misaligned",),
        "accuracy",
        "GitHub chuanyangjin/fast-DiT#4 and NoahVl/Explaining-In-Style-Reproducibility-Study#9: os.listdir isn't sorted",
        architecture="cnn",
        data="image",
        tolerate=("overfitting", "underfitting"),
    ),
    Case(
        "rare-unweighted",
        _rare_table,
        ("class_imbalance",),
        "balanced_accuracy",
        "GitHub abhuse/polyloss-pytorch#5: all predictions are of the common class; here 4 % are of the other one",
        fix=cures.job(loss=nn.CrossEntropyLoss(weight=torch.tensor([0.52, 12.5]))),
    ),
    Case(
        "faint-spots-unweighted",
        _rare_spots,
        ("class_imbalance",),
        "balanced_accuracy",
        "defects on 6 % of images, one logit",
        architecture="cnn",
        data="image",
        tolerate=("overfitting",),
        fix=cures.job(loss=nn.BCEWithLogitsLoss(pos_weight=torch.tensor(16.0))),
    ),
)

PROOFS = {"stripes-lost-order": patients.stripes}
