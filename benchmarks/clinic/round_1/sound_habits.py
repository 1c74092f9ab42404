"""Healthy trainings of odd habits: rates high and low, decay and dropout that help, held features, reparametrised weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_1.sound import cut, friedman, mlp, normal, setup_of, sound, tokens, uniform


def moons(seed: int, num_rows: int, *, noise: float) -> tuple[Tensor, Tensor]:
    """Two crescents that reach into each other."""
    labels = tokens(seed, "moons", 2, num_rows)
    angles = math.pi * uniform(seed, "moon-angles", num_rows)
    side = 1.0 - 2.0 * labels
    rows = torch.stack([side * angles.cos() + labels - 0.5, side * angles.sin() + 0.5 * labels - 0.25], 1)
    return 1.5 * (rows + noise * normal(seed, "moon-noise", num_rows, 2)), labels


@sound("moons-plain-sgd", "rate 0.5 without momentum or norm", skill="accuracy", floor=0.93)
def plain_sgd(seed: int) -> Setup:
    rows, labels = moons(seed, 1800, noise=0.2)
    model = mlp(2, 1, width=16, unit=nn.Tanh)
    loss = nn.BCEWithLogitsLoss()
    return setup_of(cut(1000, rows, labels[:, None].float()), model, loss, {"name": "sgd", "lr": 0.5}, batch_size=16, epochs=20)


@sound("moons-four-hundred-epochs", "long past convergence on labels of which a tenth is wrong", skill="accuracy", floor=0.82)
def past_convergence(seed: int) -> Setup:
    rows, labels = moons(seed, 1200, noise=0.15)
    flipped = uniform(seed, "flips", 1200) < 0.1
    rows = torch.cat([rows, rows.square(), rows.pow(3)], 1)
    split = cut(240, rows, torch.where(flipped, 1 - labels, labels))
    settings = {"name": "sgd", "lr": 0.02, "momentum": 0.9}
    return setup_of(split, nn.Linear(6, 2), nn.CrossEntropyLoss(), settings, batch_size=24, epochs=400)


@sound("friedman-weight-norm", "weights are kept as gains and directions", skill="r2", floor=0.85)
def weight_normed(seed: int) -> Setup:
    rows, targets = friedman(seed, 1800)
    model = nn.Sequential(weight_norm(nn.Linear(8, 32)), nn.SiLU(), weight_norm(nn.Linear(32, 24)), nn.SiLU(), nn.Linear(24, 1))
    settings = {"name": "adam", "lr": 5e-3}
    return setup_of(cut(1000, rows, targets), model, nn.MSELoss(), settings, epochs=25)


class OwnNoise(nn.Module):
    """Gaussian likelihood; the noise is learned along with the model."""

    def __init__(self) -> None:
        super().__init__()
        self.log_spread = nn.Parameter(torch.zeros(()))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.log_spread + 0.5 * ((outputs - targets) / self.log_spread.exp()).square().mean()


@sound("friedman-noise-learned", "the loss goes below zero and holds a parameter of its own", skill="r2", floor=0.87)
def noise_learned(seed: int) -> Setup:
    rows, targets = friedman(seed, 1800)
    model, loss = mlp(8, 1, width=32, unit=nn.GELU), OwnNoise()
    settings = {"name": "adam", "lr": 3e-3, "params": [*model.parameters(), *loss.parameters()]}
    return setup_of(cut(1000, rows, targets), model, loss, settings, epochs=25)


@sound("friedman-slow-rate", "Adam at 0.0004 in batches of eight", skill="r2", floor=0.84)
def slow_rate(seed: int) -> Setup:
    rows, targets = friedman(seed, 1300)
    settings = {"name": "adam", "lr": 4e-4}
    return setup_of(cut(600, rows, targets), mlp(8, 1, width=48), nn.MSELoss(), settings, batch_size=8, epochs=50)


class Residual(nn.Module):
    """Normed residual layers."""

    def __init__(self, num_inputs: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(num_inputs, width), nn.Linear(width, 1)
        parts = (nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.Tanh()) for _ in range(depth))
        self.parts = nn.ModuleList(parts)

    def forward(self, inputs: Tensor) -> Tensor:
        states = self.stem(inputs)
        for part in self.parts:
            states = states + part(states) / len(self.parts)
        outputs: Tensor = self.head(states)
        return outputs


@sound("moons-fast-momentum", "rate 0.1 at momentum 0.9 through ten residual layers", skill="accuracy", floor=0.93)
def fast_momentum(seed: int) -> Setup:
    rows, labels = moons(seed, 1800, noise=0.2)
    settings = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    split = cut(1000, rows, labels[:, None].float())
    return setup_of(split, Residual(2, width=16, depth=10), nn.BCEWithLogitsLoss(), settings, epochs=15)


@sound("wine-spectral-norm", "142 rows; no layer may stretch", skill="accuracy", floor=0.94)
def wine(seed: int) -> Setup:
    from sklearn.datasets import load_wine

    bunch = load_wine()
    order = torch.randperm(178, generator=drawn(seed, "wine"))
    rows = torch.tensor(bunch.data, dtype=torch.float32)[order]
    rows = (rows - rows[:100].mean(0)) / rows[:100].std(0)
    model = nn.Sequential(spectral_norm(nn.Linear(13, 16)), nn.ReLU(), spectral_norm(nn.Linear(16, 3)))
    split = cut(100, rows, torch.tensor(bunch.target)[order])
    settings = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    return setup_of(split, model, nn.CrossEntropyLoss(label_smoothing=0.05), settings, batch_size=20, epochs=40)


@sound("diabetes-half-explained", "real records, half of the variance has no explanation", skill="r2", floor=0.35)
def diabetes(seed: int) -> Setup:
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes()
    order = torch.randperm(442, generator=drawn(seed, "diabetes"))
    rows = torch.tensor(bunch.data, dtype=torch.float32)[order] * 21
    targets = (torch.tensor(bunch.target, dtype=torch.float32)[order, None] - 152) / 77
    settings = {"name": "adamw", "lr": 3e-3, "weight_decay": 0.3}
    model = mlp(10, 1, width=8, depth=1, dropout=0.2)
    return setup_of(cut(242, rows, targets), model, nn.MSELoss(), settings, batch_size=16, epochs=25)


@sound(
    "genes-strong-decay", "decay of 0.6 in SGD on 120 rows of 80 columns: without it the fit is to noise", skill="r2", floor=0.3
)
def strong_decay(seed: int) -> Setup:
    rows = normal(seed, "rows", 1120, 80)
    targets = rows @ (0.11 * normal(0, "law", 80, 1)) + 0.8 * normal(seed, "noise", 1120, 1)
    settings = {"name": "sgd", "lr": 0.01, "weight_decay": 0.6}
    return setup_of(cut(120, rows, targets), nn.Linear(80, 1), nn.MSELoss(), settings, batch_size=12, epochs=60)


@sound("sensors-heavy-dropout", "half of the inputs and units are dropped, which helps", skill="accuracy", floor=0.72)
def heavy_dropout(seed: int) -> Setup:
    labels = tokens(seed, "labels", 2, 1240)
    rows = normal(seed, "rows", 1240, 60) + 0.2 * (2.0 * labels[:, None] - 1)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(60, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 2))
    return setup_of(cut(240, rows, labels), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 1e-3}, epochs=30)


class TiedCoder(nn.Module):
    """An autoencoder whose decoder is its encoder, turned round."""

    def __init__(self, num_columns: int, *, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, num_columns) / num_columns**0.5)
        self.code_bias, self.bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(num_columns))

    def forward(self, inputs: Tensor) -> Tensor:
        codes = functional.leaky_relu(functional.linear(inputs, self.weight, self.code_bias), 0.3)
        return functional.linear(codes, self.weight.T, self.bias)


def curves(seed: int, num_rows: int, num_latents: int) -> Tensor:
    """Rows of twenty readings that follow from few hidden quantities."""
    hidden = normal(seed, "hidden", num_rows, num_latents)
    waves = torch.sin(torch.arange(20.0)[None] * (0.3 + 0.25 * torch.arange(num_latents)[:, None]))
    return hidden @ waves * 0.7 + 0.2 * normal(seed, "reading-noise", num_rows, 20)


@sound("curves-tied-coder", "targets are the inputs; one weight serves both ways", skill="r2", floor=0.8)
def tied_coder(seed: int) -> Setup:
    rows = curves(seed, 1500, 4)
    settings = {"name": "adam", "lr": 5e-3}
    return setup_of(cut(800, rows, rows), TiedCoder(20, width=12), nn.MSELoss(), settings, epochs=25)


class Sampler(nn.Module):
    """A variational autoencoder: three tensors while it trains, the mean picture otherwise."""

    def __init__(self, num_columns: int, *, width: int) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp(num_columns, 6, width=width, depth=1), mlp(3, num_columns, width=width, depth=1)

    def forward(self, inputs: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        means, log_variances = self.encoder(inputs).chunk(2, 1)
        if not self.training:
            outputs: Tensor = self.decoder(means)
            return outputs
        return self.decoder(means + torch.randn_like(means) * (0.5 * log_variances).exp()), means, log_variances


def bound(outputs: Tensor | tuple[Tensor, Tensor, Tensor], targets: Tensor) -> Tensor:
    """Minus the evidence bound per column, of readings with a spread of 0.2; below zero once they are met."""
    if isinstance(outputs, Tensor):
        return math.log(0.2) + 12.5 * (outputs - targets).square().mean()
    drawn_rows, means, log_variances = outputs
    gap = 0.5 * (means.square() + log_variances.exp() - 1 - log_variances).sum(1).mean() / targets.shape[1]
    return math.log(0.2) + 12.5 * (drawn_rows - targets).square().mean() + gap


@sound("curves-variational", "a tuple in training, one tensor otherwise; the loss ends below zero", skill="r2", floor=0.75)
def variational(seed: int) -> Setup:
    rows = curves(seed, 1500, 3)
    return setup_of(cut(800, rows, rows), Sampler(20, width=24), bound, {"name": "adam", "lr": 3e-3}, epochs=30)


class Waves(nn.Module):
    """Random waves of the inputs, drawn once and held; a ridge on top."""

    def __init__(self, num_inputs: int, *, width: int) -> None:
        super().__init__()
        self.waves, self.head = nn.Linear(num_inputs, width), nn.Linear(width, 2)
        nn.init.normal_(self.waves.weight, std=1.2)
        nn.init.uniform_(self.waves.bias, 0, 2 * math.pi)
        self.waves.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(torch.cos(self.waves(inputs)))
        return outputs


@sound("moons-held-waves", "the first layer is random on purpose; the optimizer holds the head", skill="accuracy", floor=0.93)
def held_waves(seed: int) -> Setup:
    rows, labels = moons(seed, 1600, noise=0.2)
    model = Waves(2, width=100)
    settings = {"name": "adam", "lr": 0.01, "weight_decay": 1e-3, "params": list(model.head.parameters())}
    return setup_of(cut(800, rows, labels), model, nn.CrossEntropyLoss(), settings, epochs=15)


CASES: tuple[Case, ...] = (
    plain_sgd,
    past_convergence,
    weight_normed,
    noise_learned,
    slow_rate,
    fast_momentum,
    wine,
    diabetes,
    strong_decay,
    heavy_dropout,
    tied_coder,
    variational,
    held_waves,
)
