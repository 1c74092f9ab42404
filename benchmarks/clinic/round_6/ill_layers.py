"""Sick by what happens to signals and gradients on their way through the layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_6 import ill_parts as parts


def _remade(make: Callable[[], nn.Module]) -> parts.Mend:
    def mend(sick: Setup) -> Setup:
        with parts.weights_from(77):
            return {**sick, "model": make()}

    return mend


def _afresh(sick: Setup) -> Setup:
    with parts.weights_from(78):
        for part in sick["model"].modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
    return sick


def _soils_sigmoids(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.mlp(8, *[40] * 6, 5, act=nn.Sigmoid)
    return parts.setup(parts.soils(seed), model, nn.CrossEntropyLoss(), lr=1e-3)


def _recalls_plain(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.Reader(4, 4, cell="rnn", width=32)
    return parts.setup(parts.recalls(seed, steps=50), model, nn.CrossEntropyLoss(), lr=3e-3, epochs=10)


class _Echo(nn.Module):
    """A gated recurrent network, and a linear layer on the mean of its states."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(4, 32, batch_first=True)
        self.head = nn.Linear(32, 4)

    def forward(self, series: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.cell(series)[0].mean(1))
        return outputs


def _stack() -> nn.Sequential:
    stack: list[nn.Module] = [nn.Conv2d(1, 12, 3, stride=2, padding=1), nn.ReLU()]
    for _ in range(10):
        stack += [nn.Conv2d(12, 12, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*stack, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(108, 5))


def _tiles_stack(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = _stack()
    return parts.setup(parts.tiles(seed, noise=0.2), model, nn.CrossEntropyLoss(), name="sgd", lr=0.003, momentum=0.9, epochs=15)


def _he(sick: Setup) -> Setup:
    with parts.weights_from(79):
        for part in sick["model"].modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                nn.init.zeros_(part.bias)  # type: ignore[arg-type]
    return sick


class _Loop(nn.Module):
    """A recurrent network of its author's own: the new state is a linear layer of input and old state."""

    def __init__(self, *, bounded: bool = False) -> None:
        super().__init__()
        self.inputs, self.states, self.head = nn.Linear(1, 32), nn.Linear(32, 32), nn.Linear(32, 1)
        self.bounded = bounded
        nn.init.kaiming_normal_(self.states.weight)

    def forward(self, series: Tensor) -> Tensor:
        state = torch.zeros(len(series), 32)
        for step in range(series.shape[1]):
            state = self.inputs(series[:, step]) + self.states(state)
            state = torch.tanh(state) if self.bounded else state
        outputs: Tensor = self.head(state)
        return outputs


def _loads_linear_loop(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = _Loop()
    return parts.setup(parts.loads(seed, steps=36), model, nn.MSELoss(), lr=1e-3, epochs=8)


def _bounded(sick: Setup) -> Setup:
    sick["model"].bounded = True
    nn.init.orthogonal_(sick["model"].states.weight, 0.9)
    return sick


class _Steep(nn.Module):
    """Units that are nearly on or off."""

    def __init__(self, steep: float) -> None:
        super().__init__()
        self.first, self.second, self.head, self.steep = nn.Linear(14, 48), nn.Linear(48, 48), nn.Linear(48, 5), steep

    def forward(self, traits: Tensor) -> Tensor:
        states = torch.sigmoid(self.steep * self.first(traits))
        outputs: Tensor = torch.sigmoid(self.head(torch.sigmoid(self.steep * self.second(states))))
        return outputs


def _themes_steep(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = _Steep(250.0)
    return parts.setup(parts.themes(seed), model, nn.BCELoss(), lr=2e-3, epochs=40)


def _gentle(sick: Setup) -> Setup:
    sick["model"].steep = 1.0
    return sick


def _guests_randn(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.mlp(10, 64, 64, 1, act=nn.Tanh)
        for part in model:
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    return parts.setup(parts.guests(seed), model, nn.BCEWithLogitsLoss(), name="sgd", lr=0.05, momentum=0.9, epochs=30)


def _dials_low_biases(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.eye(1)
        for part in model:
            if isinstance(part, nn.Conv2d):
                nn.init.constant_(part.bias, -2.0)  # type: ignore[arg-type]
    return parts.setup(parts.dials(seed), model, nn.MSELoss(), epochs=12)


def _gaits_unit_weights(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.Reader(3, 4, width=32)
        for weights in model.parameters():
            nn.init.normal_(weights, std=1.5)
    return parts.setup(parts.gaits(seed), model, nn.CrossEntropyLoss(), lr=1e-2, epochs=12)


_FLAT = ("underfitting", "too_few_epochs", "lr_too_low")

CASES: tuple[Case, ...] = (
    Case(
        "soils-six-layers-of-sigmoid",
        _soils_sigmoids,
        ("vanishing_gradient",),
        "accuracy",
        "ai.stackexchange 16557: four hidden layers of sigmoids don't learn; here six",
        tolerate=(*_FLAT, "saturated_activation"),
        fix=_remade(lambda: parts.mlp(8, *[40] * 6, 5)),
    ),
    Case(
        "recalls-what-came-fifty-steps-ago",
        _recalls_plain,
        ("vanishing_gradient",),
        "accuracy",
        "frequent question: a plain RNN forgets the start of a sequence (Bengio et al. 1994)",
        architecture="rnn",
        data="sequence",
        tolerate=(*_FLAT, "exploding_gradient", "capacity_too_small"),
        fix=_remade(_Echo),
    ),
    Case(
        "tiles-twelve-convolutions-by-default",
        _tiles_stack,
        ("vanishing_gradient",),
        "accuracy",
        "pytorch/pytorch#15314 on the gain of default weights: they shrink signals, and a deep plain stack stays at chance",
        architecture="cnn",
        data="image",
        tolerate=(*_FLAT, "dead_relu"),
        fix=_he,
    ),
    Case(
        "loads-recurrence-without-a-bound",
        _loads_linear_loop,
        ("exploding_gradient", "init_too_large"),
        "r2",
        "frequent question 'RNN loss becomes NaN due to very large prediction values': a hand-made cell without activation",
        architecture="rnn",
        data="sequence",
        tolerate=("missing_nonlinearity", "unstable_gradient", "lr_too_high"),
        fix=_bounded,
    ),
    Case(
        "themes-steep-units",
        _themes_steep,
        ("saturated_activation",),
        "r2",
        "stats.stackexchange 265453: hidden sigmoids are all close to 0 or 1, nothing moves them; here by a steep slope",
        tolerate=("vanishing_gradient", "init_too_large", "overfitting"),
        fix=_gentle,
    ),
    Case(
        "guests-weights-from-randn",
        _guests_randn,
        ("init_too_large", "saturated_activation"),
        "accuracy",
        "frequent question: weights from randn as in a first textbook; tanh units saturate",
        tolerate=("overfitting", "vanishing_gradient", "lr_too_high"),
        fix=_afresh,
    ),
    Case(
        "dials-biases-below-zero",
        _dials_low_biases,
        ("dead_relu",),
        "r2",
        "frequent question: constant negative biases 'for sparsity' and a network that gives one value",
        architecture="cnn",
        data="image",
        tolerate=("vanishing_gradient", "init_too_large", "underfitting"),
        fix=_afresh,
    ),
    Case(
        "gaits-gates-slammed-shut",
        _gaits_unit_weights,
        ("init_too_large", "saturated_activation"),
        "accuracy",
        "poweic/libdnn#16: the start decides whether training takes off; here a normal start for all of a GRU",
        architecture="rnn",
        data="sequence",
        tolerate=("overfitting", "vanishing_gradient", "exploding_gradient"),
        fix=_afresh,
    ),
)
