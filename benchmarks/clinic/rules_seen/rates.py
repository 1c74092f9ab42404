"""Sick by their learning rate or their momentum."""

from __future__ import annotations

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.rules_seen import cures, patients


def _coarse_clouds(seed: int) -> Setup:
    return patients.clouds(seed, optimizer={"name": "sgd", "lr": 8.0})


def _coarse_sums(seed: int) -> Setup:
    return patients.sums(seed, optimizer={"name": "adam", "lr": 0.8})


def _coarse_stripes(seed: int) -> Setup:
    return patients.stripes(seed, optimizer={"name": "sgd", "lr": 0.6, "momentum": 0.9})


def _coarse_mirrors(seed: int) -> Setup:
    return patients.mirrors(seed, optimizer={"name": "adam", "lr": 0.5})


def _fine_shapes(seed: int) -> Setup:
    return patients.shapes(seed, optimizer={"name": "adam", "lr": 2e-6})


def _fine_waves(seed: int) -> Setup:
    return patients.waves(seed, optimizer={"name": "sgd", "lr": 3e-5, "momentum": 0.9})


def _fine_sums(seed: int) -> Setup:
    return patients.sums(seed, optimizer={"name": "adagrad", "lr": 1e-4})


def _swinging_waves(seed: int) -> Setup:
    return patients.waves(seed, optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.998})


def _swinging_stripes(seed: int) -> Setup:
    return patients.stripes(seed, optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.999})


CASES: tuple[Case, ...] = (
    Case(
        "clouds-sgd-8",
        _coarse_clouds,
        ("lr_too_high",),
        "accuracy",
        "GitHub CharlieDinh/pFedMe#11 'why train loss will be nan?': the answer was the large rate; here SGD at 8",
        tolerate=("exploding_gradient", "dead_relu", "unstable_gradient", "warmup_too_short"),
        fix=cures.optimizer(lr=0.1),
    ),
    Case(
        "sums-adam-0.8",
        _coarse_sums,
        ("lr_too_high",),
        "r2",
        "GitHub guillaumegenthial/sequence_tagging#47 'Learn rate issuse?': 0.001 works, ten and a hundred times more doesn't",
        architecture="rnn",
        data="sequence",
        tolerate=("saturated_activation", "unstable_gradient", "warmup_too_short"),
        fix=cures.optimizer(lr=0.01),
    ),
    Case(
        "stripes-sgd-0.6",
        _coarse_stripes,
        ("lr_too_high",),
        "accuracy",
        "GitHub NLeSC/mcfly#43 'find out why learning stops sometimes': rates above 0.03 stand still",
        architecture="cnn",
        data="image",
        tolerate=("dead_relu", "unstable_gradient", "warmup_too_short"),
        fix=cures.optimizer(lr=0.02),
    ),
    Case(
        "mirrors-adam-0.5",
        _coarse_mirrors,
        ("lr_too_high",),
        "accuracy",
        "GitHub thtrieu/darkflow#1059 'Loss and ave loss NaN': Adam at 0.1 and 0.3; here a transformer at 0.5",
        architecture="transformer",
        data="sequence",
        tolerate=("warmup_too_short", "unstable_gradient", "dead_relu"),
        fix=cures.optimizer(lr=0.005),
    ),
    Case(
        "shapes-adam-2e-6",
        _fine_shapes,
        ("lr_too_low",),
        "accuracy",
        "UMLAUT's rule and DeepFD's ground truths: 18 of 58 programs had a wrong rate, many far too low; Adam at 2e-6",
        architecture="cnn",
        data="image",
        tolerate=("too_few_epochs",),
        fix=cures.optimizer(lr=0.01),
    ),
    Case(
        "waves-sgd-3e-5",
        _fine_waves,
        ("lr_too_low",),
        "r2",
        "DeepFD's ground truths: regression whose loss falls in a straight slow line",
        tolerate=("too_few_epochs", "underfitting"),
        fix=cures.optimizer(lr=0.03),
    ),
    Case(
        "sums-adagrad-1e-4",
        _fine_sums,
        ("lr_too_low",),
        "r2",
        "Adagrad, whose steps shrink by themselves, at a rate that suits Adam",
        architecture="rnn",
        data="sequence",
        tolerate=("too_few_epochs", "underfitting"),
        fix=cures.optimizer(lr=0.1),
    ),
    Case(
        "waves-momentum-0.998",
        _swinging_waves,
        ("momentum_too_high",),
        "r2",
        "GitHub keras-team/keras#3687 'Predictions are all zero' trains with momentum 0.99; here 0.998",
        tolerate=("lr_too_high", "unstable_gradient", "exploding_gradient"),
        fix=cures.optimizer(momentum=0.9),
    ),
    Case(
        "stripes-momentum-0.999",
        _swinging_stripes,
        ("momentum_too_high",),
        "accuracy",
        "the same on images: the loss swings in long waves",
        architecture="cnn",
        data="image",
        tolerate=("lr_too_high", "unstable_gradient", "dead_relu"),
        fix=cures.optimizer(momentum=0.9),
    ),
)
