"""Small pictures that fail: scratches on castings, digits of a display."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_7.work_parts import Rows, castings, cut, drawings, job, patient, seeded

ENTROPY = nn.CrossEntropyLoss()


def net(
    num_outputs: int, *, norm: str = "none", drop: float = 0.0, act: type[nn.Module] = nn.ReLU, width: int = 12
) -> nn.Sequential:
    """Three convolutions, two poolings, a linear head."""
    layers: list[nn.Module] = []
    for before, after in ((1, width), (width, width), (width, width)):
        layers.append(nn.Conv2d(before, after, 3, padding=1))
        layers += [nn.BatchNorm2d(after)] if norm == "batch" else []
        layers += [nn.GroupNorm(4, after)] if norm == "group" else []
        layers.append(act())
        layers += [nn.Dropout2d(drop)] if drop else []
        layers += [nn.MaxPool2d(2)] if len([one for one in layers if isinstance(one, nn.MaxPool2d)]) < 2 else []
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 9, num_outputs))


def _prior_everywhere(seed: int) -> Setup:
    """The bias -log((1 - p) / p) of a rare class, meant for the head, in every convolution."""
    with seeded(seed):
        model = net(1)
        for layer in model:
            if isinstance(layer, nn.Conv2d):
                nn.init.constant_(layer.bias, -4.6)  # type: ignore[arg-type]
    return patient(model, cut(*castings(seed), 700), nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 3e-3}, 32, 12)


def _biases_at_zero(setup: Setup) -> Setup:
    for layer in setup["model"]:
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return setup


def _two_at_a_time(seed: int) -> Setup:
    """How bright is the display?"""
    pictures, _ = drawings(seed, noise=0.2)
    light = 0.4 + 1.6 * torch.rand(len(pictures), 1, generator=drawn(seed, "light"))
    with seeded(seed):
        body = net(6, norm="batch")[:-2]
        model = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 1))
    split = cut(pictures * light.reshape(-1, 1, 1, 1), light, 500)
    return patient(model, split, nn.MSELoss(), {"name": "adam", "lr": 3e-3}, 2, 5)


def _frozen_by_a_loop(seed: int) -> Setup:
    """Lines of a finetuning script, over a body that was never trained, and narrow."""
    with seeded(seed):
        model = net(6, width=4)
    for tensor in list(model.parameters())[:-1]:
        tensor.requires_grad_(False)
    return patient(model, cut(*drawings(seed), 700), ENTROPY, {"name": "adam", "lr": 5e-3}, 64, 12)


def _thawed(setup: Setup) -> Setup:
    for tensor in setup["model"].parameters():
        tensor.requires_grad_(True)
    return setup


def _two_passes(seed: int) -> Setup:
    with seeded(seed):
        model = net(6)
    return patient(model, cut(*drawings(seed, noise=0.5), 700), ENTROPY, {"name": "adam", "lr": 1e-3}, 64, 2)


class _Straight(nn.Module):
    """An nn.ReLU that was made and never called: scratches dark or bright stay hidden."""

    def __init__(self, between: str = "nothing") -> None:
        super().__init__()
        self.near, self.far, self.head = nn.Conv2d(1, 8, 5), nn.Conv2d(8, 8, 3), nn.Linear(8, 1)
        self.act, self.between = nn.ReLU(), between

    def forward(self, picture: Tensor) -> Tensor:
        seen = self.near(picture)
        seen = self.act(seen) if self.between == "act" else seen
        seen = self.far(seen)
        seen = self.act(seen) if self.between == "act" else seen
        out: Tensor = self.head(seen.mean((2, 3)))
        return out


def _two_sided(seed: int) -> Setup:
    """Scratches are dark as often as bright."""
    pieces, flawed = castings(seed)
    pieces[::2] = -pieces[::2]
    with seeded(seed):
        model = _Straight()
    return patient(model, cut(pieces, flawed, 700), nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 5e-3}, 32, 25)


def _called(setup: Setup) -> Setup:
    setup["model"].between = "act"
    return setup


def _planes_dropped(seed: int) -> Setup:
    with seeded(seed):
        model = net(6, drop=0.75)
    return patient(model, cut(*drawings(seed), 700), ENTROPY, {"name": "adam", "lr": 2e-3}, 64, 10)


def _keep_most(setup: Setup) -> Setup:
    for layer in setup["model"]:
        if isinstance(layer, nn.Dropout2d):
            layer.p = 0.1
    return setup


def _transform_of_training(seed: int) -> Setup:
    """A transform in the Dataset of the training half only; the other half is read as bytes."""
    pictures, kinds = drawings(seed)
    train, val = cut((pictures * 40 + 90).clamp(0, 255), kinds, 700)
    train.change = lambda picture: (picture - 90) / 40
    with seeded(seed):
        model = net(6, norm="batch")
    return patient(model, (train, val), ENTROPY, {"name": "sgd", "lr": 0.05, "momentum": 0.9}, 32, 8)


def _transform_of_both(setup: Setup) -> Setup:
    val = setup["val"]
    return {**setup, "val": Rows(val.inputs, val.targets, setup["train"].change)}


def _one_kernel(seed: int) -> Setup:
    with seeded(seed):
        model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 6))
    return patient(model, cut(*drawings(seed), 700), ENTROPY, {"name": "adam", "lr": 1e-2}, 64, 15)


def _wider(setup: Setup) -> Setup:
    with seeded(2):
        return {**setup, "model": net(6)}


CASES: tuple[Case, ...] = (
    Case(
        "castings-prior-bias-in-every-layer",
        _prior_everywhere,
        ("dead_relu",),
        "accuracy",
        "the prior bias of a focal-loss head put into all convolutions by model.apply: no unit ever fires",
        tolerate=("vanishing_gradient", "init_too_large"),
        fix=_biases_at_zero,
    ),
    Case(
        "displays-brightness-two-at-a-time",
        _two_at_a_time,
        ("batchnorm_small_batch", "batch_too_small"),
        "r2",
        "batch size 2 for want of memory, batch norm on vectors of two rows",
        fix=job(batch_size=32, epochs=30),
    ),
    Case(
        "displays-body-frozen-by-a-script",
        _frozen_by_a_loop,
        ("frozen_params",),
        "accuracy",
        "requires_grad = False for all but the last tensor, copied from a script for a pretrained body",
        tolerate=("capacity_too_small", "underfitting"),
        fix=_thawed,
    ),
    Case(
        "displays-two-passes",
        _two_passes,
        ("too_few_epochs",),
        "accuracy",
        "the loss still falls steeply when the loop of a tutorial ends",
        tolerate=("lr_too_low", "underfitting"),
        fix=job(epochs=20),
    ),
    Case(
        "castings-relu-made-and-not-called",
        _two_sided,
        ("missing_nonlinearity",),
        "accuracy",
        "an activation in __init__ that forward never uses; scratches are dark or bright",
        tolerate=("underfitting", "capacity_too_small"),
        fix=_called,
    ),
    Case(
        "displays-three-of-four-planes-dropped",
        _planes_dropped,
        ("dropout_too_high",),
        "accuracy",
        "Dropout2d(0.75) after each of three narrow convolutions",
        tolerate=("underfitting", "too_few_epochs", "over_regularised"),
        fix=_keep_most,
    ),
    Case(
        "displays-transform-in-training-only",
        _transform_of_training,
        ("train_val_mismatch",),
        "accuracy",
        "Normalize in the transform of the training Dataset and not in the other's",
        fix=_transform_of_both,
        changes_data=True,
    ),
    Case(
        "displays-one-kernel",
        _one_kernel,
        ("capacity_too_small", "underfitting"),
        "accuracy",
        "one kernel and one number per picture for six digits",
        fix=_wider,
    ),
)
