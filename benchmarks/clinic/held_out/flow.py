"""Patients through whom little or too much flows: gradients, units, missing curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.held_out import images, sequences, tables
from benchmarks.clinic.held_out.kit import made, mended, parted, rebuilt
from benchmarks.clinic.held_out.models import Elman, ResidualTable, stacked
from benchmarks.clinic.held_out.starts import refreshed, spread


def sigmoid_tower(seed: int) -> Setup:
    data = parted(tables.annuli(seed, classes=3, extra=2), 700)
    return made(
        seed, lambda: stacked([4, *[24] * 9, 3], nn.Sigmoid), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 2e-3}, epochs=20
    )


def long_memory(seed: int) -> Setup:
    """What matters came 20 steps ago, through weights that shrink what they carry."""
    series, labels = sequences.first_word(seed, rows=1000, length=20, words=3)
    onehot = nn.functional.one_hot(series, 3).float()

    def model() -> nn.Module:
        net = Elman(3, 3, 24)
        net.kept.weight.data.mul_(0.5)
        return net

    return made(seed, model, parted((onehot, labels), 700), nn.CrossEntropyLoss(), {"name": "adam", "lr": 5e-3}, epochs=15)


def faint_tower(seed: int) -> Setup:
    """Weights of deviation 0.01 in eight tanh layers."""
    data = parted(tables.reaction(seed), 700)
    net = spread(lambda: stacked([6, *[32] * 7, 1], nn.Tanh), 0.02)
    return made(seed, net, data, nn.MSELoss(), {"name": "sgd", "lr": 0.05, "momentum": 0.9}, epochs=20)


def growing_loop(seed: int) -> Setup:
    def model() -> nn.Module:
        net = Elman(1, 1, 24, torch.relu)
        nn.init.orthogonal_(net.kept.weight, 2.2)
        return net

    data = parted(sequences.waves(seed), 600)
    return made(seed, model, data, nn.MSELoss(), {"name": "sgd", "lr": 0.02, "momentum": 0.8}, epochs=15)


def _tame_loop(model: Any) -> None:
    nn.init.orthogonal_(model.kept.weight, 0.9)


def growing_tower(seed: int) -> Setup:
    """Residual blocks without a norm, each of which more than doubles what it is given."""

    def model() -> nn.Module:
        net = ResidualTable(10, 32, 1, blocks=16, normed=False, zero=False)
        for block in net.blocks:
            for layer in (block[1], block[3]):
                nn.init.kaiming_normal_(layer.weight)
        return net

    data = parted(tables.friedman(seed), 700)
    return made(seed, model, data, nn.MSELoss(), {"name": "sgd", "lr": 5e-3, "momentum": 0.9}, epochs=15)


def _zero_branches(model: Any) -> None:
    for block in model.blocks:
        nn.init.zeros_(block[3].weight)
        nn.init.zeros_(block[3].bias)


def _straight(seed: int, *, sick: bool) -> Setup:
    data = parted(tables.checkerboard(seed, side=2), 800)
    bend: Callable[[], nn.Module] = nn.Identity if sick else nn.ReLU
    return made(seed, lambda: stacked([2, 64, 64, 2], bend), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=20)


class Plain(nn.Module):
    """Convolutions one on the other, as in a sketch that forgot what comes between."""

    def __init__(self, bend: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 12, 3, padding=1), nn.Conv2d(12, 24, 3, stride=2, padding=1)
        self.head = nn.Linear(24, 4)
        self.bend = bend

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bend(self.second(self.bend(self.first(x)))).mean((2, 3)))


def _itself(x: Tensor) -> Tensor:
    return x


def _straight_eye(seed: int, *, sick: bool) -> Setup:
    data = parted(images.gratings(seed), 600)
    return made(
        seed, lambda: Plain(_itself if sick else torch.relu), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 5e-3}, epochs=15
    )


def _gated(seed: int) -> Setup:
    sick = long_memory(seed)
    return rebuilt(lambda: _Carried())({**sick, "optimizer": {"name": "adam", "lr": 0.01}})


class _Carried(nn.Module):
    """A gated net over the same columns whose gates start open to the past."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = nn.LSTM(3, 24, batch_first=True)
        self.head = nn.Linear(24, 3)
        nn.init.constant_(self.reader.bias_ih_l0.data[24:48], 4.0)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.reader(series)[0][:, -1])


CASES: tuple[Case, ...] = (
    Case(
        "nine-sigmoids", sigmoid_tower, ("vanishing_gradient",), "accuracy",
        "apache/mxnet#8096 and pull 34 of depthfirstlearning.com: deep sigmoid nets don't pass gradients",
        tolerate=("saturated_activation", "underfitting"),
        fix=rebuilt(lambda: stacked([4, *[24] * 9, 3], nn.ReLU, norm=nn.LayerNorm)),
    ),
    Case(
        "twenty-steps-ago", long_memory, ("vanishing_gradient",), "accuracy",
        "TanUkkii007/papers-i-read#98: on the difficulty of training recurrent nets",
        architecture="rnn", data="sequence", tolerate=("underfitting", "too_few_epochs"),
    ),
    Case(
        "faint-tower", faint_tower, ("vanishing_gradient",), "r2",
        "BVLC/caffe#1396: weights of deviation 0.01, any input gives the same output",
        tolerate=("underfitting", "lr_too_low"), fix=mended(refreshed),
    ),
    Case(
        "loop-that-grows", growing_loop, ("exploding_gradient", "init_too_large"), "r2",
        "pytorch/pytorch#2623: exploding gradients of a recurrent net written by hand",
        architecture="rnn", data="sequence", tolerate=("lr_too_high", "unstable_gradient"), fix=mended(_tame_loop),
    ),
    Case(
        "tower-that-grows", growing_tower, ("exploding_gradient", "init_too_large"), "r2",
        "gcr/torch-residual-networks#10: the loss explodes within the first steps under default settings",
        tolerate=("lr_too_high", "unstable_gradient"), fix=mended(_zero_branches),
    ),
    Case(
        "board-with-straight-layers", lambda seed: _straight(seed, sick=True), ("missing_nonlinearity",), "accuracy",
        "nutonomy/nuscenes-devkit#728: a nonlinearity is missing between the linear layers",
        tolerate=("underfitting", "capacity_too_small"), fix=None,
    ),
    Case(
        "gratings-with-straight-layers", lambda seed: _straight_eye(seed, sick=True), ("missing_nonlinearity",), "accuracy",
        "Nota-NetsPresso/netspresso-trainer#320: no activation behind intermediate layers",
        architecture="cnn", data="image", tolerate=("underfitting", "capacity_too_small"), fix=None,
    ),
)  # fmt: skip

PROOFS: dict[str, Callable[[int], Setup]] = {
    "twenty-steps-ago": _gated,
    "board-with-straight-layers": lambda seed: _straight(seed, sick=False),
    "gratings-with-straight-layers": lambda seed: _straight_eye(seed, sick=False),
}
