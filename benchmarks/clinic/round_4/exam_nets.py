"""Starts and signals: weights that begin badly, activations that die or saturate, gradients that vanish or explode."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_4 import exam_kit as kit

CE = nn.CrossEntropyLoss
ADAM = {"name": "adam", "lr": 3e-3}


def _weights(module: nn.Module, draw: Callable[[Tensor], Any], bias: float | None = None) -> nn.Module:
    """Draw all matrices and kernels anew, and fill the biases where a number is given."""
    for tensor in module.parameters():
        if tensor.dim() > 1:
            with torch.no_grad():
                draw(tensor)
        elif bias is not None:
            nn.init.constant_(tensor, bias)
    return module


def _constant(seed: int) -> Setup:
    """Every weight 0.05, every bias 0."""
    model = kit.built(seed, lambda: _weights(kit.dense(4, 48, 48, 3, act=nn.Tanh), lambda weight: weight.fill_(0.05), 0.0))
    return kit.job(model, kit.cut(*kit.rings(seed, 1_400), 1_000), CE(), {"name": "adam", "lr": 5e-3}, epochs=25)


def _zeros(seed: int) -> Setup:
    """A picture network whose weights and biases were all set to zero."""
    model = kit.built(seed, lambda: _weights(kit.convnet(4, width=16), lambda weight: weight.zero_(), 0.0))
    return kit.job(model, kit.cut(*kit.gratings(seed, 1_100), 800), CE(), ADAM, epochs=10)


def _normal(seed: int) -> Setup:
    """Weights drawn from a normal law of spread 1."""
    model = kit.built(seed, lambda: _weights(kit.dense(12, 64, 64, 64, 5), lambda weight: weight.normal_(0, 1)))
    rows = kit.cut(*kit.groups(seed, 1_600), 1_200)
    return kit.job(model, rows, CE(), {"name": "adam", "lr": 1e-3}, epochs=20)


def _own_cell(seed: int, scale: float = 1.0) -> Setup:
    """Its matrices come straight from torch.randn."""
    rows = kit.cut(*kit.tones(seed, 1_300, length=20), 900)
    return kit.job(kit.built(seed, lambda: kit.OwnCell(1, 48, 3, scale)), rows, CE(), {"name": "adam", "lr": 3e-3}, epochs=20)


def _sigmoids(seed: int, act: type[nn.Module] = nn.Sigmoid) -> Setup:
    """Six hidden layers of sigmoids."""
    model = kit.built(seed, lambda: kit.dense(12, *[40] * 6, 5, act=act))
    rows = kit.cut(*kit.groups(seed, 1_300), 900)
    return kit.job(model, rows, CE(), {"name": "sgd", "lr": 0.1, "momentum": 0.9}, epochs=20)


def _long_memory(seed: int, kind: type[nn.RNNBase] = nn.RNN) -> Setup:
    """What opened a sequence of 40 steps? Asked of a plain recurrent net."""

    def make() -> nn.Module:
        model = kit.Reader(kind, 8, 32, 4)
        if kind is nn.LSTM:
            with torch.no_grad():
                model.recurrent.get_parameter("bias_hh_l0")[32:64] = 4.0
        return model

    rows = kit.cut(*kit.openings(seed, 1_200, length=40), 900)
    return kit.job(kit.built(seed, make), rows, CE(), {"name": "adam", "lr": 5e-3}, epochs=15)


def _relu_recurrence(seed: int, gain: float = 1.6) -> Setup:
    """A recurrent net of ReLUs, its matrix drawn orthogonal with a gain, adds up 50 steps."""
    source = drawn(seed, "takings")
    takings = torch.rand(1_200, 50, 1, generator=source) * torch.rand(1_200, 1, 1, generator=source)
    totals = takings.sum(1)

    def make() -> nn.Module:
        model = kit.Reader(nn.RNN, 1, 32, 1, nonlinearity="relu")
        nn.init.orthogonal_(model.recurrent.get_parameter("weight_hh_l0"), gain=gain)
        return model

    rows = kit.cut(takings, (totals - totals.mean()) / totals.std(), 800)
    return kit.job(kit.built(seed, make), rows, nn.MSELoss(), {"name": "adam", "lr": 1e-3}, epochs=15)


class Stack(nn.Module):
    """Residual blocks without any norm, or with one at the entrance of each."""

    def __init__(self, depth: int, width: int, normed: str) -> None:
        super().__init__()
        self.entry = nn.Linear(6, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width) if normed == "layer" else nn.Identity(),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Linear(width, width),
            )
            for _ in range(depth)
        )
        for block in self.blocks:
            for layer in block.children():
                if isinstance(layer, nn.Linear):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.head = nn.Linear(width, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        state = self.entry(inputs)
        for block in self.blocks:
            state = state + block(state)
        outputs: Tensor = self.head(state)
        return outputs


def _stack(seed: int, normed: str = "none") -> Setup:
    """Sixteen blocks, each of which doubles what goes in."""
    rows = kit.cut(*kit.yields(seed, 1_200), 800)
    return kit.job(kit.built(seed, lambda: Stack(16, 32, normed)), rows, nn.MSELoss(), {"name": "adam", "lr": 1e-3}, epochs=15)


def _decibels(seed: int) -> Setup:
    """Signal strengths in decibel, -90 to -40, into a first layer of small positive weights."""
    source = drawn(seed, "decibels")
    place = torch.rand(1_300, 2, generator=source) * 2 - 1
    angle = torch.arange(8.0) * math.pi / 4
    masts = torch.stack([angle.cos(), angle.sin()], 1)
    strength = -62 - 12 * torch.cdist(place, masts) + 1.5 * torch.randn(1_300, 8, generator=source)
    label = (place[:, 0] > 0).long() * 2 + (place[:, 1] > 0).long()

    def make() -> nn.Module:
        model = kit.dense(8, 40, 40, 4)
        for layer in model:
            if isinstance(layer, nn.Linear):
                nn.init.uniform_(layer.weight, 0.0, 0.1)
        return model

    return kit.job(kit.built(seed, make), kit.cut(strength, label, 900), CE(), ADAM, epochs=15)


def _scaled_decibels(setup: Setup) -> Setup:
    inputs, labels = setup["train"].tensors
    held, truth = setup["val"].tensors
    middle, spread = inputs.mean(0), inputs.std(0)
    rows = ((inputs - middle) / spread, labels), ((held - middle) / spread, truth)
    return kit.job(kit.redrawn(setup)["model"], rows, CE(), ADAM, epochs=15)


def _prior_bias(seed: int) -> Setup:
    """The detector's prior, meant for the last layer's bias, was written into every layer's."""
    model = kit.built(seed, lambda: kit.convnet(4, width=16))
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.bias, -math.log((1 - 0.01) / 0.01))  # type: ignore[arg-type]
    return kit.job(model, kit.cut(*kit.figures(seed, 1_300), 1_000), CE(), {"name": "adam", "lr": 5e-3}, epochs=15)


def _raw_pixels(seed: int) -> Setup:
    """Pixels from 0 to 255 into sigmoid units."""
    rows = kit.digits(seed)
    rows = ((rows[0][0] * 255, rows[0][1]), (rows[1][0] * 255, rows[1][1]))

    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), _weights(kit.dense(64, 40, 40, 10, act=nn.Sigmoid), nn.init.xavier_normal_))

    return kit.job(kit.built(seed, make), rows, CE(), {"name": "sgd", "lr": 0.1}, epochs=20)


def _scaled_pixels(setup: Setup) -> Setup:
    rows = tuple((split.tensors[0] / 255, split.tensors[1]) for split in (setup["train"], setup["val"]))
    settings = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    return kit.job(setup["model"], (rows[0], rows[1]), CE(), settings, epochs=20)


def _codes(seed: int, slope: float = 60.0) -> Setup:
    """A hashing network: two layers of steep codes under a regression."""

    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 32), kit.Steep(slope), nn.Linear(32, 32), kit.Steep(slope), nn.Linear(32, 1))

    rows = kit.cut(*kit.yields(seed, 1_400), 1_000)
    return kit.job(kit.built(seed, make), rows, nn.MSELoss(), {"name": "adam", "lr": 5e-3}, epochs=25)


def _plain_layers(seed: int, act: type[nn.Module] = nn.Identity) -> Setup:
    """Three linear layers in a row."""
    model = kit.built(seed, lambda: kit.dense(4, 32, 32, 3, act=act))
    return kit.job(model, kit.cut(*kit.rings(seed, 1_300), 900), CE(), {"name": "adam", "lr": 5e-3}, epochs=15)


def _plain_kernels(seed: int, act: type[nn.Module] = nn.Identity) -> Setup:
    """Two convolutions and a mean, nothing between."""
    rows = kit.cut(*kit.gratings(seed, 1_200), 900)
    return kit.job(kit.built(seed, lambda: kit.convnet(4, 16, nn.BatchNorm2d, act)), rows, CE(), ADAM, epochs=10)


_NET: dict[str, Any] = {"architecture": "cnn", "data": "image"}
_RNN: dict[str, Any] = {"architecture": "rnn", "data": "sequence"}
CASES: tuple[Case, ...] = (
    Case("rings-from-equal-weights", _constant, ("symmetric_init",), "accuracy", "all weights filled with one number",
        fix=kit.redrawn),
    Case("gratings-from-zeros", _zeros, ("symmetric_init",), "accuracy",
        "all weights zero under ReLU (stats.stackexchange 294332)", tolerate=("dead_relu", "vanishing_gradient"), fix=kit.redrawn,
        **_NET),
    Case("clouds-from-unit-normal-weights", _normal, ("init_too_large",), "accuracy",
        "weights from torch.randn, the first loss is in the hundreds", tolerate=("exploding_gradient", "lr_too_high"),
        fix=kit.redrawn),
    Case("own-cell-from-randn", _own_cell, ("init_too_large", "saturated_activation"), "accuracy",
        "a recurrent cell written by hand with torch.randn parameters", tolerate=("exploding_gradient", "unstable_gradient"),
        **_RNN),
    Case("six-sigmoid-layers-on-clouds", _sigmoids, ("vanishing_gradient",), "accuracy",
        "several hidden layers of sigmoids do not learn (ai.stackexchange 16557)", tolerate=("saturated_activation",)),
    Case("plain-recurrence-forgets-the-opening", _long_memory, ("vanishing_gradient",), "accuracy",
        "nn.RNN stays at chance where the answer lies far back", **_RNN),
    Case("relu-recurrence-with-a-gain", _relu_recurrence, ("exploding_gradient", "init_too_large"), "r2",
        "loss becomes nan with nn.RNN(nonlinearity='relu')", tolerate=("unstable_gradient", "lr_too_high"), **_RNN),
    Case("sixteen-blocks-without-norm", _stack, ("exploding_gradient", "init_too_large"), "r2",
        "a deep residual net without norm layers gives nan", tolerate=("unstable_gradient", "lr_too_high")),
    Case("decibels-kill-the-first-layer", _decibels, ("dead_relu", "unnormalised_inputs"), "accuracy",
        "all outputs equal: negative inputs on positive weights", fix=_scaled_decibels),
    Case("detector-prior-in-every-bias", _prior_bias, ("dead_relu",), "accuracy", "the focal loss prior put into all layers",
        tolerate=("vanishing_gradient",), fix=kit.redrawn, **_NET),
    Case("sigmoids-on-raw-pixels", _raw_pixels, ("saturated_activation", "unnormalised_inputs"), "accuracy",
        "a sigmoid network on MNIST pixels up to 255", data="image", fix=_scaled_pixels),
    Case("codes-too-steep-to-learn", _codes, ("saturated_activation",), "r2",
        "tanh(beta x) with a large beta in a hashing network",
        tolerate=("vanishing_gradient", "unstable_gradient", "exploding_gradient")),
    Case("rings-by-plain-layers", _plain_layers, ("missing_nonlinearity",), "accuracy",
        "nn.Linear after nn.Linear does not separate circles", tolerate=("underfitting",)),
    Case("gratings-by-plain-kernels", _plain_kernels, ("missing_nonlinearity",), "accuracy", "F.relu forgotten in forward",
        tolerate=("underfitting",), **_NET),
)  # fmt: skip
PROOFS: dict[str, Callable[[int], Setup]] = {
    "own-cell-from-randn": lambda seed: _own_cell(seed, 0.12),
    "six-sigmoid-layers-on-clouds": lambda seed: _sigmoids(seed, nn.ReLU),
    "plain-recurrence-forgets-the-opening": lambda seed: _long_memory(seed, nn.LSTM),
    "relu-recurrence-with-a-gain": lambda seed: _relu_recurrence(seed, 0.8),
    "sixteen-blocks-without-norm": lambda seed: _stack(seed, "layer"),
    "codes-too-steep-to-learn": lambda seed: _codes(seed, 1.0),
    "rings-by-plain-layers": lambda seed: _plain_layers(seed, nn.ReLU),
    "gratings-by-plain-kernels": lambda seed: _plain_kernels(seed, nn.ReLU),
}
