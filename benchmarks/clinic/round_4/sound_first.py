"""An exam, first half: tables on which all is well, though something looks odd."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_4.exam_parts import mlp, seeded, setup
from benchmarks.clinic.round_4.exam_rows import Rows, crops, customers, cut, flats

_CE, _BCE, _MSE = nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss(), nn.MSELoss()


def _bundled(seed: int, name: str, num_val: int) -> Rows:
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = torch.randperm(len(y), generator=drawn(seed, name))
    targets = torch.as_tensor(y)
    return cut(torch.as_tensor(x, dtype=torch.float32)[order], targets[order], num_val)


def _coins(seed: int) -> Setup:
    """Labels drawn from chances that a line gives: nobody gets beyond some 74 %."""
    dice = drawn(seed, "coins")
    x = torch.randn(1800, 6, generator=dice)
    chances = torch.sigmoid(x @ torch.tensor([1.0, -0.8, 0.6, 0.0, 0.0, 0.5]))
    rows = cut(x, (torch.rand(1800, generator=dice) < chances).float().unsqueeze(1), 600)
    return setup(rows, mlp(6, 16, 1), _BCE, {"name": "adam", "lr": 2e-3}, epochs=15)


def _sugar(seed: int) -> Setup:
    rows = _bundled(seed, "diabetes", 130).mapped(targets=lambda y: y.float().unsqueeze(1)).scaled().target_scaled()
    return setup(rows, nn.Linear(10, 1), _MSE, {"name": "sgd", "lr": 0.02}, batch_size=16, epochs=25)


def _cells(seed: int) -> Setup:
    rows = _bundled(seed, "breast_cancer", 170).mapped(targets=lambda y: y.float().unsqueeze(1))
    model = nn.Sequential(nn.BatchNorm1d(30), *mlp(30, 16, 1))
    return setup(rows, model, _BCE, {"name": "adam", "lr": 3e-3}, epochs=20)


def _fast_crops(seed: int) -> Setup:
    layers = [nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 6)]
    return setup(crops(seed), nn.Sequential(*layers), _CE, {"name": "sgd", "lr": 0.4}, batch_size=128, epochs=25)


def _weighed_leavers(seed: int) -> Setup:
    rows = customers(seed, num=2000, share=0.12).scaled()
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(7.0))
    return setup(rows, mlp(9, 32, 1), loss, {"name": "adamw", "lr": 3e-3, "weight_decay": 0.05}, epochs=20)


def _visits(seed: int) -> Setup:
    dice = drawn(seed, "visits")
    x = torch.randn(1500, 5, generator=dice)
    rate = (1.2 + 0.7 * x[:, 0] - 0.5 * x[:, 1].abs() + 0.3 * x[:, 2] * x[:, 3]).exp()
    rows = cut(x, torch.poisson(rate, generator=dice).unsqueeze(1), 400)
    return setup(rows, mlp(5, 48, 48, 1).append(nn.Softplus()), _counted, {"name": "adam", "lr": 8e-3}, epochs=25)


def _counted(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.poisson_nll_loss(outputs, targets, log_input=False)


def _precise(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.gaussian_nll_loss(outputs, targets, torch.full_like(outputs, 0.01))


def _sure_flats(seed: int) -> Setup:
    rows = flats(seed).scaled().target_scaled()
    return setup(rows, mlp(7, 64, 64, 1), _precise, {"name": "adam", "lr": 2e-3}, epochs=25)


def _warm_rooms(seed: int) -> Setup:
    rows = flats(seed).scaled().target_scaled().mapped(targets=lambda y: 293 + 4 * y)
    model = mlp(7, 64, 32, 1)
    nn.init.constant_(model[-1].bias, 293.0)  # type: ignore[arg-type]
    return setup(rows, model, _MSE, {"name": "adam", "lr": 3e-3}, epochs=25)


def _fours(seed: int) -> Setup:
    loss = nn.CrossEntropyLoss(reduction="sum")
    return setup(crops(seed).sorted(), mlp(8, 48, 6), loss, {"name": "sgd", "lr": 0.01}, batch_size=4, epochs=10)


def _one_hot(seed: int) -> Setup:
    """Five questions of twelve answers each, as sixty columns of which five are 1; two answers nobody gave."""
    dice = drawn(seed, "answers")
    answers = torch.randint(0, 12, (1900, 5), generator=dice)
    answers = torch.where(answers == 11, 3, answers)
    worth = torch.randn(5, 12, generator=drawn(3, "worth"))
    score = sum(worth[k, answers[:, k]] for k in range(5)) + 0.4 * torch.randn(1900, generator=dice)
    x = nn.functional.one_hot(answers, 12).flatten(1).float()
    rows = cut(x, torch.bucketize(torch.as_tensor(score), torch.tensor([-1.0, 1.0])), 500)
    return setup(rows, nn.Linear(60, 3), _CE, {"name": "adam", "lr": 0.02}, epochs=15)


def _many_columns(seed: int) -> Setup:
    """Three columns of eighty matter and rows are few; the heavy decay is what makes it work."""
    dice = drawn(seed, "columns")
    x = torch.randn(560, 80, generator=dice)
    y = x[:, :1] - 0.8 * x[:, 1:2] + 0.6 * x[:, 2:3] + 0.7 * torch.randn(560, 1, generator=dice)
    rows = cut(x, y, 440)
    return setup(rows, nn.Linear(80, 1), _MSE, {"name": "sgd", "lr": 0.02, "weight_decay": 0.5}, epochs=60)


def _dropped_wine(seed: int) -> Setup:
    rows = _bundled(seed, "wine", 60).scaled()
    model = nn.Sequential(nn.Linear(13, 48), nn.ReLU(), nn.Dropout(0.4), nn.Linear(48, 3))
    return setup(rows, model, _CE, {"name": "adam", "lr": 5e-3}, batch_size=16, epochs=30)


def _case(name: str, build: object, floor: float, source: str, skill: str = "accuracy") -> Case:
    return Case(name, seeded(build), (), skill, source, floor=floor)  # type: ignore[arg-type]


CASES: tuple[Case, ...] = (
    _case(
        "coins-of-known-chances", _coins, 0.68, "labels are drawn, so that three quarters is all there is; the loss stays at 0.5"
    ),
    _case("sugar-line-on-few-rows", _sugar, 0.3, "a line, 312 rows, r2 below 0.5: as good as these ten columns allow", "r2"),
    _case("cells-raw-behind-batch-norm", _cells, 0.93, "columns of 0.01 and of 2,000, but the first layer is a batch norm"),
    _case("crops-fast-with-batch-norm", _fast_crops, 0.94, "SGD at 0.4, which batch norm bears"),
    _case(
        "leavers-rare-but-weighed", _weighed_leavers, 0.8, "one in eight leaves; pos_weight makes up for it", "balanced_accuracy"
    ),
    _case("visits-under-poisson", _visits, 0.5, "counts with many zeros under a Poisson loss that may be negative", "r2"),
    _case("flats-with-known-error", _sure_flats, 0.95, "a normal likelihood of small variance: the loss is below zero", "r2"),
    _case("rooms-bias-at-their-mean", _warm_rooms, 0.95, "targets near 293 of spread 4; the head's bias was set to 293", "r2"),
    _case(
        "crops-by-fours-summed", _fours, 0.94, "rows sorted by class but shuffled, batches of 4, a summed loss and a rate to fit"
    ),
    _case(
        "answers-one-hot",
        _one_hot,
        0.8,
        "most columns are zero in a row, five in all rows; a line on a linear law",
    ),
    _case("columns-few-of-which-matter", _many_columns, 0.5, "weight decay of 0.5 on 120 rows of 80 columns, which helps", "r2"),
    _case("wine-with-dropout", _dropped_wine, 0.93, "118 rows; dropout keeps the training loss above that of validation"),
)
