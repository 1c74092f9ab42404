"""Healthy tables that look odd: few rows, noise that nothing explains, rare classes, odd units, losses far from zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_1.sound import coin, cut, friedman, mlp, normal, setup_of, sound, tokens, uniform


@sound("scarce-patients-logit", "60 rows, a quarter of the labels is chance: the loss stays high", skill="accuracy", floor=0.68)
def scarce(seed: int) -> Setup:
    rows = normal(seed, "rows", 1060, 4)
    labels = coin(seed, "labels", 1.6 * rows[:, 0] - 1.2 * rows[:, 1])
    return setup_of(cut(60, rows, labels), nn.Linear(4, 2), nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.1}, batch_size=10)


@sound("wages-fifth-explained", "four fifths of the variance are noise: the loss hardly falls", skill="r2", floor=0.18)
def wages(seed: int) -> Setup:
    rows = normal(seed, "rows", 2500, 6)
    law = 0.6 * torch.tanh(1.5 * rows[:, 0]) + 0.35 * rows[:, 1] * (rows[:, 2] > 0) + 0.3 * rows[:, 3]
    targets = (law + 1.05 * normal(seed, "noise", 2500))[:, None]
    model = mlp(6, 1, width=16, unit=nn.GELU, depth=1)
    settings = {"name": "adamw", "lr": 3e-3, "weight_decay": 0.1}
    return setup_of(cut(1500, rows, targets), model, nn.MSELoss(), settings, epochs=12)


@sound("spring-one-column", "one weight and one bias for a linear law", skill="r2", floor=0.95)
def spring(seed: int) -> Setup:
    pulls = uniform(seed, "pulls", 700, 1) * 4 - 2
    lengths = 1.7 * pulls + 0.8 + 0.3 * normal(seed, "noise", 700, 1)
    return setup_of(cut(200, pulls, lengths), nn.Linear(1, 1), nn.MSELoss(), {"name": "sgd", "lr": 0.03}, batch_size=16)


@sound(
    "rare-grades-plain-loss", "classes of 80, 14 and 6 %, unweighted, sorted but shuffled", skill="balanced_accuracy", floor=0.93
)
def rare_grades(seed: int) -> Setup:
    grades = torch.bucketize(uniform(seed, "grades", 2000), torch.tensor([0.80, 0.94]))
    centres = 2.4 * torch.tensor([[1.0, 1, 0, 0, 0], [-1, 1, 1, 0, 0], [0, -1, -1, 1, 0]])
    grades[:1200] = grades[:1200].sort().values
    rows = centres[grades] + normal(seed, "rows", 2000, 5)
    settings = {"name": "adam", "lr": 5e-3}
    return setup_of(cut(1200, rows, grades), mlp(5, 3, width=16), nn.CrossEntropyLoss(), settings, epochs=15)


class Balanced(Dataset[tuple[Tensor, Tensor]]):
    """Rows of the rare class are dealt as often as the others."""

    def __init__(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        rare, common = torch.nonzero(labels == 1).flatten(), torch.nonzero(labels == 0).flatten()
        again = rare[torch.randint(len(rare), (len(common),), generator=generator)]
        self.rows, self.labels, self.order = rows, labels, torch.cat([common, again])

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        return self.rows[self.order[place]], self.labels[self.order[place]].float()[None]


@sound("claims-dealt-evenly", "one row in nine is rare, dealt nine times by the dataset", skill="balanced_accuracy", floor=0.75)
def claims(seed: int) -> Setup:
    labels = (uniform(seed, "labels", 2000) < 0.11).long()
    rows = normal(seed, "rows", 2000, 5) + 1.0 * labels[:, None] * torch.tensor([1.2, -0.8, 0.6, 0, 0])
    train = Balanced(rows[:1000], labels[:1000], drawn(seed, "again"))
    val = TensorDataset(rows[1000:], labels[1000:, None].float())
    settings = {"name": "sgd", "lr": 0.02, "momentum": 0.9}
    return setup_of((train, val), mlp(5, 1, width=8, depth=1), nn.BCEWithLogitsLoss(), settings, epochs=5)


@sound("alarms-weighted-loss", "6 % yes, weighed up in the loss", skill="balanced_accuracy", floor=0.82)
def alarms(seed: int) -> Setup:
    rows = normal(seed, "rows", 4000, 6)
    labels = coin(seed, "labels", 2.6 * rows[:, 0] + 2.0 * rows[:, 1] * rows[:, 1] - 2 * rows[:, 2].abs() - 6.0)[:, None].float()
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(12.0))
    settings = {"name": "adam", "lr": 4e-3}
    return setup_of(cut(2000, rows, labels), mlp(6, 1, width=16, unit=nn.SiLU), loss, settings, batch_size=64, epochs=15)


class Rates(nn.Module):
    """Counts per hour from columns, times the hours watched."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.body = mlp(4, 1, width=width, depth=1, unit=nn.Tanh)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        columns, hours = inputs
        return functional.softplus(self.body(columns)) * hours


class Shifts(Dataset[tuple[tuple[Tensor, Tensor], Tensor]]):
    """Columns and hours watched, and the number of calls."""

    def __init__(self, seed: int, purpose: str, num_rows: int) -> None:
        self.columns = normal(seed, purpose, num_rows, 4)
        self.hours = 0.5 + 2 * uniform(seed, purpose + "-hours", num_rows, 1)
        rates = torch.exp(0.6 * self.columns[:, :1] - 0.5 * self.columns[:, 1:2] + 0.2) * self.hours
        self.calls = torch.poisson(rates, generator=drawn(seed, purpose + "-calls"))

    def __len__(self) -> int:
        return len(self.calls)

    def __getitem__(self, place: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        return (self.columns[place], self.hours[place]), self.calls[place]


@sound("calls-per-hour", "small counts by likelihood, a pair of inputs, a loss around zero", skill="r2", floor=0.45)
def calls(seed: int) -> Setup:
    split = Shifts(seed, "train", 1200), Shifts(seed, "val", 800)
    settings = {"name": "adam", "lr": 0.01}
    return setup_of(split, Rates(width=12), nn.PoissonNLLLoss(log_input=False), settings, epochs=15)


@sound("demand-median", "absolute error under heavy tails: the loss ends far from zero", skill="r2", floor=0.3)
def demand(seed: int) -> Setup:
    rows, targets = friedman(seed, 2200, noise=0.0)
    shocks = uniform(seed, "shocks", 2200, 1) - 0.5
    targets = targets - 0.75 * shocks.sign() * torch.log1p(-2 * shocks.abs() + 1e-6)
    settings = {"name": "adam", "lr": 4e-3}
    return setup_of(
        cut(1500, rows, targets), mlp(8, 1, width=24, depth=1), lambda o, t: 0.5 * (o - t).abs().mean(), settings, epochs=15
    )


class Thermometer(nn.Module):
    """Kelvin: a level and a spread known beforehand, held as buffers, around what the layers say."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.register_buffer("level", torch.tensor(288.0))
        self.register_buffer("spread", torch.tensor(6.0))
        self.register_buffer("num_seen", torch.tensor(0))
        self.body = mlp(5, 1, width=width, unit=nn.Tanh)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.level + self.spread * self.body(inputs)
        return outputs


@sound("kelvin-level-held", "targets near 288; level and spread are buffers, a third buffer is idle", skill="r2", floor=0.85)
def kelvin(seed: int) -> Setup:
    rows = normal(seed, "rows", 1600, 5)
    degrees = 288 + 6 * (torch.sin(rows[:, 0]) + 0.6 * rows[:, 1] - 0.3 * rows[:, 2].square()) + 1.2 * normal(seed, "n", 1600)
    settings = {"name": "adam", "lr": 5e-3}
    return setup_of(cut(1000, rows, degrees[:, None]), Thermometer(width=16), nn.HuberLoss(delta=2.0), settings, epochs=15)


@sound("assay-units-normed", "columns from thousandths to thousands go through a BatchNorm first", skill="accuracy", floor=0.83)
def assay(seed: int) -> Setup:
    kinds = tokens(seed, "kinds", 4, 1800)
    rows = 0.75 * normal(0, "centres", 4, 7)[kinds] + normal(seed, "rows", 1800, 7)
    units = torch.tensor([1e-3, 1e-2, 0.1, 1, 10, 100, 1000])
    model = nn.Sequential(nn.BatchNorm1d(7), mlp(7, 4, width=24, depth=1))
    split = cut(1000, rows * units + 2 * units, kinds)
    return setup_of(split, model, nn.CrossEntropyLoss(), {"name": "rmsprop", "lr": 3e-3}, batch_size=40)


@sound("baskets-one-hot", "48 columns of which 6 are one and the others zero", skill="accuracy", floor=0.76)
def baskets(seed: int) -> Setup:
    bought = tokens(seed, "bought", 8, 2600, 6)
    worth = 1.1 * normal(0, "worth", 6, 8)
    labels = coin(seed, "labels", worth[torch.arange(6), bought].sum(1))[:, None].float()
    rows = functional.one_hot(bought, 8).flatten(1).float()
    settings = {"name": "adagrad", "lr": 0.1}
    return setup_of(cut(1600, rows, labels), nn.Linear(48, 1), nn.BCEWithLogitsLoss(), settings, batch_size=32, epochs=8)


@sound("tags-by-chance", "five tags per row, some rare, all noisy: probabilities explain two fifths", skill="r2", floor=0.35)
def tags(seed: int) -> Setup:
    rows = normal(seed, "rows", 2200, 8)
    logits = rows @ (0.75 * normal(0, "law", 8, 5)) + torch.tensor([0.0, -1.0, 0.5, -2.0, -0.5])
    model = nn.Sequential(mlp(8, 5, width=24, depth=1), nn.Sigmoid())
    settings = {"name": "adam", "lr": 3e-3}
    return setup_of(cut(1500, rows, coin(seed, "tags", logits).float()), model, nn.BCELoss(), settings, epochs=10)


@sound(
    "surveys-same-answers", "answers of three steps each: many rows stand in both halves by chance", skill="accuracy", floor=0.65
)
def surveys(seed: int) -> Setup:
    answers = tokens(seed, "answers", 3, 1800, 5).float() - 1
    labels = coin(seed, "labels", 1.2 * answers[:, 0] - 1.1 * answers[:, 1] * answers[:, 2] + 0.7 * answers[:, 3])
    settings = {"name": "adam", "lr": 5e-3}
    return setup_of(cut(1000, answers, labels), mlp(5, 2, width=16), nn.CrossEntropyLoss(), settings, epochs=10)


@sound("orchards-next-season", "validation rows come from a season a little warmer", skill="accuracy", floor=0.76)
def orchards(seed: int) -> Setup:
    rows = normal(seed, "rows", 2000, 5)
    rows[1200:, :2] += 0.35
    labels = coin(seed, "labels", 2.0 * rows[:, 0] - 1.5 * rows[:, 1] * rows[:, 2] + rows[:, 3])[:, None].float()
    settings = {"name": "adamw", "lr": 4e-3, "weight_decay": 0.05}
    model = mlp(5, 1, width=24, unit=nn.SiLU, dropout=0.1)
    return setup_of(cut(1200, rows, labels), model, nn.BCEWithLogitsLoss(), settings, batch_size=48, epochs=15)


@sound("seeds-learnt-by-heart", "training loss is well below validation loss, to no harm", skill="accuracy", floor=0.85)
def by_heart(seed: int) -> Setup:
    kinds = tokens(seed, "kinds", 4, 1500)
    rows = 1.1 * normal(0, "centres", 4, 6)[kinds] + normal(seed, "rows", 1500, 6)
    settings = {"name": "adam", "lr": 2e-3}
    return setup_of(cut(500, rows, kinds), mlp(6, 4, width=48), nn.CrossEntropyLoss(), settings, batch_size=25, epochs=35)


CASES: tuple[Case, ...] = (
    scarce,
    wages,
    spring,
    rare_grades,
    claims,
    alarms,
    calls,
    demand,
    kelvin,
    assay,
    baskets,
    tags,
    surveys,
    orchards,
    by_heart,
)
