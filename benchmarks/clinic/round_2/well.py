"""Tables that nothing ails, odd as they look: no obvious change would make them much better."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Subset, TensorDataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_2 import builds, layers, nets
from benchmarks.clinic.round_2.builds import Calls, cut, plan, stack, weights_of


def _sorted_marks(seed: int) -> Setup:
    with weights_of(seed):
        model = nets.Factors(3)
    train, val = builds.ratings(seed)
    assert isinstance(train, TensorDataset)
    pairs, marks = train.tensors
    order = torch.argsort(pairs[:, 0], stable=True)
    return plan((TensorDataset(pairs[order], marks[order]), val), model, nn.MSELoss(), "adam", 0.03, epochs=20, batch_size=65)


def _forty_rows(seed: int) -> Setup:
    with weights_of(seed):
        model = stack(6, 24, 4, bend=nn.Tanh)
    train, val = builds.soils(seed)
    return plan((Subset(train, range(40)), val), model, nn.CrossEntropyLoss(), "adam", 0.01, epochs=40, batch_size=10)


def _strong_decay(seed: int) -> Setup:
    draw = drawn(seed, "assays")
    x = torch.randn(700, 50, generator=draw)
    y = x[:, :10].sum(1, keepdim=True) / math.sqrt(10.0) + torch.randn(700, 1, generator=draw)
    with weights_of(seed):
        model = stack(50, 64, 1)
    return plan(cut(x, y, 150), model, nn.MSELoss(), "adamw", 0.002, epochs=40, batch_size=15, weight_decay=6.0)


def _sgd_of_one(seed: int) -> Setup:
    with weights_of(seed):
        model = nn.Sequential(nn.Linear(6, 48), nn.LayerNorm(48), nn.ReLU(), nn.Linear(48, 48), nn.LayerNorm(48), nn.ReLU())
        model.append(nn.Linear(48, 4))
    return plan(builds.soils(seed, rows=1200), model, nn.CrossEntropyLoss(), "sgd", 0.6, epochs=20)


def _idle_column(seed: int) -> Setup:
    with weights_of(seed):
        model = Calls(lambda self, loan: self.head(loan["quantities"]).squeeze(1), head=stack(4, 16, 1))
    return plan(builds.loans(seed), model, nn.MSELoss(), "adam", 0.01, epochs=12)


def _several_labels(seed: int) -> Setup:
    draw = drawn(seed, "labels")
    x = torch.randn(1200, 8, generator=draw)
    chances = torch.sigmoid(2.0 * (x @ torch.randn(8, 5, generator=draw)) / 2.0 - torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0]))
    y = (torch.rand(1200, 5, generator=draw) < chances).float()
    with weights_of(seed):
        model = nn.Sequential(stack(8, 24, 5), nn.Sigmoid())
    return plan(cut(x, y, 800), model, nn.BCELoss(), "adam", 0.005, epochs=12)


def _visits(seed: int) -> Setup:
    draw = drawn(seed, "visits")
    x = torch.randn(1200, 5, generator=draw)
    rates = functional.softplus(2.0 * x[:, :1] + x[:, 1:2].abs())
    with weights_of(seed):
        model = nn.Sequential(stack(5, 32, 1), nn.Softplus())
    loss = nn.PoissonNLLLoss(log_input=False)
    return plan(cut(x, torch.poisson(rates, generator=draw), 800), model, loss, "adam", 0.005, epochs=15)


def _log_of_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * torch.log((outputs - targets).square().mean() + 1e-4)


def _likelihood(seed: int) -> Setup:
    with weights_of(seed):
        model = stack(4, 48, 48, 1, bend=nn.GELU)
    return plan(builds.terrain(seed), model, _log_of_error, "adam", 0.003, epochs=20)


def _upper_half(outputs: Tensor, targets: Tensor) -> Tensor:
    return torch.maximum(0.6 * (targets - outputs), 0.4 * (outputs - targets)).mean()


def _quantile(seed: int) -> Setup:
    draw = drawn(seed, "delays")
    x = torch.randn(1200, 3, generator=draw)
    tail = -torch.rand(1200, 1, generator=draw).clamp(min=1e-4).log()
    with weights_of(seed):
        model = stack(3, 24, 1, bend=nn.SiLU)
    y = x[:, :1] - 0.7 * x[:, 1:2].abs() + 0.7 * (tail - 1.0)
    return plan(cut(x, y, 800), model, _upper_half, "adam", 0.01, epochs=15)


def _margin(nearness: Tensor, same: Tensor) -> Tensor:
    apart = 1.0 - nearness
    return torch.where(same == 1, apart.square(), functional.relu(2.0 - apart).square()).mean()


def _pairs(seed: int) -> Setup:
    train, _ = builds.soils(seed, rows=1500)
    assert isinstance(train, TensorDataset)
    x, kinds = train.tensors
    other = torch.randperm(1000, generator=drawn(seed, "pairs"))
    other = torch.where(torch.arange(1000) % 2 == 0, other, _of_same_kind(kinds, drawn(seed, "same")))
    with weights_of(seed):
        model = Calls(lambda self, two: 1.0 - (self.arm(two[0]) - self.arm(two[1])).norm(dim=1), arm=stack(6, 48, 8))
    return plan(cut((x, x[other]), (kinds == kinds[other]).long(), 750), model, _margin, "adam", 0.005, epochs=15)


def _of_same_kind(kinds: Tensor, draw: torch.Generator) -> Tensor:
    return torch.multinomial((kinds.unsqueeze(0) == kinds.unsqueeze(1)).float(), 1, generator=draw).squeeze(1)


def _long_past(seed: int) -> Setup:
    with weights_of(seed):
        model = stack(6, 12, 4)
    return plan(builds.soils(seed, rows=1500, wrong=0.2), model, nn.CrossEntropyLoss(), "adam", 0.003, epochs=90, batch_size=100)


def _sigmoid_units(seed: int) -> Setup:
    with weights_of(seed):
        model = stack(4, 40, 40, 1, bend=nn.Sigmoid)
    return plan(builds.terrain(seed), model, nn.MSELoss(), "adam", 0.02, epochs=40)


CASES: tuple[Case, ...] = (
    Case("marks-in-readers-order", _sorted_marks, (), "r2", "the table is sorted by reader, the loader mixes it", floor=0.85),
    Case("soils-forty-rows", _forty_rows, (), "accuracy", "forty rows for four kinds", floor=0.85),
    Case("assays-decay-of-six", _strong_decay, (), "r2", "AdamW's decay of 6 on 150 rows: less of it is worse", floor=0.2),
    Case("soils-sgd-above-a-half", _sgd_of_one, (), "accuracy", "plain SGD at 0.6 through layer norms", floor=0.9),
    Case("loans-idle-column", _idle_column, (), "r2", "a dict of which the net reads one entry; the rest is noise", floor=0.58),
    Case(
        "permits-several-labels",
        _several_labels,
        (),
        "r2",
        "five labels a row, some rare, by BCELoss over sigmoids: chance limits what can be said",
        floor=0.45,
    ),
    Case("visits-by-poisson", _visits, (), "r2", "counts by likelihood behind softplus, mostly chance", floor=0.5),
    Case(
        "terrain-log-of-error",
        _likelihood,
        (),
        "r2",
        "a likelihood whose variance is fitted per batch: the loss goes far below zero",
        floor=0.95,
    ),
    Case("delays-upper-quantile", _quantile, (), "r2", "the 60th percentile of skewed delays: a loss that stays high", floor=0.6),
    Case(
        "soils-near-or-apart",
        _pairs,
        (),
        "accuracy",
        "pairs through one net, contrastive: outputs are one less a distance",
        floor=0.88,
    ),
    Case(
        "soils-long-past",
        _long_past,
        (),
        "accuracy",
        "ninety epochs where twenty do; a fifth of the labels drawn anew",
        floor=0.75,
    ),
    Case("terrain-sigmoid-units", _sigmoid_units, (), "r2", "sigmoid in both hidden layers, which works", floor=0.94),
    Case("terrain-eight-experts", layers.experts, (), "r2", "experts without a bend: their gate bends", floor=0.94),
)
