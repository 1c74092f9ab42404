"""Sick by a gradient that is cut on its way back, or by weights that nobody knows of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.rules_seen import networks, patients
from benchmarks.clinic.rules_seen.networks import weights_from


class _Listed(nn.Module):
    """Hidden layers in a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [nn.Linear(10, 12), nn.Linear(12, 12), nn.Linear(12, 12)]
        self.head = nn.Linear(12, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        for layer in self.hidden:
            inputs = torch.relu(layer(inputs))
        outputs: Tensor = self.head(inputs)
        return outputs


class _Named(nn.Module):
    """Branches in a plain dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = {"near": nn.Conv2d(1, 4, 3, padding=1), "far": nn.Conv2d(1, 4, 5, padding=2)}
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        states = torch.cat([branch(images).relu().amax((2, 3)) for branch in self.branches.values()], 1)
        outputs: Tensor = self.head(states)
        return outputs


class _PlainTensor(nn.Module):
    """A weight that is a tensor, not a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.randn(5, 6) * 0.4
        self.head = nn.Linear(6, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(torch.tanh(inputs @ self.gain))
        return outputs


def _listed(seed: int) -> Setup:
    with weights_from(seed):
        return patients.clouds(seed, model=_Listed())


def _listed_well(setup: Setup) -> Setup:
    setup["model"].hidden = nn.ModuleList(setup["model"].hidden)
    return setup


def _named(seed: int) -> Setup:
    with weights_from(seed):
        return patients.shapes(seed, model=_Named(), optimizer={"name": "adam", "lr": 0.02}, epochs=15)


def _named_well(setup: Setup) -> Setup:
    setup["model"].branches = nn.ModuleDict(setup["model"].branches)
    return setup


def _plain_tensor(seed: int) -> Setup:
    with weights_from(seed):
        return patients.waves(seed, model=_PlainTensor())


def _as_parameter(setup: Setup) -> Setup:
    gain = setup["model"].gain
    del setup["model"].gain
    setup["model"].gain = nn.Parameter(gain)
    return setup


class _Cut(nn.Module):
    """A body and a head with something between them that stops gradients, or nothing."""

    def __init__(self, body: nn.Module, head: nn.Module, how: str) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.how = how

    def forward(self, inputs: Tensor) -> Tensor:
        states = self.body(inputs)
        if self.how == "detach":
            states = states.detach()
        elif self.how == "numpy":
            states = torch.from_numpy(states.detach().numpy().clip(-3, 3))
        elif self.how == "round":
            states = states.round()
        outputs: Tensor = self.head(states)
        return outputs if self.how != "copy" else torch.tensor(outputs.tolist())


def _joined(setup: Setup) -> Setup:
    setup["model"].how = "none"
    return setup


def _numpy_between(seed: int) -> Setup:
    with weights_from(seed):
        model = _Cut(networks.mlp(5, 32, 6), networks.mlp(6, 1), "numpy")
    return patients.waves(seed, model=model)


def _rounded(seed: int) -> Setup:
    with weights_from(seed):
        model = _Cut(networks.mlp(10, 24, 4), nn.Linear(4, 5), "round")
    return patients.clouds(seed, model=model)


def _detached_reader(seed: int) -> Setup:
    with weights_from(seed):
        model = _Cut(networks.Reader(2, 6, cell="lstm"), nn.Linear(6, 1), "detach")
    return patients.sums(seed, model=model)


def _copied_outputs(seed: int) -> Setup:
    with weights_from(seed):
        model = _Cut(networks.cnn(16), nn.Linear(16, 4), "copy")
    return patients.stripes(seed, model=model)


def _whole(build: Callable[[int], Setup]) -> Callable[[int], Setup]:
    return lambda seed: _joined(build(seed))


CASES: tuple[Case, ...] = (
    Case(
        "clouds-listed-layers",
        _listed,
        ("unregistered_params",),
        "accuracy",
        "GitHub pytorch/pytorch#715 and #1053: layers in a Python list",
        tolerate=("params_not_in_optimizer", "capacity_too_small", "underfitting"),
        fix=_listed_well,
    ),
    Case(
        "shapes-named-branches",
        _named,
        ("unregistered_params",),
        "accuracy",
        "GitHub pytorch/pytorch#632: layers in a Python dictionary",
        architecture="cnn",
        data="image",
        tolerate=("params_not_in_optimizer", "capacity_too_small", "underfitting"),
        fix=_named_well,
    ),
    Case(
        "waves-plain-tensor",
        _plain_tensor,
        ("unregistered_params",),
        "r2",
        "GitHub pytorch/pytorch#4631: a weight that isn't found by parameters(); here a bare tensor",
        tolerate=("params_not_in_optimizer", "capacity_too_small", "underfitting"),
        fix=_as_parameter,
    ),
    Case(
        "waves-numpy-between",
        _numpy_between,
        ("detached_graph",),
        "r2",
        "GitHub zhuangdizhu/FedGen#15: the advice 'use detach().numpy()' followed inside of forward",
        tolerate=("underfitting", "capacity_too_small"),
    ),
    Case(
        "clouds-rounded-states",
        _rounded,
        ("detached_graph",),
        "accuracy",
        "rounding in forward: its gradient is zero everywhere",
        tolerate=("underfitting", "capacity_too_small", "vanishing_gradient"),
    ),
    Case(
        "sums-detached-states",
        _detached_reader,
        ("detached_graph",),
        "r2",
        "detach() on the states was meant for the previous batch's only",
        architecture="rnn",
        data="sequence",
        tolerate=("underfitting", "capacity_too_small"),
    ),
    Case(
        "stripes-copied-outputs",
        _copied_outputs,
        ("detached_graph",),
        "accuracy",
        "frequent crash 'element 0 of tensors does not require grad': outputs copied into a new tensor",
        architecture="cnn",
        data="image",
    ),
)

PROOFS = {
    "waves-numpy-between": _whole(_numpy_between),
    "clouds-rounded-states": _whole(_rounded),
    "sums-detached-states": _whole(_detached_reader),
    "stripes-copied-outputs": _whole(_copied_outputs),
}
