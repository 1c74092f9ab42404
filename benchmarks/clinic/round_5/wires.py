"""Sick by how the network is wired: first weights, what reaches which weight, who holds it, and what rows share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_5 import benches
from benchmarks.clinic.round_5.benches import setup, weights_of

ADAM = {"name": "adam", "lr": 5e-3}


class Tastes(nn.Module):
    """Ratings as the product of a viewer's and a film's tastes."""

    def __init__(self, first: float | None) -> None:
        super().__init__()
        self.viewers = nn.Embedding(50, 6)
        self.films = nn.Embedding(40, 6)
        for table in (self.viewers, self.films):
            nn.init.normal_(table.weight, std=0.3) if first is None else nn.init.constant_(table.weight, first)

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        marks: Tensor = (self.viewers(pair[0]) * self.films(pair[1])).sum(1)
        return marks


class Listed(nn.Module):
    """Ratings by a network over two embeddings that are kept in a plain list, or in one that torch sees."""

    def __init__(self, seen: bool) -> None:
        super().__init__()
        tables = [nn.Embedding(50, 6), nn.Embedding(40, 6)]
        self.tables = nn.ModuleList(tables) if seen else tables
        self.body = nn.Sequential(nn.Linear(18, 32), nn.SiLU(), nn.Dropout(0.1), nn.Linear(32, 1))

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        left, right = (table(column) for table, column in zip(self.tables, pair))
        marks: Tensor = self.body(torch.cat([left, right, left * right], 1)).squeeze(1)
        return marks


class Motors(nn.Module):
    """A 1-d network whose activations are computed, and used or thrown away."""

    def __init__(self, used: bool) -> None:
        super().__init__()
        self.used = used
        self.steps = nn.ModuleList([nn.Conv1d(1, 16, 7, padding=3), nn.Conv1d(16, 16, 7, stride=2, padding=3)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(16), nn.BatchNorm1d(16)])
        self.head = nn.Linear(16, 4)

    def forward(self, waves: Tensor) -> Tensor:
        for step, norm in zip(self.steps, self.norms):
            waves = norm(step(waves))
            active = functional.relu(waves)
            waves = active if self.used else waves
        kinds: Tensor = self.head(waves.mean(2))
        return kinds


class Meters(nn.Module):
    """An autoencoder of two parts."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(20, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 6))
        self.decoder = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 20))

    def forward(self, rows: Tensor) -> Tensor:
        again: Tensor = self.decoder(self.encoder(rows))
        return again


class Kept(nn.Sequential):
    """Keeps its norms in evaluation mode, as one does for pretrained ones."""

    def train(self, mode: bool = True) -> Kept:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()
        return self


class Slow(nn.Module):
    """Reads a current in steps of four with a ReLU recurrence."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.reader = nn.RNN(1, 24, nonlinearity="relu", batch_first=True)
        nn.init.orthogonal_(self.reader.get_parameter("weight_hh_l0"), gain=gain)
        self.head = nn.Linear(24, 4)

    def forward(self, waves: Tensor) -> Tensor:
        kinds: Tensor = self.head(self.reader(waves.transpose(1, 2))[0].mean(1))
        return kinds


def _tastes(seed: int, first: float | None = 0.3) -> Setup:
    with weights_of(seed):
        return setup(Tastes(first), benches.stars(seed), nn.MSELoss(), {"name": "adam", "lr": 0.02}, epochs=20)


def _listed(seed: int, *, seen: bool = False) -> Setup:
    with weights_of(seed):
        return setup(Listed(seen), benches.stars(seed), nn.HuberLoss(), {"name": "adamw", "lr": 0.01}, epochs=20)


def _thrown_away(seed: int, *, used: bool = False) -> Setup:
    with weights_of(seed):
        return setup(Motors(used), benches.pulses(seed), nn.CrossEntropyLoss(label_smoothing=0.05), ADAM, epochs=6)


def _half_held(seed: int) -> Setup:
    with weights_of(seed):
        model = Meters()
        chosen = {**ADAM, "params": list(model.encoder.parameters())}
        return setup(model, benches.readings(seed), lambda again, rows: (again - rows).square().mean(), chosen, epochs=15)


def _all_held(patient: Setup) -> Setup:
    return {**patient, "optimizer": ADAM}


def _hard(seed: int, *, hard: bool = True) -> Setup:
    with weights_of(seed):
        return setup(benches.Sorter(hard), benches.parcels(seed), nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=15)


def _mixed(seed: int, *, rows_first: bool = False) -> Setup:
    with weights_of(seed):
        return setup(benches.Asker(rows_first), benches.parcels(seed), nn.CrossEntropyLoss(), ADAM, epochs=12)


def _kept(seed: int, *, kept: bool = True) -> Setup:
    with weights_of(seed):
        layers = [nn.BatchNorm1d(12), nn.Linear(12, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 1)]
        model = (Kept if kept else nn.Sequential)(*layers)
        train, val = benches.clients(seed)
        units = torch.logspace(-2, 2, 12)
        for part in (train, val):
            part.tensors = (part.tensors[0] * units + 3 * units, part.tensors[1])  # type: ignore[attr-defined]
        return setup(model, (train, val), benches.stays, {"name": "adam", "lr": 0.01}, epochs=15)


def _prior(seed: int) -> Setup:
    with weights_of(seed):
        layers = [nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Conv2d(12, 24, 3), nn.ReLU()]
        model = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(24, 3))
        for name, tensor in model.named_parameters():
            if name.endswith("bias"):
                nn.init.constant_(tensor, -4.6)
        return setup(model, benches.grids(seed), nn.CrossEntropyLoss(), ADAM, epochs=10)


def _biases_at_zero(patient: Setup) -> Setup:
    for name, tensor in patient["model"].named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(tensor)
    return patient


def _faint(seed: int) -> Setup:
    with weights_of(seed):
        layers: list[nn.Module] = [nn.Linear(12, 32)]
        for _ in range(10):
            layers += [nn.Tanh(), nn.Linear(32, 32)]
        model = nn.Sequential(*layers, nn.Tanh(), nn.Linear(32, 1))
        for layer in model:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        return setup(model, benches.clients(seed), benches.stays, {"name": "adamw", "lr": 1e-3}, epochs=12)


def _xavier(patient: Setup) -> Setup:
    for layer in patient["model"]:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
    return patient


def _loud(seed: int, gain: float = 1.6) -> Setup:
    with weights_of(seed):
        return setup(Slow(gain), benches.pulses(seed, noise=0.2), nn.CrossEntropyLoss(), {"name": "adam", "lr": 3e-3}, epochs=15)


PROOFS: dict[str, Callable[[int], Setup]] = {
    "stars-tastes-all-alike": lambda seed: _tastes(seed, None),
    "stars-tables-in-a-list": lambda seed: _listed(seed, seen=True),
    "pulses-relu-thrown-away": lambda seed: _thrown_away(seed, used=True),
    "parcels-picked-by-argmax": lambda seed: _hard(seed, hard=False),
    "parcels-question-across-rows": lambda seed: _mixed(seed, rows_first=True),
    "clients-norms-kept-asleep": lambda seed: _kept(seed, kept=False),
    "pulses-relu-recurrence-too-loud": lambda seed: _loud(seed, 1.0),
}

STUCK = ("underfitting", "capacity_too_small")

CASES: tuple[Case, ...] = (
    Case("stars-tastes-all-alike", _tastes, ("symmetric_init",), "r2",
        "a matrix factorisation whose tables start at one constant: six tastes that stay one", tolerate=STUCK),
    Case("stars-tables-in-a-list", _listed, ("unregistered_params",), "r2",
        "forum reports of one embedding per categorical column in a Python list: they never train",
        tolerate=("params_not_in_optimizer", "underfitting", "overfitting")),
    Case("pulses-relu-thrown-away", _thrown_away, ("missing_nonlinearity",), "accuracy",
        "reports of F.relu(x) called without keeping what it returns", architecture="cnn", data="sequence", tolerate=STUCK),
    Case("readings-decoder-left-out", _half_held, ("params_not_in_optimizer",), "r2",
        "GitHub cabralpinto/modular-diffusion#17: only the encoder's parameters reach the optimizer", tolerate=STUCK,
        fix=_all_held),
    Case("parcels-picked-by-argmax", _hard, ("detached_graph",), "accuracy",
        "reports of hard attention by argmax: what scores gets no gradient", data="sequence", tolerate=STUCK),
    Case("parcels-question-across-rows", _mixed, ("batch_dependence",), "accuracy",
        "GitHub om-ai-lab/OmDet#19: attention without batch_first looks across the rows of a batch",
        architecture="transformer", data="sequence", tolerate=STUCK),
    Case("clients-norms-kept-asleep", _kept, ("eval_mode_in_training", "unnormalised_inputs"), "accuracy",
        "a train() that keeps batch norms in evaluation mode, copied from fine-tuning into training from scratch"),
    Case("grids-prior-in-every-bias", _prior, ("dead_relu",), "accuracy",
        "the prior bias of focal loss, -4.6, meant for the last layer, given to every layer", architecture="cnn", data="image",
        tolerate=("vanishing_gradient",), fix=_biases_at_zero),
    Case("clients-weights-of-a-language-model", _faint, ("vanishing_gradient",), "accuracy",
        "the init of language models, std 0.02, in a deep tanh network without norm or shortcuts",
        tolerate=("underfitting", "lr_too_low", "too_few_epochs"), fix=_xavier),
    Case("pulses-relu-recurrence-too-loud", _loud, ("exploding_gradient", "init_too_large"), "accuracy",
        "reports of ReLU recurrences that explode: the recurrent weights start at a gain of 1.6", architecture="rnn",
        data="sequence", tolerate=("unstable_gradient", "lr_too_low", "too_few_epochs")),
)  # fmt: skip
