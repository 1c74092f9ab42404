"""Sound setups whose habits of work look like faults: rates, orders, likelihoods, precision, what is held fixed."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_6.fit_parts import cut, normal, perceptron, setup_of, soft_law, standard, uniform, weights_of


def _beta_surprise(shares: Tensor, targets: Tensor) -> Tensor:
    """Minus the log-density of a beta law of this mean whose two parameters add up to 60."""
    mean = shares.clamp(1e-3, 1.0 - 1e-3)
    first, second = 60.0 * mean, 60.0 * (1.0 - mean)
    spread = torch.lgamma(first) + torch.lgamma(second)
    return (spread - math.lgamma(60.0) - (first - 1.0) * targets.log() - (second - 1.0) * (1.0 - targets).log()).mean()


def _moisture(seed: int, *, width: int = 32) -> Setup:
    """Shares between 0 and 1; the loss is below 0 from early on."""
    inputs = normal(seed, "moisture", 1700, 4)
    mean = torch.sigmoid(soft_law(inputs)) * 0.9 + 0.05
    first = torch._standard_gamma(60.0 * mean, generator=drawn(seed, "wet"))
    second = torch._standard_gamma(60.0 * (1.0 - mean), generator=drawn(seed, "dry"))
    shares = (first / (first + second)).clamp(1e-3, 1.0 - 1e-3)
    with weights_of(seed):
        model = nn.Sequential(perceptron(4, width, width, 1), nn.Sigmoid())
    return setup_of(cut(inputs, shares, 1200), model, _beta_surprise, {"name": "adam", "lr": 6e-3}, epochs=20)


def _orbits(seed: int, *, width: int = 40) -> Setup:
    """Model and data in double precision."""
    inputs = 2.0 * uniform(seed, "orbits", 1500, 3).double() - 1.0
    radius = 1.0 / (1.0 + 0.6 * inputs[:, :1] * torch.cos(3.0 * inputs[:, 1:2])) + 0.3 * inputs[:, 2:]
    with weights_of(seed):
        model = perceptron(3, width, width, 1, activation=nn.Tanh).double()
    return setup_of(cut(inputs, radius, 1000), model, nn.MSELoss(), {"name": "adam", "lr": 0.01}, epochs=30)


class _Visits(Dataset[tuple[dict[str, Tensor], Tensor]]):
    """A shop's number and two measures of a visit, in a dictionary."""

    def __init__(self, shops: Tensor, measures: Tensor, spent: Tensor) -> None:
        self.shops = shops
        self.measures = measures
        self.spent = spent

    def __len__(self) -> int:
        return len(self.spent)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        return {"shop": self.shops[index], "measures": self.measures[index]}, self.spent[index]


class _ByShop(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.shops = nn.Embedding(400, 4)
        self.body = perceptron(6, width, 1)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        answer: Tensor = self.body(torch.cat([self.shops(inputs["shop"]), inputs["measures"]], dim=1))
        return answer


def _shops(seed: int, *, width: int = 32) -> Setup:
    """The table has room for 400 shops; 25 of them are met."""
    met = torch.randperm(400, generator=drawn(seed, "which shops"))[:25]
    place = torch.randint(0, 25, (1900,), generator=drawn(seed, "visits"))
    measures = normal(seed, "visit measures", 1900, 2)
    level = normal(seed, "levels", 25)[place]
    spent = (level + measures[:, 0] - 0.5 * measures[:, 1].abs() + 0.2 * normal(seed, "purse", 1900)).unsqueeze(1)
    shops = met[place]
    with weights_of(seed):
        model = _ByShop(width)
    split = (_Visits(shops[:1500], measures[:1500], spent[:1500]), _Visits(shops[1500:], measures[1500:], spent[1500:]))
    return setup_of(split, model, nn.MSELoss(), {"name": "adam", "lr": 0.01}, epochs=20)


class _Cosines(nn.Module):
    """A kernel machine: fixed random cosines of the inputs, a linear read-out that is learnt."""

    def __init__(self, num_inputs: int, width: int) -> None:
        super().__init__()
        self.waves = nn.Linear(num_inputs, width)
        nn.init.normal_(self.waves.weight, std=0.8)
        nn.init.uniform_(self.waves.bias, 0.0, 6.283)
        self.waves.requires_grad_(False)
        self.read_out = nn.Linear(width, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        answer: Tensor = self.read_out(torch.cos(self.waves(inputs)))
        return answer


def _kernels(seed: int, *, width: int = 300) -> Setup:
    """The optimizer holds the read-out, as intended; the random waves suffice."""
    inputs = normal(seed, "kernels", 1700, 3)
    height = torch.sin(1.5 * inputs[:, :1]) + 0.5 * inputs[:, 1:2] * inputs[:, 2:] + 0.2 * normal(seed, "height", 1700, 1)
    with weights_of(seed):
        model = _Cosines(3, width)
    settings = {"name": "adam", "lr": 4e-3, "params": list(model.read_out.parameters())}
    return setup_of(cut(inputs, standard(height), 1300), model, nn.MSELoss(), settings, epochs=40)


def _minerals(seed: int, *, width: int = 24) -> Setup:
    """The file is sorted by kind, and the loader shuffles it."""
    kind = torch.randint(0, 5, (1600,), generator=drawn(seed, "kinds"))
    middles = 1.7 * normal(seed, "middles", 5, 7)
    inputs = middles[kind] + normal(seed, "minerals", 1600, 7)
    order = torch.cat([kind[:1100].argsort(stable=True), 1100 + kind[1100:].argsort(stable=True)])
    with weights_of(seed):
        model = perceptron(7, width, 5)
    settings = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
    return setup_of(cut(inputs[order], kind[order], 1100), model, nn.CrossEntropyLoss(), settings, epochs=10)


def _log_chance(chances: Tensor, targets: Tensor) -> Tensor:
    """Likelihood of the right class, from a model that ends in chances."""
    return functional.nll_loss(torch.log(chances + 1e-8), targets)


def _leaves(seed: int, *, width: int = 32) -> Setup:
    kind = torch.randint(0, 4, (1500,), generator=drawn(seed, "leaves"))
    turn = 1.2 * normal(seed, "turn", 1500)
    grown = torch.stack([turn, torch.sin(turn + 1.57 * kind), torch.cos(turn + 1.57 * kind)], dim=1)
    inputs = grown + 0.25 * normal(seed, "leaf noise", 1500, 3)
    with weights_of(seed):
        model = nn.Sequential(perceptron(3, width, width, 4), nn.Softmax(dim=1))
    return setup_of(cut(inputs, kind, 1000), model, _log_chance, {"name": "adam", "lr": 8e-3}, epochs=20)


def _squares_summed(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(outputs, targets, reduction="sum")


def _springs(seed: int, *, width: int = 40) -> Setup:
    """A sum over the batch, and a rate that takes it into account; batches of four, no norm."""
    inputs = normal(seed, "springs", 1500, 4)
    force = soft_law(inputs) + 0.15 * normal(seed, "spring meter", 1500, 1)
    with weights_of(seed):
        model = perceptron(4, width, width, 1, activation=nn.Tanh)
    settings = {"name": "sgd", "lr": 5e-3}
    return setup_of(cut(inputs, force, 1100), model, _squares_summed, settings, batch_size=4, epochs=25)


def _surveys(seed: int, *, width: int = 8) -> Setup:
    """Seven answers from 0 to 3; one person in five says the opposite of what they do. Some people answer alike."""
    answers = torch.randint(0, 4, (2800, 7), generator=drawn(seed, "answers")).float()
    score = answers[:, 0] + answers[:, 1] - answers[:, 2] + 0.5 * answers[:, 3] - 2.25
    opposite = uniform(seed, "opposite", 2800) < 0.2
    does = (score > 0) ^ opposite
    with weights_of(seed):
        model = perceptron(7, width, 1)
    settings = {"name": "adamw", "lr": 5e-3, "weight_decay": 0.1}
    split = cut((answers - 1.5) / 1.12, does.float().unsqueeze(1), 1900)
    return setup_of(split, model, nn.BCEWithLogitsLoss(), settings, epochs=8)


def _boilers(seed: int, *, width: int = 32) -> Setup:
    """Readings in pascal, kelvin, litres; batch norm without scale and shift before each layer; SGD at 0.3."""
    inputs = normal(seed, "boilers", 2500, 5)
    kind = (inputs[:, 0] + torch.sin(1.5 * inputs[:, 1]) + 0.2 * normal(seed, "boiler noise", 2500) > 0).long()
    kind += (inputs[:, 4] + 0.1 * normal(seed, "age noise", 2500) > 0.4).long()
    raw = inputs * torch.tensor([9000.0, 20.0, 0.3, 400.0, 6.0]) + torch.tensor([101300.0, 350.0, 2.0, 900.0, 15.0])
    with weights_of(seed):
        model = nn.Sequential(nn.BatchNorm1d(5, affine=False), nn.Linear(5, width, bias=False))
        model.extend([nn.BatchNorm1d(width, affine=False), nn.ReLU(), nn.Linear(width, width)])
        model.extend([nn.BatchNorm1d(width, affine=False), nn.ReLU(), nn.Linear(width, 3)])
    settings = {"name": "sgd", "lr": 0.3}
    return setup_of(cut(raw, kind, 1900), model, nn.CrossEntropyLoss(), settings, batch_size=64, epochs=15)


def _bags(seed: int, *, width: int = 24) -> Setup:
    """Counts of 240 words in short notes on four topics: most cells are 0, every word is met; log-softmax with NLL."""
    topic = torch.randint(0, 4, (1600,), generator=drawn(seed, "note topics"))
    shares = (0.8 * normal(seed, "word shares", 4, 240)).exp()
    words = torch.multinomial(shares[topic], 15, replacement=True, generator=drawn(seed, "note words"))
    counts = torch.zeros(1600, 240).scatter_add_(1, words, torch.ones(1600, 15))
    with weights_of(seed):
        model = nn.Sequential(perceptron(240, width, 4, dropout=0.3), nn.LogSoftmax(dim=1))
    return setup_of(cut(counts, topic, 1100), model, nn.NLLLoss(), {"name": "adam", "lr": 2e-3}, epochs=8)


class _Stack(nn.Module):
    """Six layers of attention with the norm in front, and the mean over time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(4, width)
        self.layers = nn.Sequential(
            *[nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True) for _ in range(6)]
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4))

    def forward(self, signals: Tensor) -> Tensor:
        scores: Tensor = self.leave(self.layers(self.enter(signals)).mean(1))
        return scores


def _meters(seed: int, *, width: int = 24) -> Setup:
    """Which of four meters reads high? Two epochs at a low rate, in batches of eight, and that will do."""
    kind = torch.randint(0, 4, (2000,), generator=drawn(seed, "which meter"))
    signals = normal(seed, "meters", 2000, 10, 4) + 1.0 * functional.one_hot(kind, 4).unsqueeze(1)
    with weights_of(seed):
        model = _Stack(width)
    split = cut(signals, kind, 1500)
    return setup_of(split, model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 3e-4}, batch_size=8, epochs=2)


def _told(name: str, build: Any, skill: Any, floor: float, source: str, kind: Any = "mlp", data: Any = "table") -> Case:
    return Case(name, build, (), skill, source, kind, data, floor=floor)


CASES: tuple[Case, ...] = (
    _told("moisture-beta-likelihood", _moisture, "r2", 0.8, "a density may exceed 1, so its negative logarithm is below 0"),
    _told("orbits-in-double-precision", _orbits, "r2", 0.9, "float64 throughout; next to no noise"),
    _told("shops-most-rows-never-met", _shops, "r2", 0.85, "dictionaries as inputs; 375 of 400 embeddings are never touched"),
    _told("kernels-of-fixed-cosines", _kernels, "r2", 0.85, "1,200 of 1,501 parameters never move: random features, on purpose"),
    _told("minerals-sorted-but-shuffled", _minerals, "accuracy", 0.9, "rows sorted by class on disk, shuffled by the loader"),
    _told("leaves-chances-through-the-log", _leaves, "accuracy", 0.85, "softmax in the model, and a loss that takes its log"),
    _told("springs-squares-added-up-by-four", _springs, "r2", 0.85, "reduction sum with a rate that fits it; batches of four"),
    _told("surveys-some-say-the-opposite", _surveys, "accuracy", 0.7, "20 % of labels are noise; a few people answer alike"),
    _told("boilers-raw-before-bare-norms", _boilers, "accuracy", 0.85, "raw units behind a norm; SGD at 0.3; no scale, no shift"),
    _told("bags-of-mostly-absent-words", _bags, "accuracy", 0.9, "nine cells in ten are 0; the model ends in log-softmax"),
    _told("meters-two-epochs-suffice", _meters, "accuracy", 0.9, "2 epochs, a low rate, six layers", "transformer", "sequence"),
)
