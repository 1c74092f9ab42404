"""Healthy tables that look odd."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.rules_seen import cures, networks, patients, tables
from benchmarks.clinic.rules_seen.networks import weights_from


def _plain(seed: int) -> Setup:
    return patients.clouds(seed)


def _linear(seed: int) -> Setup:
    with weights_from(seed):
        model = nn.Sequential(nn.Linear(8, 1))
    return patients.of(tables.lines(seed), model, nn.MSELoss(), {"name": "sgd", "lr": 0.1})


def _small(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(2, 16, 1, activation=nn.Tanh)
    split = tables.rings(seed, num_train=60, noise=0.08)
    return patients.of(split, model, nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 0.03}, batch_size=16, epochs=40)


def _noisy(seed: int) -> Setup:
    setup = patients.rings(seed, batch_size=64)

    def flip(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        wrong = torch.rand(targets.shape, generator=drawn(seed, f"flip{len(targets)}")) < 0.2
        return inputs, torch.where(wrong, 1 - targets, targets)

    return cures.both(cures.train_rows(flip), cures.val_rows(flip))(setup)


def _weighted(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(6, 16, 2)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.52, 12.5]))
    settings = {"name": "adam", "lr": 0.003}
    return patients.of(tables.rare(seed), model, loss, settings, batch_size=64, epochs=10)


def _fast(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(10, 64, 64, 5, norm=nn.BatchNorm1d)
    return patients.of(tables.clouds(seed), model, nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.5}, batch_size=50)


class _Branch(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.last = nn.Linear(width, width)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        change: Tensor = self.last(torch.relu(self.first(self.norm(inputs))))
        return inputs + change


def _deep_residual(seed: int) -> Setup:
    with weights_from(seed):
        model = nn.Sequential(nn.Linear(10, 32), *[_Branch(32) for _ in range(12)], nn.LayerNorm(32), nn.Linear(32, 5))
    return patients.of(tables.clouds(seed), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.003}, epochs=10)


def _zero_head(seed: int) -> Setup:
    setup = patients.waves(seed)
    nn.init.zeros_(setup["model"][-1].weight)
    nn.init.zeros_(setup["model"][-1].bias)
    return setup


def _sorted_but_shuffled(seed: int) -> Setup:
    def order(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        by_class = targets.argsort(stable=True)
        return inputs[by_class], targets[by_class]

    return cures.train_rows(order)(patients.clouds(seed))


class _MeanAndSpread(nn.GaussianNLLLoss):
    """Negative log-likelihood of a normal law of fixed small spread."""

    def forward(self, input: Tensor, target: Tensor, var: Tensor | float = 0.01) -> Tensor:
        spread = var if isinstance(var, Tensor) else torch.full_like(target, var)
        return super().forward(input, target, spread)


def _negative_loss(seed: int) -> Setup:
    setup = patients.waves(seed, loss=_MeanAndSpread(), epochs=25, optimizer={"name": "adam", "lr": 0.003})
    return setup


def _raw_before_norm(seed: int) -> Setup:
    factors = torch.tensor([[1.0, 400.0, 0.2, 3000.0, 25.0]])
    split = tables.with_inputs(tables.waves(seed), factors, 3.0 * factors)
    with weights_from(seed):
        model = nn.Sequential(nn.BatchNorm1d(5), networks.mlp(5, 48, 48, 1))
    return patients.of(split, model, nn.MSELoss(), {"name": "adam", "lr": 0.01}, epochs=25)


def _fitting_sum(seed: int) -> Setup:
    settings = {"name": "sgd", "lr": 0.1 / 32}
    return patients.clouds(seed, loss=nn.CrossEntropyLoss(reduction="sum"), optimizer=settings)


def _fitted_bias(seed: int) -> Setup:
    setup = patients.waves(seed)
    split = tables.scaled(tables.waves(seed), shift=300.0)
    nn.init.constant_(setup["model"][-1].bias, 300.0)
    return {**setup, "train": split.train, "val": split.val}


def _counts(seed: int) -> Setup:
    random = drawn(seed, "counts")
    inputs = torch.randn(1200, 4, generator=random)
    rate = (1.0 + 0.8 * inputs[:, :1] - 0.5 * inputs[:, 1:2]).exp()
    split = tables.cut(inputs, torch.poisson(rate, generator=random), 800)
    with weights_from(seed):
        model = nn.Sequential(networks.mlp(4, 32, 1), _Exp())
    return patients.of(split, model, nn.PoissonNLLLoss(log_input=False), {"name": "adam", "lr": 0.005})


class _Exp(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.clamp(max=8.0).exp()


def _few_copies(seed: int) -> Setup:
    """Small integers as features: a few validation rows equal training rows by chance."""
    random = drawn(seed, "dice")
    inputs = torch.randint(0, 5, (900, 6), generator=random).float()
    labels = ((inputs[:, 0] + inputs[:, 1] > inputs[:, 2] + 2) & (inputs[:, 3] > 0)).long()
    split = tables.Split(TensorDataset(inputs[:600], labels[:600]), TensorDataset(inputs[600:], labels[600:]))
    with weights_from(seed):
        model = networks.mlp(6, 32, 2)
    return patients.of(split, model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=20)


def _mostly_zeros(seed: int) -> Setup:
    random = drawn(seed, "words")
    labels = torch.randint(3, (900,), generator=random)
    chance = torch.full((3, 60), 0.03)
    for label in range(3):
        chance[label, 8 * label : 8 * label + 8] = 0.3
    inputs = (torch.rand(900, 60, generator=random) < chance[labels]).float()
    with weights_from(seed):
        model = networks.mlp(60, 24, 3)
    return patients.of(tables.cut(inputs, labels, 600), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.002})


CASES: tuple[Case, ...] = (
    Case("ok-clouds", _plain, (), "accuracy", "nothing odd: a plain table", floor=0.88),
    Case("ok-linear-law", _linear, (), "r2", "no activation at all, but the law is linear", floor=0.9),
    Case("ok-sixty-rows", _small, (), "accuracy", "60 training rows", floor=0.92),
    Case("ok-flipped-labels", _noisy, (), "accuracy", "a fifth of the labels is wrong: no model can exceed 0.8", floor=0.7),
    Case("ok-weighted-rare", _weighted, (), "balanced_accuracy", "4 % of a class, met by weights", floor=0.7),
    Case("ok-sgd-half-norm", _fast, (), "accuracy", "SGD at 0.5, borne by batch norm", floor=0.88),
    Case("ok-deep-residual", _deep_residual, (), "accuracy", "26 layers; branches that start at zero", floor=0.88),
    Case("ok-zero-head", _zero_head, (), "r2", "the head starts at zero: no gradient behind it in the first step", floor=0.9),
    Case(
        "ok-sorted-shuffled", _sorted_but_shuffled, (), "accuracy", "rows sorted by class, but shuffled by the loader", floor=0.88
    ),
    Case("ok-negative-loss", _negative_loss, (), "r2", "a negative log-likelihood that is below zero", floor=0.9),
    Case("ok-raw-before-norm", _raw_before_norm, (), "r2", "columns in raw units, but batch norm comes first", floor=0.85),
    Case("ok-fitting-sum", _fitting_sum, (), "accuracy", "the loss is a sum, the rate is divided by the batch size", floor=0.88),
    Case("ok-fitted-bias", _fitted_bias, (), "r2", "targets around 300, the last bias starts there", floor=0.85),
    Case(
        "ok-counts", _counts, (), "r2", "counts under a Poisson loss: integers that are no classes, noise that stays", floor=0.4
    ),
    Case("ok-few-copies", _few_copies, (), "accuracy", "a few validation rows equal training rows by chance", floor=0.9),
    Case("ok-mostly-zeros", _mostly_zeros, (), "accuracy", "nine cells of ten are zero", floor=0.85),
)
