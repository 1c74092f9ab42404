"""Patients whose weights nobody moves: frozen, forgotten, hidden."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.held_out import images, sequences, tables
from benchmarks.clinic.held_out.kit import all_held, made, mended, parted
from benchmarks.clinic.held_out.models import TokenReader, Transformer, convnet, stacked


def _thaw(model: Any) -> None:
    model.requires_grad_(True)


def left_frozen(seed: int) -> Setup:
    """All but the last bias is frozen: a loop over names that was one too eager."""

    def model() -> nn.Module:
        net = convnet(1, 4)
        for name, weight in net.named_parameters():
            weight.requires_grad = name.endswith("8.bias")
        return net

    return made(seed, model, parted(images.gratings(seed), 600), nn.CrossEntropyLoss(), {"name": "adam", "lr": 5e-3}, epochs=12)


def frozen_reader(seed: int) -> Setup:
    def model() -> nn.Module:
        net = Transformer(8, 2, length=14, width=24)
        net.requires_grad_(False)
        net.head.requires_grad_(True)
        return net

    return made(
        seed, model, parted(sequences.which_first(seed), 900), nn.CrossEntropyLoss(), {"name": "adam", "lr": 5e-3}, epochs=10
    )


def only_the_head(seed: int) -> Setup:
    data = parted(sequences.motif(seed, rows=2200), 1700)
    held = lambda net: net.head.parameters()  # noqa: E731
    return made(seed, lambda: TokenReader(6, 2), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, held=held, epochs=12)


def yesterdays_weights(seed: int) -> Setup:
    """The optimizer was made before the model was copied: it moves the other one."""
    data = parted(tables.friedman(seed), 700)
    held = lambda net: copy.deepcopy(net).parameters()  # noqa: E731
    return made(seed, lambda: stacked([10, 48, 1]), data, nn.MSELoss(), {"name": "adam", "lr": 0.01}, held=held, epochs=15)


def biases_only(seed: int) -> Setup:
    """A filter by name that was meant for weight decay dropped the matrices altogether."""
    data = parted(tables.reaction(seed), 700)
    held = lambda net: [weight for weight in net.parameters() if weight.dim() == 1]  # noqa: E731
    optimizer = {"name": "adamw", "lr": 0.01}
    return made(seed, lambda: stacked([6, 32, 32, 1], norm=nn.LayerNorm), data, nn.MSELoss(), optimizer, held=held, epochs=15)


class Listed(nn.Module):
    """Hidden layers kept in a plain list."""

    def __init__(self, *, hidden: bool) -> None:
        super().__init__()
        layers = [nn.Linear(2, 10), nn.Linear(10, 10), nn.Linear(10, 10)]
        self.layers: Any = layers if hidden else nn.ModuleList(layers)
        self.head = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x)


def _listed(seed: int, *, sick: bool) -> Setup:
    data = parted(tables.checkerboard(seed, side=2), 900)
    return made(seed, lambda: Listed(hidden=sick), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.02}, epochs=25)


class ByName(nn.Module):
    """Branches kept in a dictionary, one for each half of the picture."""

    def __init__(self, *, hidden: bool) -> None:
        super().__init__()
        branches = {side: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(2)) for side in ("left", "right")}
        self.branches: Any = branches if hidden else nn.ModuleDict(branches)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x[..., :7], x[..., 3:]
        return self.head(torch.cat([self.branches["left"](left).flatten(1), self.branches["right"](right).flatten(1)], 1))


def _by_name(seed: int, *, sick: bool) -> Setup:
    data = parted(images.strokes(seed), 600)
    return made(seed, lambda: ByName(hidden=sick), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=15)


class LooseTensors(nn.Module):
    """A layer by hand, whose tensors ask for gradients but are no parameters."""

    def __init__(self, *, hidden: bool) -> None:
        super().__init__()
        first, second = 0.3 * torch.randn(2, 12), 0.3 * torch.randn(12, 4)
        self.first: Tensor = first.requires_grad_() if hidden else nn.Parameter(first)
        self.second: Tensor = second.requires_grad_() if hidden else nn.Parameter(second)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(torch.tanh(x @ self.first) @ self.second))


def _loose(seed: int, *, sick: bool) -> Setup:
    data = parted(tables.pinwheel(seed, arms=3), 900)
    return made(seed, lambda: LooseTensors(hidden=sick), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.02}, epochs=25)


CASES: tuple[Case, ...] = (
    Case(
        "gratings-left-frozen", left_frozen, ("frozen_params",), "accuracy",
        "wannabeOG/MAS-PyTorch#1: what should be frozen asks for gradients, the others don't",
        architecture="cnn", data="image", tolerate=("underfitting",), fix=mended(_thaw),
    ),
    Case(
        "order-under-ice", frozen_reader, ("frozen_params",), "accuracy",
        "optuna/optuna#3855, turned: freezing by name within a search didn't freeze what was meant",
        architecture="transformer", data="sequence", tolerate=("underfitting",), fix=mended(_thaw),
    ),
    Case(
        "motif-only-the-head", only_the_head, ("params_not_in_optimizer",), "accuracy",
        "zjunlp/HVPNeT#5: groups made but not appended, so layers aren't trained",
        architecture="rnn", data="sequence", tolerate=("underfitting",), fix=all_held,
    ),
    Case(
        "law-of-yesterdays-weights", yesterdays_weights, ("params_not_in_optimizer",), "r2",
        "floneum/kalosm#285: the optimizer got its weights before the layers were made",
        fix=all_held,
    ),
    Case(
        "reaction-biases-only", biases_only, ("params_not_in_optimizer",), "r2",
        "zjunlp/HVPNeT#5 again, in another form: groups by name, one of which never reaches the optimizer",
        tolerate=("underfitting",), fix=all_held,
    ),
    Case(
        "board-layers-in-a-list", lambda seed: _listed(seed, sick=True), ("unregistered_params",), "accuracy",
        "pytorch/pytorch#666: parameters contained in lists aren't seen", tolerate=("underfitting", "params_not_in_optimizer"),
    ),
    Case(
        "strokes-branches-by-name", lambda seed: _by_name(seed, sick=True), ("unregistered_params",), "accuracy",
        "asyml/texar-pytorch#72: trainable variables missing from a layer that merges others",
        architecture="cnn", data="image", tolerate=("underfitting", "params_not_in_optimizer"),
    ),
    Case(
        "wheel-of-loose-tensors", lambda seed: _loose(seed, sick=True), ("unregistered_params",), "accuracy",
        "pytorch/pytorch#38639: what isn't registered can't be seen by the optimizer; here bare tensors",
        tolerate=("underfitting", "params_not_in_optimizer"),
    ),
)  # fmt: skip

PROOFS: dict[str, Callable[[int], Setup]] = {
    "board-layers-in-a-list": lambda seed: _listed(seed, sick=False),
    "strokes-branches-by-name": lambda seed: _by_name(seed, sick=False),
    "wheel-of-loose-tensors": lambda seed: _loose(seed, sick=False),
}
