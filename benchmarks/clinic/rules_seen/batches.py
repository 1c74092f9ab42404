"""Sick by their batches: statistics that don't fit, rows that mix."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.rules_seen import cures, drawings, networks, patients, series, tables
from benchmarks.clinic.rules_seen.networks import weights_from


class _AlwaysEval(nn.Sequential):
    """A net whose train() keeps it in evaluation, as for a frozen backbone."""

    def train(self, mode: bool = True) -> _AlwaysEval:
        return super().train(False)


def _frozen_statistics(seed: int) -> Setup:
    factors = torch.tensor([[1.0, 400.0, 0.2, 3000.0, 25.0]])
    split = tables.with_inputs(tables.waves(seed), factors, 3.0 * factors)
    with weights_from(seed):
        model = _AlwaysEval(nn.BatchNorm1d(5), *networks.mlp(5, 48, 48, 1))
    return patients.of(split, model, nn.MSELoss(), {"name": "adam", "lr": 0.01}, epochs=25)


def _evaluating_images(seed: int) -> Setup:
    split = tables.with_inputs(drawings.stripes(seed), 50.0, 128.0)
    with weights_from(seed):
        model = _AlwaysEval(nn.BatchNorm2d(1), *networks.cnn(4))
    setup = patients.stripes(seed, model=model)
    return {**setup, "train": split.train, "val": split.val}


def _training_again(setup: Setup) -> Setup:
    return {**setup, "model": nn.Sequential(*setup["model"])}


def _one_left(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(10, 48, 32, 5, norm=nn.BatchNorm1d)
    return patients.of(
        tables.clouds(seed, num_train=577), model, nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.1}, batch_size=64
    )


class _NormedReader(nn.Module):
    """A recurrent reader with batch norm before its head."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = networks.Reader(1, 16)
        self.rest = nn.Sequential(nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.rest(self.reader(inputs))
        return outputs


def _one_left_of_sines(seed: int) -> Setup:
    with weights_from(seed):
        model = _NormedReader()
    split = series.sines(seed, num_train=401)
    return patients.of(split, model, nn.MSELoss(), {"name": "adam", "lr": 0.01}, batch_size=40)


def _pairs_of_rows(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(5, 32, 32, 1, norm=nn.BatchNorm1d)
    settings = {"name": "sgd", "lr": 0.02}
    return patients.of(tables.waves(seed, num_train=400), model, nn.MSELoss(), settings, batch_size=2, epochs=5)


def _pairs_of_images(seed: int) -> Setup:
    with weights_from(seed):
        body = networks.cnn(16, norm=nn.BatchNorm2d)
        model = nn.Sequential(body, nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    settings = {"name": "adam", "lr": 0.003}
    split = drawings.shapes(seed, num_train=300)
    return patients.of(split, model, nn.CrossEntropyLoss(), settings, batch_size=2, epochs=4)


CASES: tuple[Case, ...] = (
    Case(
        "waves-frozen-statistics",
        _frozen_statistics,
        ("eval_mode_in_training",),
        "r2",
        "GitHub open-mmlab/mmdetection#2319 on norm_eval: train() kept in evaluation though nothing was pre-trained",
        tolerate=("unnormalised_inputs", "dead_relu", "lr_too_high", "exploding_gradient"),
        fix=_training_again,
    ),
    Case(
        "stripes-evaluating",
        _evaluating_images,
        ("eval_mode_in_training",),
        "accuracy",
        "the same on images in 0..255 behind batch norm",
        architecture="cnn",
        data="image",
        tolerate=("unnormalised_inputs", "dead_relu", "lr_too_high", "exploding_gradient"),
        fix=_training_again,
    ),
    Case(
        "clouds-one-left",
        _one_left,
        ("last_batch_of_one",),
        "accuracy",
        "GitHub pytorch/pytorch#4534 and fastai/fastai#1352: 577 rows in batches of 64 leave one for batch norm",
        tolerate=("batchnorm_small_batch",),
        fix=cures.job(batch_size=50),
    ),
    Case(
        "sines-one-left",
        _one_left_of_sines,
        ("last_batch_of_one",),
        "r2",
        "GitHub NRCan/geo-deep-learning#113: the same in a recurrent net, 401 rows in batches of 40",
        architecture="rnn",
        data="sequence",
        tolerate=("batchnorm_small_batch",),
        fix=cures.job(batch_size=36),
    ),
    Case(
        "waves-pairs",
        _pairs_of_rows,
        ("batchnorm_small_batch", "batch_too_small"),
        "r2",
        "GitHub pytorch/pytorch#4741 and #19916: evaluation far worse than training with batch norm over two rows",
        tolerate=("unstable_gradient", "lr_too_high"),
        fix=cures.job(batch_size=32, epochs=40),
    ),
    Case(
        "shapes-pairs",
        _pairs_of_images,
        ("batchnorm_small_batch", "batch_too_small"),
        "accuracy",
        "GitHub layumi/Person_reID_baseline_pytorch#218: the result is better with eval() turned off; batches of two",
        architecture="cnn",
        data="image",
        tolerate=("unstable_gradient", "lr_too_high"),
        fix=cures.job(batch_size=30, epochs=12),
    ),
)
