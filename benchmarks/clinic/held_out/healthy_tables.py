"""Healthy patients on tables, some of which look odd."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.held_out import tables
from benchmarks.clinic.held_out.kit import Pair, made, parted
from benchmarks.clinic.held_out.models import ResidualTable, WideDeep, stacked


def few_rows(seed: int) -> Setup:
    return made(
        seed, lambda: stacked([13, 12, 3]), parted(tables.bundled(seed, "wine"), 90), nn.CrossEntropyLoss(),
        {"name": "adam", "lr": 0.01, "weight_decay": 1e-3}, batch_size=16, epochs=25,
    )  # fmt: skip


def wrong_labels(seed: int) -> Setup:
    inputs, labels = tables.annuli(seed, rows=2400, classes=2, extra=2)
    data = parted((inputs, tables.flipped(labels, 0.25, seed)), 1800)
    return made(seed, lambda: stacked([4, 16, 2], nn.Tanh), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.03}, epochs=20)


def rare_but_weighted(seed: int) -> Setup:
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.52, 12.0]))
    data = parted(tables.fraud(seed, rows=3600, share=0.04, gap=1.4), 1800)
    return made(seed, lambda: stacked([10, 8, 2]), data, loss, {"name": "adam", "lr": 0.003, "weight_decay": 0.01}, epochs=12)


def fast_sgd_with_norm(seed: int) -> Setup:
    data = parted(tables.clusters(seed, classes=6), 900)
    return made(
        seed, lambda: stacked([16, 64, 64, 6], norm=nn.BatchNorm1d), data, nn.CrossEntropyLoss(),
        {"name": "sgd", "lr": 0.5, "momentum": 0.5}, epochs=15,
    )  # fmt: skip


def deep_with_zero_branches(seed: int) -> Setup:
    data = parted(tables.friedman(seed, rows=1500), 1200)
    return made(
        seed, lambda: ResidualTable(10, 32, 1, blocks=12, normed=True, zero=True), data, nn.MSELoss(),
        {"name": "adamw", "lr": 0.002, "weight_decay": 0.01}, epochs=25,
    )  # fmt: skip


def heavy_decay_that_helps(seed: int) -> Setup:
    data = parted(tables.linear_law(seed, rows=560, width=60, noise=1.0), 160)
    optimizer = {"name": "adamw", "lr": 0.02, "weight_decay": 2.5}
    return made(seed, lambda: nn.Linear(60, 1), data, nn.MSELoss(), optimizer, batch_size=32, epochs=40)


def head_from_zero(seed: int) -> Setup:
    def model() -> nn.Module:
        net = stacked([2, 48, 48, 4], nn.GELU)
        nn.init.zeros_(net[-1].weight)
        nn.init.zeros_(net[-1].bias)
        return net

    return made(seed, model, parted(tables.pinwheel(seed), 900), nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=25)


def straight_law(seed: int) -> Setup:
    data = parted(tables.linear_law(seed), 450)
    return made(seed, lambda: nn.Linear(8, 1), data, nn.L1Loss(), {"name": "sgd", "lr": 0.05}, batch_size=32, epochs=20)


def raw_columns_normed_inside(seed: int) -> Setup:
    data = parted(tables.bundled(seed, "breast_cancer", raw=True), 420)
    return made(
        seed, lambda: nn.Sequential(nn.BatchNorm1d(30), stacked([30, 16, 2], nn.Tanh)), data, nn.CrossEntropyLoss(),
        {"name": "sgd", "lr": 0.1, "momentum": 0.9}, batch_size=32, epochs=12,
    )  # fmt: skip


def negative_likelihood(seed: int) -> Setup:
    def likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.gaussian_nll_loss(outputs, targets, torch.full_like(outputs, 0.02))

    data = parted(tables.reaction(seed, rows=1500, noise=0.05), 1200)
    return made(seed, lambda: stacked([6, 64, 64, 1], nn.SiLU), data, likelihood, {"name": "adam", "lr": 0.004}, epochs=30)


def counted_arrivals(seed: int) -> Setup:
    data = parted(tables.arrivals(seed), 900)
    loss = nn.PoissonNLLLoss(log_input=False)
    return made(
        seed, lambda: nn.Sequential(stacked([5, 32, 1]), nn.Softplus()), data, loss, {"name": "adam", "lr": 0.02}, epochs=60
    )


def summed_loss_slow_rate(seed: int) -> Setup:
    data = parted(tables.clusters(seed, classes=4), 900)
    loss = nn.CrossEntropyLoss(reduction="sum")
    return made(seed, lambda: stacked([16, 48, 4]), data, loss, {"name": "sgd", "lr": 0.003, "momentum": 0.9}, epochs=20)


def slow_rate_that_suffices(seed: int) -> Setup:
    inputs, labels = tables.bundled(seed, "breast_cancer")
    data = parted((inputs, labels.float()), 420)
    net = lambda: nn.Sequential(nn.Linear(30, 1), nn.Flatten(0))  # noqa: E731
    return made(seed, net, data, nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 3e-4}, batch_size=8, epochs=25)


def tiny_batches(seed: int) -> Setup:
    data = parted(tables.reaction(seed, rows=900), 600)
    return made(seed, lambda: WideDeep(6, 32, 1), data, nn.SmoothL1Loss(), {"name": "sgd", "lr": 0.02}, batch_size=2, epochs=22)


def far_mean_known_to_the_bias(seed: int) -> Setup:
    inputs, targets = tables.friedman(seed, rows=1300)
    targets = 850.0 + 2.5 * targets

    def model() -> nn.Module:
        net = stacked([10, 48, 1])
        nn.init.constant_(net[-1].bias, 850.0)
        return net

    return made(seed, model, parted((inputs, targets), 1000), nn.MSELoss(), {"name": "adam", "lr": 0.01}, epochs=40)


def mostly_zeros(seed: int) -> Setup:
    data = parted(tables.purchases(seed, rows=1800), 1300)
    return made(
        seed, lambda: stacked([200, 24, 4], dropout=0.2), data, nn.CrossEntropyLoss(),
        {"name": "adam", "lr": 0.003, "weight_decay": 1e-3}, epochs=15,
    )  # fmt: skip


def in_order_but_shuffled(seed: int) -> Setup:
    inputs, labels = tables.clusters(seed, classes=5)
    order = torch.cat([labels[:900].argsort(), torch.arange(900, 1200)])
    data = parted((inputs[order], labels[order]), 900)
    return made(seed, lambda: stacked([16, 64, 5]), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=15)


def coarse_columns(seed: int) -> Setup:
    """Columns of few levels: a few validation rows happen to be among the training rows too."""
    source = drawn(seed, "held_out.coarse")
    inputs = torch.randint(4, (1400, 6), generator=source).float() - 1.5
    score = inputs[:, 0] * inputs[:, 1] + inputs[:, 2] + 0.5 * torch.randn(1400, generator=source)
    data = parted((inputs, (score > 0).float()[:, None]), 1000)
    return made(seed, lambda: stacked([6, 32, 1]), data, nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 0.01}, epochs=15)


def probabilities_and_bce(seed: int) -> Setup:
    inputs, labels = tables.checkerboard(seed)
    data = parted((inputs, labels.float()[:, None]), 900)
    net = lambda: nn.Sequential(stacked([2, 48, 48, 1], nn.Tanh), nn.Sigmoid())  # noqa: E731
    return made(seed, net, data, nn.BCELoss(), {"name": "adam", "lr": 0.01}, batch_size=32, epochs=50)


def margins(seed: int) -> Setup:
    data = parted(tables.bundled(seed, "digits"), 1300)
    return made(
        seed, lambda: stacked([64, 48, 10]), data, nn.MultiMarginLoss(), {"name": "sgd", "lr": 0.2, "momentum": 0.9}, epochs=12
    )


def patients(seed: int) -> Setup:
    inputs, targets = tables.bundled(seed, "diabetes")
    data: Pair = parted((inputs, (targets - 152) / 77), 300)
    return made(
        seed, lambda: stacked([10, 8, 1], nn.Tanh), data, nn.MSELoss(), {"name": "sgd", "lr": 0.03, "weight_decay": 0.01},
        batch_size=16, epochs=20,
    )  # fmt: skip


def fixed_random_features(seed: int) -> Setup:
    def model() -> nn.Module:
        net = stacked([2, 400, 3], nn.Tanh)
        net[0].weight.data.mul_(3.0)
        net[0].requires_grad_(False)
        return net

    data = parted(tables.annuli(seed, extra=0), 750)
    optimizer = {"name": "adam", "lr": 0.01}
    return made(seed, model, data, nn.CrossEntropyLoss(), optimizer, held=lambda net: net[-1].parameters(), epochs=60)


def own_focal_loss(seed: int) -> Setup:
    def focal(logits: Tensor, labels: Tensor) -> Tensor:
        log_p = F.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]
        return -((1 - log_p.exp()).square() * log_p).mean()

    data = parted(tables.clusters(seed, classes=6), 900)
    return made(seed, lambda: stacked([16, 64, 6]), data, focal, {"name": "rmsprop", "lr": 0.003}, epochs=20)


def shares_and_sigmoid(seed: int) -> Setup:
    inputs, targets = tables.reaction(seed, rows=1300)
    data = parted((inputs, torch.sigmoid(1.5 * targets)), 1000)
    net = lambda: nn.Sequential(stacked([6, 64, 64, 1], nn.ELU), nn.Sigmoid())  # noqa: E731
    return made(seed, net, data, nn.MSELoss(), {"name": "adamw", "lr": 0.005}, epochs=40)


def idle_columns(seed: int) -> Setup:
    inputs, labels = tables.pinwheel(seed, arms=3)
    inputs = torch.cat([inputs, torch.ones(len(inputs), 3), torch.zeros(len(inputs), 2)], 1)
    data = parted((inputs, labels), 900)
    return made(seed, lambda: stacked([7, 64, 64, 3]), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.005}, epochs=25)


def _case(name: str, build: object, skill: str, floor: float, odd: str) -> Case:
    return Case(name, build, (), skill, odd, floor=floor)  # type: ignore[arg-type]


CASES: tuple[Case, ...] = (
    _case("wine-of-ninety-rows", few_rows, "accuracy", 0.93, "only 90 rows; validation is a few rows wide"),
    _case("a-quarter-of-labels-wrong", wrong_labels, "accuracy", 0.68,
          "loss stays near 0.57: a quarter of the labels is flipped"),
    _case("rare-fraud-weighted", rare_but_weighted, "balanced_accuracy", 0.84, "4 % in the rare class, weighted in the loss"),
    _case("sgd-half-with-batch-norm", fast_sgd_with_norm, "accuracy", 0.93, "a rate of 0.5 with momentum, fine under batch norm"),
    _case("zero-branches-twelve-deep", deep_with_zero_branches, "r2", 0.85,
          "12 blocks whose last layers start at zero: no gradient beneath"),
    _case("decay-two-and-a-half", heavy_decay_that_helps, "r2", 0.2,
          "weight decay 2.5; without it 60 weights follow the noise of 160 rows"),
    _case("zero-head", head_from_zero, "accuracy", 0.9, "the head starts at zero, so the first gradient stops there"),
    _case("line-on-line", straight_law, "r2", 0.82, "a linear model; the law is linear"),
    _case("raw-cells-batch-norm-first", raw_columns_normed_inside, "accuracy", 0.93,
          "raw columns up to 4,000; the model norms them first"),
    _case("gauss-below-zero", negative_likelihood, "r2", 0.9, "the loss is a likelihood and goes below zero"),
    _case("poisson-arrivals", counted_arrivals, "r2", 0.6,
          "whole-number targets that aren't classes; counts are noisy by nature"),
    _case("summed-loss-small-rate", summed_loss_slow_rate, "accuracy", 0.93, "a summed loss, with the rate to fit"),
    _case("adam-three-e-minus-four", slow_rate_that_suffices, "accuracy", 0.94,
          "a small rate that is enough; one output, targets [rows]"),
    _case("two-rows-a-step", tiny_batches, "r2", 0.9, "batches of 2, without any norm"),
    _case("targets-around-850", far_mean_known_to_the_bias, "r2", 0.85,
          "the mean is 340 deviations from 0; the last bias knows it"),
    _case("baskets-of-zeros", mostly_zeros, "accuracy", 0.8, "96 % of all cells are zero; train loss is above validation loss"),
    _case("sorted-yet-shuffled", in_order_but_shuffled, "accuracy", 0.93, "rows sorted by class; the loader shuffles them"),
    _case("coarse-levels", coarse_columns, "accuracy", 0.82, "some rows are in both parts by chance: six columns of four levels"),
    _case("sigmoid-then-bce", probabilities_and_bce, "accuracy", 0.9, "probabilities under the loss that wants probabilities"),
    _case("margins-on-digits", margins, "accuracy", 0.93, "hinge loss: zero for most rows soon"),
    _case("diabetes-at-its-ceiling", patients, "r2", 0.35, "no model gets far beyond half of the variance"),
    _case("random-features-held-still", fixed_random_features, "accuracy", 0.93,
          "the first layer is frozen on purpose; 400 features suffice"),
    _case("focal-by-hand", own_focal_loss, "accuracy", 0.93, "a loss of the user's own, below cross-entropy by nature"),
    _case("shares-under-sigmoid", shares_and_sigmoid, "r2", 0.85,
          "a sigmoid at the end of a regression, of targets between 0 and 1"),
    _case("idle-columns-beside", idle_columns, "accuracy", 0.9, "5 of 7 columns are constant; the others tell all"),
)  # fmt: skip
