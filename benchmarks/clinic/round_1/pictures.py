"""Sick convolutional nets, on small images and on signals of one channel."""

from __future__ import annotations

from torch import nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_1 import shapes
from benchmarks.clinic.round_1.parts import Across, Counts, Signs, Sleeping, Trilinear, Waves
from benchmarks.clinic.round_1.shapes import job, started, with_model


def _pairs(seed: int) -> Setup:
    with started(seed):
        model = Counts(nn.BatchNorm1d)
    return job(shapes.dots(seed, 300), model, nn.MSELoss(), {"name": "adam", "lr": 0.001}, batch_size=2, epochs=5)


def _across(seed: int) -> Setup:
    with started(seed):
        model = Counts(Across)
    return job(shapes.dots(seed), model, nn.HuberLoss(), {"name": "adam", "lr": 0.003}, batch_size=24, epochs=12)


def _dropped_maps(seed: int) -> Setup:
    with started(seed):
        model = Counts(lambda width: nn.Identity(), drop=0.7)
    return job(shapes.dots(seed), model, nn.MSELoss(), {"name": "adam", "lr": 0.003}, epochs=15)


def _negative_filters(seed: int) -> Setup:
    with started(seed):
        model = Signs(5)
        for part in model.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.uniform_(part.weight, -0.3, 0.0)
                nn.init.constant_(part.get_parameter("bias"), 0.0)
    return job(shapes.crosses(seed), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.005}, epochs=12)


def _head_only(seed: int) -> Setup:
    with started(seed):
        model = Signs(5, nn.BatchNorm2d)
    settings = {"name": "adam", "lr": 0.005, "params": list(model.head.parameters())}
    return job(shapes.crosses(seed), model, nn.CrossEntropyLoss(label_smoothing=0.05), settings, epochs=12)


def _loud_head(seed: int) -> Setup:
    with started(seed):
        model = Signs(5)
        for part in model.modules():
            if isinstance(part, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(part.weight)
    return job(shapes.crosses(seed), model, nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.01, "momentum": 0.9}, epochs=12)


def _trilinear(seed: int) -> Setup:
    with started(seed):
        model = Trilinear("none")
    return job(shapes.crosses(seed), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.003}, batch_size=64, epochs=10)


def _pooled_first(setup: Setup) -> Setup:
    setup["model"].pool = "max"
    return setup


def _lone_signal(seed: int) -> Setup:
    with started(seed):
        model = Waves()
    return job(shapes.crests(seed, 577), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.005}, batch_size=64, epochs=8)


def _sleeping(seed: int) -> Setup:
    signals, label = shapes.whole(shapes.crests(seed))
    with started(seed):
        model = Sleeping()
    return job(
        shapes.cut(400.0 + 60.0 * signals, label, 600), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.002}, epochs=6
    )


def _straight(seed: int) -> Setup:
    with started(seed):
        model = Waves(nn.Identity)
    return job(shapes.crests(seed), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.005}, epochs=8)


def _twin_filters(seed: int) -> Setup:
    with started(seed):
        model = Waves(norm=lambda width: nn.Identity())
    for part in model.modules():
        if isinstance(part, (nn.Conv1d, nn.Linear)):
            nn.init.constant_(part.weight, 1.0 / part.weight[0].numel())
    settings = {"name": "rmsprop", "lr": 0.002}
    return job(shapes.crests(seed), model, nn.CrossEntropyLoss(), settings, epochs=12)


def _group(width: int) -> nn.Module:
    return nn.LayerNorm(width)


CASES: tuple[Case, ...] = (
    Case(
        "dots-in-pairs",
        _pairs,
        ("batchnorm_small_batch",),
        "r2",
        "GitHub pytorch/pytorch#19916: batch norm on pooled features, two rows at a time, harms regression most",
        architecture="cnn",
        data="image",
        tolerate=("batch_too_small", "unstable_gradient"),
        fix=with_model(lambda: Counts(_group)),
    ),
    Case(
        "dots-normalised-across",
        _across,
        ("batch_dependence",),
        "r2",
        "F.normalize(features, dim=0): each feature's length is shared by the rows of a batch",
        architecture="cnn",
        data="image",
        fix=with_model(lambda: Counts(lambda width: nn.Identity())),
    ),
    Case(
        "dots-dropped-maps",
        _dropped_maps,
        ("dropout_too_high",),
        "r2",
        "Dropout2d of 0.7 behind each convolution: a count can't be read from what is left of the maps",
        architecture="cnn",
        data="image",
        tolerate=("underfitting", "over_regularised"),
        fix=with_model(lambda: Counts(lambda width: nn.Identity())),
    ),
    Case(
        "crosses-negative-filters",
        _negative_filters,
        ("dead_relu",),
        "accuracy",
        "Stats StackExchange 450100: inputs above zero and weights below leave ReLU nothing; here by uniform_(-0.3, 0)",
        architecture="cnn",
        data="image",
        tolerate=("vanishing_gradient", "underfitting"),
        fix=shapes.freshly_started,
    ),
    Case(
        "crosses-head-only",
        _head_only,
        ("params_not_in_optimizer",),
        "accuracy",
        "the line of a fine-tuning tutorial, Adam over model.head.parameters(), with a body that was never trained",
        architecture="cnn",
        data="image",
        tolerate=("underfitting",),
        fix=shapes.all_held,
    ),
    Case(
        "crosses-unit-normal",
        _loud_head,
        ("init_too_large", "exploding_gradient"),
        "accuracy",
        "an init function with normal_(weight) for every layer: losses of hundreds, then dead units",
        architecture="cnn",
        data="image",
        tolerate=("lr_too_high", "dead_relu", "unstable_gradient"),
        fix=shapes.freshly_started,
    ),
    Case(
        "crosses-trilinear",
        _trilinear,
        ("out_of_memory",),
        "accuracy",
        "GitHub HaoMood/blinear-cnn-faster#4: products of features are taken before pooling, 4000 cubed of them a row",
        architecture="cnn",
        data="image",
        fix=_pooled_first,
    ),
    Case(
        "crests-lone-signal",
        _lone_signal,
        ("last_batch_of_one",),
        "accuracy",
        "GitHub fastai/fastai#1352: convolutions don't mind the last row being alone, the norm on pooled features does",
        architecture="cnn",
        data="sequence",
        fix=lambda setup: {**setup, "batch_size": 62},
    ),
    Case(
        "crests-sleeping-norms",
        _sleeping,
        ("eval_mode_in_training",),
        "accuracy",
        "train() overridden to rest batch norms, as detectors with loaded statistics do; here there are none to load",
        architecture="cnn",
        data="sequence",
        tolerate=("unnormalised_inputs", "lr_too_high", "exploding_gradient", "dead_relu", "too_few_epochs"),
        fix=with_model(Waves),
    ),
    Case(
        "crests-straight-filters",
        _straight,
        ("missing_nonlinearity",),
        "accuracy",
        "three convolutions and a mean: the activation was left at the identity it had for a test",
        architecture="cnn",
        data="sequence",
        tolerate=("underfitting", "capacity_too_small"),
        fix=with_model(Waves),
    ),
    Case(
        "crests-twin-filters",
        _twin_filters,
        ("symmetric_init",),
        "accuracy",
        "filters started as moving averages, all of a layer the same",
        architecture="cnn",
        data="sequence",
        tolerate=("underfitting", "capacity_too_small"),
        fix=shapes.freshly_started,
    ),
)
