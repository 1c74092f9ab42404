"""Sound tables whose law, noise or loss looks like a fault."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_6 import fit_parts
from benchmarks.clinic.round_6.fit_parts import cut, normal, perceptron, setup_of, soft_law, uniform, weights_of


def _spectra(seed: int) -> Setup:
    """Absorption at 240 wavelengths, of 90 samples; five substances make the spectrum."""
    shares = normal(seed, "shares", 390, 5)
    places = torch.linspace(0.0, 1.0, 240)
    bumps = torch.stack([torch.exp(-((places - centre) ** 2) / 0.02) for centre in (0.1, 0.3, 0.5, 0.7, 0.9)])
    spectra = fit_parts.standard(shares @ bumps + 0.15 * normal(seed, "meter", 390, 240))
    alcohol = shares @ torch.tensor([[0.7], [-0.4], [0.5], [0.2], [-0.3]]) + 0.1 * normal(seed, "assay", 390, 1)
    with weights_of(seed):
        model = nn.Linear(240, 1)
    settings = {"name": "sgd", "lr": 0.01, "weight_decay": 0.2}
    return setup_of(cut(spectra, alcohol, 90), model, nn.MSELoss(), settings, batch_size=15, epochs=60)


def _ores(seed: int, *, width: int = 48) -> Setup:
    """One assay in twenty-five went wrong, in both parts alike."""
    inputs = normal(seed, "ores", 1900, 6)
    spoilt = (uniform(seed, "spoilt", 1900, 1) < 0.04).float()
    grade = soft_law(inputs) + 0.15 * normal(seed, "lab", 1900, 1) + 3.0 * spoilt * normal(seed, "wrong", 1900, 1)
    with weights_of(seed):
        model = perceptron(6, width, width, 1)
    return setup_of(cut(inputs, grade, 1300), model, nn.HuberLoss(delta=0.5), {"name": "adam", "lr": 3e-3}, epochs=15)


def _sodium(seed: int, *, width: int = 48) -> Setup:
    """Blood sodium in mmol/l: 140 and some 3 more or less."""
    inputs = normal(seed, "sodium", 1700, 5)
    level = 140.0 + 3.0 * (soft_law(inputs) + 0.2 * normal(seed, "sodium meter", 1700, 1))
    with weights_of(seed):
        last = nn.Linear(width, 1)
        nn.init.constant_(last.bias, 140.0)
        model = nn.Sequential(perceptron(5, width, width, activation=nn.SiLU), nn.SiLU(), last)
    return setup_of(cut(inputs, level, 1200), model, nn.MSELoss(), {"name": "adam", "lr": 6e-3}, epochs=25)


class _Focal(nn.Module):
    """Focal loss on scores, the rare class counted `rare` times as much."""

    def __init__(self, rare: float, gamma: float) -> None:
        super().__init__()
        self.rare = rare
        self.gamma = gamma

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        plain = functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        factor = torch.where(targets > 0.5, self.rare, 1.0)
        return (factor * (1.0 - torch.exp(-plain)) ** self.gamma * plain).mean()


def _pumps(seed: int, *, width: int = 24) -> Setup:
    """Five pumps in a hundred fail; their readings lie apart, with some overlap."""
    fails = (uniform(seed, "fails", 2600) < 0.05).float()
    inputs = normal(seed, "pumps", 2600, 6)
    inputs[:, :3] += fails.unsqueeze(1) * torch.tensor([2.0, -1.6, 1.4])
    with weights_of(seed):
        model = perceptron(6, width, 1)
    return setup_of(cut(inputs, fails.unsqueeze(1), 1600), model, _Focal(18.0, 2.0), {"name": "adam", "lr": 5e-3}, epochs=12)


class _Redrawn(Dataset[tuple[Tensor, Tensor]]):
    """Rows drawn with replacement so that both classes come up equally often, as a weighted sampler draws them."""

    def __init__(self, inputs: Tensor, targets: Tensor, num_rows: int, seed: int) -> None:
        self.inputs = inputs
        self.targets = targets
        shares = (1.0 / torch.bincount(targets).float())[targets]
        self.chosen = torch.multinomial(shares, num_rows, replacement=True, generator=drawn(seed, "redrawn"))

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        row = self.chosen[index]
        return self.inputs[row], self.targets[row]


def _welds(seed: int, *, width: int = 8) -> Setup:
    flaw = (uniform(seed, "flaw", 2400) < 0.08).long()
    inputs = normal(seed, "welds", 2400, 4)
    inputs += flaw.unsqueeze(1) * torch.tensor([1.5, 1.2, -1.3, 0.0])
    train = _Redrawn(inputs[:1500], flaw[:1500], 1600, seed)
    _, val = cut(inputs, flaw, 1500)
    with weights_of(seed):
        model = perceptron(4, width, 2, activation=nn.Tanh)
    settings = {"name": "adamw", "lr": 3e-3, "weight_decay": 0.05}
    return setup_of((train, val), model, nn.CrossEntropyLoss(), settings, epochs=8)


def _tastings(seed: int, *, width: int = 48) -> Setup:
    """Marks of a tasting, whole numbers from 3 to 8, learnt as a quantity."""
    inputs = normal(seed, "tastings", 2500, 5)
    marks = (5.6 + 0.9 * soft_law(inputs) + 0.4 * normal(seed, "taster", 2500, 1)).round().clamp(3.0, 8.0)
    with weights_of(seed):
        model = perceptron(5, width, width, 1)
    settings = {"name": "adam", "lr": 5e-3, "weight_decay": 1e-3}
    return setup_of(cut(inputs, marks, 1900), model, nn.MSELoss(), settings, batch_size=40, epochs=25)


def _upper_quarter(outputs: Tensor, targets: Tensor) -> Tensor:
    """Pinball loss: what three in four fall short of."""
    miss = targets - outputs
    return torch.maximum(0.75 * miss, -0.25 * miss).mean()


def _loads(seed: int, *, width: int = 40) -> Setup:
    inputs = normal(seed, "loads", 2400, 5)
    peak = soft_law(inputs) + 0.3 * normal(seed, "gusts", 2400, 1)
    with weights_of(seed):
        model = perceptron(5, width, width, 1, activation=nn.GELU)
    return setup_of(cut(inputs, peak, 1800), model, _upper_quarter, {"name": "adam", "lr": 4e-3}, epochs=25)


def _calls(seed: int, *, width: int = 32) -> Setup:
    """Calls for an ambulance in a district and a day: counts of a Poisson law; the rate leaves the model by softplus."""
    inputs = normal(seed, "calls", 1700, 4)
    rate = functional.softplus(1.5 + 1.6 * inputs[:, :1] + 0.8 * inputs[:, 1:2] - inputs[:, 2:3]) * 2.0
    counts = torch.poisson(rate, generator=drawn(seed, "calls come"))
    with weights_of(seed):
        model = nn.Sequential(perceptron(4, width, 1), nn.Softplus())
    loss = nn.PoissonNLLLoss(log_input=False, full=True)
    return setup_of(cut(inputs, counts, 1200), model, loss, {"name": "adam", "lr": 0.01}, epochs=20)


def _flats(seed: int, *, width: int = 32) -> Setup:
    """Rents by district as twelve 0-or-1 columns, one district met by one row in sixty, and three measures."""
    shares = torch.tensor([0.16, 0.14, 0.12, 0.11, 0.1, 0.09, 0.08, 0.07, 0.055, 0.04, 0.02, 0.015])
    district = torch.multinomial(shares, 1900, replacement=True, generator=drawn(seed, "district"))
    measures = normal(seed, "measures", 1900, 3)
    level = torch.tensor([0.9, -0.6, 0.3, -1.0, 0.0, 0.5, 1.2, -0.3, -0.8, 0.7, 1.4, -1.2])[district]
    rent = level + measures[:, 0] * (1.0 + 0.4 * level) - 0.4 * measures[:, 1] + 0.25 * normal(seed, "landlords", 1900)
    inputs = torch.cat([functional.one_hot(district, 12).float(), measures], dim=1)
    with weights_of(seed):
        model = perceptron(15, width, width, 1)
    return setup_of(cut(inputs, rent.unsqueeze(1), 1400), model, nn.MSELoss(), {"name": "adam", "lr": 4e-3}, epochs=20)


def _told(name: str, build: Any, skill: Any, floor: float, source: str) -> Case:
    return Case(name, build, (), skill, source, floor=floor)


CASES: tuple[Case, ...] = (
    _told(
        "brews-more-wavelengths-than-samples", _spectra, "r2", 0.8, "240 columns and 90 rows: strong decay, correlated columns"
    ),
    _told("ores-some-assays-gone-wrong", _ores, "r2", 0.5, "outliers in the targets, on both sides, under Huber's loss"),
    _told(
        "sodium-bias-begins-at-the-mean", _sodium, "r2", 0.85, "targets of mean 140 and deviation 3; the last bias starts there"
    ),
    _told("pumps-focal-with-weights", _pumps, "balanced_accuracy", 0.85, "5 % positive, handled by a weighted focal loss"),
    _told(
        "welds-rare-rows-drawn-again", _welds, "balanced_accuracy", 0.8, "8 % positive, redrawn to even shares for training only"
    ),
    _told("tastings-marks-as-quantities", _tastings, "r2", 0.6, "targets are whole numbers from 3 to 8: ordered, not classes"),
    _told("loads-three-in-four-fall-short", _loads, "r2", 0.7, "the pinball loss asks for a quantile, so the mean error isn't 0"),
    _told("calls-rate-through-softplus", _calls, "r2", 0.6, "counts with a Poisson likelihood: noise grows with the rate"),
    _told("flats-a-seldom-district", _flats, "r2", 0.85, "one-hot columns, one of them nearly always 0"),
)
