"""Sound pictures whose network, rate or regularisation looks like a fault."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_6.fit_parts import Split, cut, normal, perceptron, setup_of, uniform, weights_of

SIDE = 12


def _grid() -> tuple[Tensor, Tensor]:
    line = torch.linspace(-1.0, 1.0, SIDE)
    down, across = torch.meshgrid(line, line, indexing="ij")
    return down, across


def _figures(seed: int, num_rows: int, num_train: int, noise: float = 0.3) -> Split:
    """A disc, a ring, a cross or a bar somewhere on a noisy ground; pictures [1, 12, 12], four classes."""
    down, across = _grid()
    kind = torch.randint(0, 4, (num_rows,), generator=drawn(seed, "figure kinds")).reshape(-1, 1, 1)
    place = 0.5 * (2.0 * uniform(seed, "figure places", num_rows, 2, 1, 1) - 1.0)
    y, x = down - place[:, 0], across - place[:, 1]
    far = (y.square() + x.square()).sqrt()
    arms = ((y.abs() < 0.1) | (x.abs() < 0.1)) & (torch.maximum(y.abs(), x.abs()) < 0.5)
    drawings = torch.stack([far < 0.42, (far - 0.45).abs() < 0.12, arms, (y.abs() < 0.14) & (x.abs() < 0.6)], dim=1).float()
    chosen = drawings.gather(1, kind.reshape(-1, 1, 1, 1).expand(-1, 1, SIDE, SIDE))
    pictures = 1.5 * chosen - 0.3 + noise * normal(seed, "figure noise", num_rows, 1, SIDE, SIDE)
    return cut(pictures, kind.flatten(), num_train)


def _bold_rate(seed: int, *, width: int = 12) -> Setup:
    with weights_of(seed):
        model = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * width, 4),
        )
    settings = {"name": "sgd", "lr": 0.3, "weight_decay": 5e-4}
    return setup_of(_figures(seed, 1700, 1200), model, nn.CrossEntropyLoss(), settings, batch_size=40, epochs=14)


def _by_threes(seed: int, *, width: int = 16) -> Setup:
    """Batches of three under group norm."""
    with weights_of(seed):
        model = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, stride=2),
            nn.GroupNorm(4, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, stride=2),
            nn.GroupNorm(4, width),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(9 * width, 4),
        )
    settings = {"name": "adam", "lr": 2e-3}
    return setup_of(_figures(seed, 1400, 900, 0.25), model, nn.CrossEntropyLoss(), settings, batch_size=3, epochs=9)


class _Quiet(nn.Module):
    """A residual branch that counts for nothing at first: its scale starts at 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        change: Tensor = self.second(functional.relu(self.first(functional.relu(inputs))))
        return inputs + self.scale * change


def _skips(seed: int, *, width: int = 10) -> Setup:
    """Thirteen convolutions without a norm."""
    with weights_of(seed):
        blocks = [_Quiet(width) for _ in range(6)]
        model = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, stride=2), *blocks, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(9 * width, 4)
        )
    settings = {"name": "adam", "lr": 8e-3}
    return setup_of(_figures(seed, 1400, 1000, 0.2), model, nn.CrossEntropyLoss(), settings, batch_size=40, epochs=12)


def _clipped(seed: int, *, width: int = 12) -> Setup:
    """Where is the disc? ReLU6 within, hard tanh at the end; places lie between -0.7 and 0.7."""
    down, across = _grid()
    place = 0.7 * (2.0 * uniform(seed, "disc", 1400, 2, 1, 1) - 1.0)
    near = (-((down - place[:, 0]).square() + (across - place[:, 1]).square()) / 0.08).exp()
    pictures = near.unsqueeze(1) + 0.15 * normal(seed, "disc noise", 1400, 1, SIDE, SIDE)
    with weights_of(seed):
        model = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, stride=2),
            nn.ReLU6(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU6(),
            nn.Flatten(),
            nn.Linear(36 * width, 2),
            nn.Hardtanh(),
        )
    return setup_of(cut(pictures, place.flatten(1), 1000), model, nn.MSELoss(), {"name": "adam", "lr": 2e-3}, epochs=12)


def _waist(seed: int, *, width: int = 64) -> Setup:
    """Pictures of three hidden numbers (two places and a brightness), through a waist of three."""
    down, across = _grid()
    hidden = 2.0 * uniform(seed, "waist", 1600, 3, 1, 1) - 1.0
    tilt = 0.8 * hidden[:, 0] * down + 0.8 * hidden[:, 1] * across
    pictures = (torch.sin(2.0 * tilt) + 0.7 * hidden[:, 2] * torch.cos(3.0 * down)).flatten(1)
    pictures = pictures + 0.1 * normal(seed, "waist noise", 1600, SIDE * SIDE)
    with weights_of(seed):
        coder = perceptron(SIDE * SIDE, width, 3, activation=nn.ELU)
        model = nn.Sequential(coder, perceptron(3, width, SIDE * SIDE, activation=nn.ELU))
    split = cut(pictures, pictures, 1200)
    return setup_of(split, model, nn.MSELoss(), {"name": "adam", "lr": 3e-3}, epochs=25)


def _dropped(seed: int, *, width: int = 128, dropout: float = 0.5) -> Setup:
    """Few noisy pictures and many units, half of them dropped; smoothed labels, decay."""
    with weights_of(seed):
        body = perceptron(SIDE * SIDE, width, width, 4, dropout=dropout)
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), body)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    settings = {"name": "adamw", "lr": 2e-3, "weight_decay": 0.1}
    return setup_of(_figures(seed, 1000, 400, 0.25), model, loss, settings, batch_size=20, epochs=50)


class _Patches(nn.Module):
    """Nine patches of 4 by 4, a token for the class, two layers with the norm in front, a read-out that starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cut = nn.Conv2d(1, width, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 10, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(2)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 4)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, pictures: Tensor) -> Tensor:
        patches = self.cut(pictures).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(pictures), -1, -1), patches], dim=1) + self.places
        for layer in self.layers:
            tokens = layer(tokens)
        scores: Tensor = self.head(self.norm(tokens[:, 0]))
        return scores


def _patchwork(seed: int, *, width: int = 32) -> Setup:
    with weights_of(seed):
        model = _Patches(width)
    settings = {"name": "adamw", "lr": 2e-3, "weight_decay": 0.05}
    return setup_of(_figures(seed, 2000, 1500, 0.2), model, nn.CrossEntropyLoss(), settings, epochs=13)


class _Helped(nn.Module):
    """While it trains, the model also answers from its middle; evaluated, it gives its last scores alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.late = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.middle = nn.Linear(36 * width, 4)
        self.last = nn.Linear(9 * width, 4)

    def forward(self, pictures: Tensor) -> Any:
        half = self.early(pictures)
        scores = self.last(self.late(half))
        return (scores, self.middle(half.flatten(1))) if self.training else scores


def _both_heads(outputs: Any, targets: Tensor) -> Tensor:
    if isinstance(outputs, Tensor):
        return functional.cross_entropy(outputs, targets)
    last, middle = outputs
    return functional.cross_entropy(last, targets) + 0.3 * functional.cross_entropy(middle, targets)


def _helped(seed: int, *, width: int = 12) -> Setup:
    with weights_of(seed):
        model = _Helped(width)
    return setup_of(_figures(seed, 1300, 900), model, _both_heads, {"name": "adam", "lr": 3e-3}, epochs=12)


def _stamps(seed: int, *, width: int = 16) -> Setup:
    """Which of five stamps are on the picture? The rarest is on one picture in ten. Spectrally normed kernels."""
    shares = torch.tensor([0.5, 0.4, 0.3, 0.2, 0.1])
    present = (uniform(seed, "present", 1700, 5) < shares).float()
    stamps = (uniform(0, "stamps", 5, 1, SIDE, SIDE) < 0.3).float()
    pictures = torch.einsum("nk,kchw->nchw", present, stamps) - 0.45 + 0.8 * normal(seed, "paper", 1700, 1, SIDE, SIDE)
    with weights_of(seed):
        model = nn.Sequential(
            parametrizations.spectral_norm(nn.Conv2d(1, width, 3, stride=2, padding=1)),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            nn.Linear(36 * width, 5),
            nn.Sigmoid(),
        )
    return setup_of(cut(pictures, present, 1200), model, nn.BCELoss(), {"name": "adam", "lr": 3e-3}, epochs=12)


def _told(name: str, build: Any, skill: Any, floor: float, source: str, kind: Any = "cnn") -> Case:
    return Case(name, build, (), skill, source, kind, "image", floor=floor)


CASES: tuple[Case, ...] = (
    _told("discs-and-bars-at-rate-three-tenths", _bold_rate, "accuracy", 0.9, "SGD at 0.3, as batch norm allows"),
    _told("discs-and-bars-by-threes", _by_threes, "accuracy", 0.9, "batches of three, under group norm, which doesn't mind"),
    _told(
        "discs-and-bars-scales-from-nought", _skips, "accuracy", 0.9, "14 layers, no norm; every branch is scaled by 0 at first"
    ),
    _told("disc-found-under-hard-limits", _clipped, "r2", 0.9, "ReLU6 and hard tanh: limits that the answers keep clear of"),
    _told("slopes-through-a-waist-of-three", _waist, "r2", 0.9, "144 pixels through 3 numbers, which is what they hold", "mlp"),
    _told("discs-and-bars-half-dropped", _dropped, "accuracy", 0.85, "train loss above validation loss all along", "mlp"),
    _told(
        "patchwork-read-from-nought", _patchwork, "accuracy", 0.85, "the read-out starts at zero: log 4 at first", "transformer"
    ),
    _told("discs-and-bars-helped-half-way", _helped, "accuracy", 0.9, "a tuple while training, a tensor when evaluated"),
    _told("stamps-some-of-them-rare", _stamps, "r2", 0.85, "five yes-or-no labels, one rare; spectral norm"),
)
