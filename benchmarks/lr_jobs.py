"""Jobs for benchmarks/lr_finder.py: small models on synthetic data, on real data inside packages, and hopeless ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stepwell import Recipe
from stepwell.core.randomness import seeded_defaults

Pair = tuple[Tensor, Tensor]
SGD: dict[str, Any] = {"name": "sgd"}
MOMENTUM: dict[str, Any] = {"name": "sgd", "momentum": 0.9}
CLIP = [{"name": "clip_norm"}]


@dataclass(frozen=True)
class LrJob:
    """What `fit` is given: a model by seed, data, recipe and budget."""

    make: Callable[[], nn.Module]
    train: Pair
    val: Pair
    recipe: Recipe
    budget: str

    def model(self, seed: int) -> nn.Module:
        """The model as the seed draws it."""
        with seeded_defaults(seed + 100):
            return self.make()


def job(make: Callable[[], nn.Module], parts: tuple[Pair, Pair], optimizer: Any, budget: str, **recipe: Any) -> LrJob:
    """A job by cross-entropy, or what `objective` says."""
    return LrJob(make, *parts, Recipe(optimizer=optimizer, **recipe), budget)


def parted(x: Tensor, y: Tensor, num_train: int) -> tuple[Pair, Pair]:
    return (x[:num_train], y[:num_train]), (x[num_train:], y[num_train:])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mlp(
    inputs: int, width: int, outputs: int, *, depth: int = 1, norm: str = "none", act: type[nn.Module] = nn.ReLU
) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), *([nn.BatchNorm1d(width)] if norm == "batch" else []), act()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def cnn(outputs: int, *, norm: str = "none", channels: int = 8) -> nn.Module:
    def block(inputs: int, width: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, width, 3, padding=1), *([nn.BatchNorm2d(width)] if norm == "batch" else []), nn.ReLU()]

    layers = [*block(1, channels), nn.MaxPool2d(2), *block(channels, 2 * channels), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8 * channels, outputs))


class Recurrent(nn.Module):
    """A GRU over rows or tokens; outputs at every place, or at the last."""

    def __init__(self, inputs: int, width: int, outputs: int, *, vocabulary: int = 0, at: str = "last") -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, inputs) if vocabulary else nn.Identity()
        self.cells, self.head, self.at = nn.GRU(inputs, width, batch_first=True), nn.Linear(width, outputs), at

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.cells(self.embed(x))
        return self.head(states if self.at == "every" else states[:, -1])


class Attending(nn.Module):
    """A transformer of two layers; causal with outputs at every place, or pooled."""

    def __init__(self, inputs: int, width: int, outputs: int, length: int, *, vocabulary: int = 0, at: str = "mean") -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width) if vocabulary else nn.Linear(inputs, width)
        self.places = nn.Parameter(torch.randn(length, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head, self.at = nn.Linear(width, outputs), at

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        every = self.at == "every"
        mask = nn.Transformer.generate_square_subsequent_mask(length) if every else None
        states = self.layers(self.embed(x) + self.places[:length], mask=mask, is_causal=every)
        return self.head(states if every else states.mean(1))


def _taught(num: int, inputs: int, outputs: int, *, noise: float, seed: int, scale: float = 1.0) -> Pair:
    """Classes of a random network's noisy scores."""
    draw, network = generator(seed), mlp(inputs, 32, outputs)
    x = torch.randn(num, inputs, generator=draw)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=draw) / math.sqrt(weight.shape[-1]) * 1.5)
        scores = network(x)
        return x * scale, (scores + noise * torch.randn(scores.shape, generator=draw)).argmax(1)


def _bars(num: int) -> Pair:
    """Noisy pictures of a row, a column, a diagonal or a spot."""
    draw = generator(0)
    kinds, x = torch.randint(0, 4, (num,), generator=draw), torch.randn(num, 1, 8, 8, generator=draw) * 0.7
    for index, kind in enumerate(kinds.tolist()):
        at = int(torch.randint(1, 7, (1,), generator=draw))
        picture = x[index, 0]
        {0: picture[at], 1: picture[:, at], 2: picture.diagonal(), 3: picture[at - 1 : at + 1, 2:5]}[kind].add_(1.2)
    return x, kinds


def _chains(num: int, length: int, states: int) -> Pair:
    """Tokens that follow from the two before, by chance."""
    draw = generator(0)
    table = torch.softmax(2.5 * torch.randn(states, states, states, generator=draw), -1)
    tokens = torch.randint(0, states, (num, length + 1), generator=draw)
    for at in range(2, length + 1):
        tokens[:, at] = torch.multinomial(table[tokens[:, at - 2], tokens[:, at - 1]], 1, generator=draw)[:, 0]
    return tokens[:, :-1], tokens[:, 1:]


def development() -> dict[str, LrJob]:
    """Sixteen synthetic jobs."""
    draw = generator(5)
    plain = parted(*_taught(1500, 20, 4, noise=0.3, seed=0), 1000)
    noisy = parted(*_taught(1500, 20, 4, noise=2.0, seed=1), 1000)
    few = parted(*_taught(600, 20, 3, noise=0.5, seed=2), 150)
    unscaled = parted(*_taught(1500, 10, 3, noise=0.3, seed=3, scale=8.0), 1000)
    x = torch.rand(1500, 3, generator=draw) * 2 - 1
    y = torch.sin(3 * x[:, :1]) + x[:, 1:2] * x[:, 2:] + 0.1 * torch.randn(1500, 1, generator=draw)
    waves = parted(x, y, 1000)
    x = torch.randn(1000, 10, generator=draw) * torch.logspace(0, -1.5, 10)
    y = x @ torch.randn(10, 1, generator=draw) * 3 + 0.2 * torch.randn(1000, 1, generator=draw)
    line, bars, chains = parted(x, y, 700), parted(*_bars(1200), 800), parted(*_chains(700, 16, 8), 500)
    x = torch.cat([torch.rand(1200, 12, 1, generator=draw), torch.zeros(1200, 12, 1)], 2)
    rows, first, second = torch.arange(1200), *(torch.randint(low, low + 6, (1200,), generator=draw) for low in (0, 6))
    x[rows, first, 1] = x[rows, second, 1] = 1
    adding = parted(x, (x[rows, first, 0] + x[rows, second, 0])[:, None], 900)
    x = torch.randint(0, 10, (1200, 12), generator=draw)
    counts = parted(x, ((x == 3).sum(1) > (x == 7).sum(1)).long(), 900)
    nesterov = {**MOMENTUM, "nesterov": True}

    def speaker() -> nn.Module:
        return Attending(0, 32, 8, 16, vocabulary=8, at="every")

    def recurrent() -> nn.Module:
        return Recurrent(16, 32, 8, vocabulary=8, at="every")

    return {
        "mlp, sgd": job(lambda: mlp(20, 32, 4), plain, SGD, "300 steps"),
        "mlp, momentum cycle": job(lambda: mlp(20, 32, 4), plain, MOMENTUM, "300 steps", schedule="one_cycle", batch_size=64),
        "deep mlp, nesterov": job(lambda: mlp(20, 32, 4, depth=4), plain, nesterov, "300 steps"),
        "bn mlp, adamw cosine": job(
            lambda: mlp(20, 64, 4, depth=2, norm="batch"), plain, "adamw", "200 steps", schedule="cosine"
        ),
        "noisy labels, adamw": job(lambda: mlp(20, 64, 4), noisy, "adamw", "400 steps"),
        "150 rows, adam": job(lambda: mlp(20, 32, 3), few, "adam", "300 steps", batch_size=16),
        "unscaled inputs, sgd": job(lambda: mlp(10, 32, 3), unscaled, SGD, "300 steps"),
        "regression, adamw": job(
            lambda: mlp(3, 32, 1, depth=2, act=nn.Tanh), waves, "adamw", "400 steps", schedule="warmup_cosine", objective="mse"
        ),
        "regression, momentum": job(lambda: mlp(3, 32, 1, depth=2), waves, MOMENTUM, "400 steps", objective="mse"),
        "linear, sgd": job(lambda: nn.Linear(10, 1), line, SGD, "200 steps", objective="mse"),
        "cnn, momentum cycle": job(lambda: cnn(4), bars, MOMENTUM, "200 steps", schedule="one_cycle"),
        "bn cnn, adam": job(lambda: cnn(4, norm="batch"), bars, "adam", "150 steps"),
        "gru adding, adam": job(lambda: Recurrent(2, 24, 1), adding, "adam", "300 steps", techniques=CLIP, objective="mse"),
        "transformer, adamw": job(speaker, chains, "adamw", "200 steps", schedule="warmup_cosine", techniques=CLIP),
        "gru, adamw cycle": job(recurrent, chains, "adamw", "200 steps", schedule="one_cycle", techniques=CLIP),
        "transformer, momentum": job(
            lambda: Attending(0, 32, 2, 12, vocabulary=10), counts, MOMENTUM, "200 steps", schedule="warmup_cosine"
        ),
    }


def _shuffled(x: Any, y: Any, *, scaled: str = "columns") -> Pair:
    x, y = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y)
    order = torch.randperm(len(x), generator=generator(7))
    x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6) if scaled == "columns" else x
    return x[order], y[order]


def _text(num: int, length: int) -> tuple[Pair, Pair, int]:
    """Characters of Python's own help texts, the most frequent 60; training and validation from other topics."""
    from pydoc_data.topics import topics

    names = sorted(topics)
    cut = int(0.8 * len(names))
    whole = "".join(topics[name] for name in names).lower()
    known = sorted(set(whole), key=lambda letter: (-whole.count(letter), letter))[:60]
    codes = {letter: index for index, letter in enumerate(known)}

    def part(chosen: list[str], num: int, seed: int) -> Pair:
        text = torch.tensor([codes[letter] for letter in "".join(topics[name] for name in chosen).lower() if letter in codes])
        starts = torch.randint(0, len(text) - length - 1, (num,), generator=generator(seed))
        windows = text[starts[:, None] + torch.arange(length + 1)]
        return windows[:, :-1], windows[:, 1:]

    return part(names[:cut], num, 1), part(names[cut:], num // 3, 2), len(known)


def real() -> dict[str, LrJob]:
    """Ten jobs on data that scikit-learn and Python carry."""
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

    digits = load_digits()
    images, classes = _shuffled(digits.images / 16.0, digits.target, scaled="none")
    flat, rows = parted(images.flatten(1), classes, 1300), parted(images, classes, 1300)
    pictures = parted(images[:, None], classes, 1300)
    cancer, wine = (
        parted(*_shuffled(*load_breast_cancer(return_X_y=True)), 400),
        parted(*_shuffled(*load_wine(return_X_y=True)), 120),
    )
    x, y = _shuffled(*load_diabetes(return_X_y=True))
    diabetes = parted(x, ((y - y.mean()) / y.std()).float()[:, None], 300)
    train, val, size = _text(600, 32)
    text = (train, val)

    def speaker() -> nn.Module:
        return Attending(0, 32, size, 32, vocabulary=size, at="every")

    def recurrent() -> nn.Module:
        return Recurrent(24, 48, size, vocabulary=size, at="every")

    extras = [{"name": "label_smoothing", "epsilon": 0.05}, {"name": "ema", "half_life": "5%"}]
    return {
        "digits mlp, sgd": job(lambda: mlp(64, 64, 10), flat, SGD, "8 epochs"),
        "digits cnn, momentum": job(lambda: cnn(10), pictures, MOMENTUM, "4 epochs", schedule="one_cycle"),
        "digits transformer": job(lambda: Attending(8, 32, 10, 8), rows, "adamw", "4 epochs", schedule="warmup_cosine"),
        "digits gru, adam": job(lambda: Recurrent(8, 32, 10), rows, "adam", "4 epochs", techniques=CLIP),
        "digits bn mlp, extras": job(
            lambda: mlp(64, 64, 10, depth=2, norm="batch"), flat, MOMENTUM, "5 epochs", techniques=extras, micro_batch_size=16
        ),
        "cancer mlp, adam": job(lambda: mlp(30, 32, 2), cancer, "adam", "8 epochs"),
        "wine mlp, momentum": job(lambda: mlp(13, 16, 3), wine, MOMENTUM, "15 epochs", batch_size=16),
        "diabetes mlp, adamw": job(lambda: mlp(10, 32, 1), diabetes, "adamw", "15 epochs", objective="mse"),
        "help texts, gru": job(recurrent, text, "adamw", "8 epochs", schedule="one_cycle", techniques=CLIP),
        "help texts, transformer": job(speaker, text, "adamw", "8 epochs", schedule="warmup_cosine", techniques=CLIP),
    }


class _Undefined(nn.Module):
    """A model with a logarithm of what can be negative."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).log()


def _dead() -> nn.Module:
    network = mlp(20, 32, 4)
    nn.init.constant_(network[0].bias, -1000.0)  # type: ignore[arg-type]
    nn.init.zeros_(network[2].bias)  # type: ignore[arg-type]
    network[2].bias.requires_grad_(False)  # type: ignore[union-attr]
    return network


def _indifferent() -> nn.Module:
    network = mlp(20, 32, 2)
    nn.init.zeros_(network[2].weight)  # type: ignore[arg-type]
    nn.init.zeros_(network[2].bias)  # type: ignore[arg-type]
    return network


def _uphill(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.1, maximize=True)


def _flips() -> tuple[Pair, Pair]:
    draw = generator(11)
    return parted(torch.randn(5000, 20, generator=draw), torch.randint(0, 2, (5000,), generator=draw), 4000)


def _huge() -> tuple[Pair, Pair]:
    x, _ = _taught(1000, 20, 4, noise=0.3, seed=0)
    return parted(x, x[:, :1] * 1e25, 800)


def _plain() -> tuple[Pair, Pair]:
    return parted(*_taught(1000, 20, 4, noise=0.3, seed=0), 800)


HOPELESS: dict[str, Callable[[], LrJob]] = {
    "dead units": lambda: job(_dead, _plain(), "adam", "200 steps"),
    "logarithm of negatives": lambda: job(_Undefined, _plain(), "adamw", "200 steps"),
    "goes uphill": lambda: job(lambda: mlp(20, 32, 4), _plain(), _uphill, "200 steps"),
    "coin flips": lambda: job(_indifferent, _flips(), "adam", "1 epoch"),
    "targets of 1e25": lambda: job(lambda: mlp(20, 32, 1), _huge(), SGD, "200 steps", objective="mse"),
}
