"""Patients whose graph is cut, or who run in the wrong mode."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.held_out import images, sequences, tables
from benchmarks.clinic.held_out.kit import made, parted
from benchmarks.clinic.held_out.models import SeriesReader, convnet, stacked


class CutOff(nn.Module):
    """An encoder and a head; what passes between is cut by some operation."""

    def __init__(self, encoder: nn.Module, head: nn.Module, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.encoder(x)))


def _itself(x: Tensor) -> Tensor:
    return x


def _by_numpy(x: Tensor) -> Tensor:
    """Per-row scaling in numpy."""
    rows = x.detach().numpy()
    return torch.from_numpy(rows / (np.abs(rows).max(axis=1, keepdims=True) + 1e-3))


def _by_rows(x: Tensor) -> Tensor:
    return x / (x.abs().amax(1, keepdim=True) + 1e-3)


def _rounded(x: Tensor) -> Tensor:
    return torch.round(2 * x) / 2


def _numpy_between(seed: int, *, sick: bool) -> Setup:
    data = parted(images.lamps(seed), 500)
    between = _by_numpy if sick else _by_rows
    net = lambda: CutOff(convnet(1, 5, widths=(6,), flat=216), stacked([5, 16, 2], nn.Tanh), between)  # noqa: E731
    return made(seed, net, data, nn.MSELoss(), {"name": "adam", "lr": 5e-3}, epochs=20)


def _rounded_between(seed: int, *, sick: bool) -> Setup:
    data = parted(tables.pinwheel(seed), 900)
    between = _rounded if sick else _itself
    net = lambda: CutOff(stacked([2, 32, 6]), stacked([6, 24, 4]), between)  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=25)


class Looked(nn.Module):
    """A recurrent reader under `no_grad`, as copied from an evaluation script, and nothing behind it but a mean."""

    def __init__(self, *, cut: bool) -> None:
        super().__init__()
        self.reader = SeriesReader(1, 4, kind=nn.GRU)
        self.cut = cut

    def forward(self, series: Tensor) -> Tensor:
        if self.cut:
            with torch.no_grad():
                return self.reader(series)
        return self.reader(series)


def _no_grad(seed: int, *, sick: bool) -> Setup:
    data = parted(sequences.wave_kinds(seed), 650)
    return made(seed, lambda: Looked(cut=sick), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=12)


class StillJudging(nn.Module):
    """Norm layers over raw columns; the whole of it is set to evaluation at each call."""

    def __init__(self, *, judging: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(30)
        self.body = stacked([30, 24, 1], nn.Tanh, norm=nn.BatchNorm1d)
        self.judging = judging

    def forward(self, x: Tensor) -> Tensor:
        if self.judging:
            self.eval()
        return self.body(self.norm(x))[:, 0]


def _judging_forward(seed: int, *, sick: bool) -> Setup:
    inputs, labels = tables.bundled(seed, "breast_cancer", raw=True)
    data = parted((inputs, labels.float()), 420)
    optimizer = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
    return made(seed, lambda: StillJudging(judging=sick), data, nn.BCEWithLogitsLoss(), optimizer, batch_size=32, epochs=15)


class Stubborn(nn.Module):
    """Batch norms that stay in evaluation because `train` was overridden for a fine-tuning long ago."""

    def __init__(self, *, stubborn: bool) -> None:
        super().__init__()
        self.stubborn = stubborn
        self.eye = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        )  # fmt: skip
        self.head = nn.Linear(16, 3)

    def train(self, mode: bool = True) -> Stubborn:
        super().train(mode)
        if self.stubborn:
            for module in self.eye:
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(self.eye(x).flatten(1), 0.1, self.training))


def _stubborn(seed: int, *, sick: bool) -> Setup:
    pictures, labels = images.hollows(seed)
    data = parted((0.04 * pictures, labels), 600)
    optimizer = {"name": "sgd", "lr": 0.1, "momentum": 0.5}
    return made(seed, lambda: Stubborn(stubborn=sick), data, nn.CrossEntropyLoss(), optimizer, batch_size=32, epochs=12)


CASES: tuple[Case, ...] = (
    Case(
        "lamps-through-numpy", lambda seed: _numpy_between(seed, sick=True), ("detached_graph",), "r2",
        "ClownW/Reinforcement-learning-with-PyTorch#3: detach().numpy() added where an error message asked for it",
        architecture="cnn", data="image", tolerate=("underfitting",),
    ),
    Case(
        "wheel-rounded-between", lambda seed: _rounded_between(seed, sick=True), ("detached_graph",), "accuracy",
        "pytorch/pytorch#1339: backprop through a step function gives nothing", tolerate=("underfitting", "vanishing_gradient"),
    ),
    Case(
        "kinds-without-gradient", lambda seed: _no_grad(seed, sick=True), ("detached_graph",), "accuracy",
        "LZGMatrix/BOP19_CDPN_2019ICCV#4: element 0 of tensors does not require grad",
        architecture="rnn", data="sequence",
    ),
    Case(
        "tumours-always-judging", lambda seed: _judging_forward(seed, sick=True), ("eval_mode_in_training",), "accuracy",
        "tk-rusch/coRNN#1: train() isn't called again after eval()", tolerate=("unnormalised_inputs", "saturated_activation"),
    ),
    Case(
        "hollows-stubborn-norms", lambda seed: _stubborn(seed, sick=True), ("eval_mode_in_training",), "accuracy",
        "MILVLG/mcan-vqa#26: back to training mode after an evaluation? here norm layers never are",
        architecture="cnn", data="image", tolerate=("unnormalised_inputs", "lr_too_low"),
    ),
)  # fmt: skip

PROOFS: dict[str, Callable[[int], Setup]] = {
    "lamps-through-numpy": lambda seed: _numpy_between(seed, sick=False),
    "wheel-rounded-between": lambda seed: _rounded_between(seed, sick=False),
    "kinds-without-gradient": lambda seed: _no_grad(seed, sick=False),
    "tumours-always-judging": lambda seed: _judging_forward(seed, sick=False),
    "hollows-stubborn-norms": lambda seed: _stubborn(seed, sick=False),
}
