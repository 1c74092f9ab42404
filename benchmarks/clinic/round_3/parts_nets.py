"""Small models that the cases of `bodies` and `calm` share."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


def dense(*widths: int, bend: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers with a bend between each two."""
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(widths):
        layers += [nn.Linear(inner, outer), bend()]
    return nn.Sequential(*layers[:-1])


class Recurrent(nn.Module):
    """A recurrent body, whose last output a linear head reads."""

    def __init__(self, body: nn.RNNBase, num_outputs: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(body.hidden_size, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.body(inputs)
        outputs: Tensor = self.head(states[:, -1])
        return outputs


class Swapped(nn.Module):
    """Time last, as convolutions want it."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.transpose(1, 2)


class Labeller(nn.Module):
    """A small transformer with a label for each word."""

    def __init__(self, *, width: int = 24, dropout: float = 0.0) -> None:
        super().__init__()
        self.words = nn.Embedding(18, width)
        self.places = nn.Parameter(0.5 * torch.randn(12, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 48, dropout=dropout, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, 3)

    def forward(self, words: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.block(self.words(words) + self.places))
        return outputs


def of_each_word(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy over all places of all rows."""
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


class Attentive(nn.Module):
    """Words are weighted by what a layer says of them, then summed."""

    def __init__(self, over: int) -> None:
        super().__init__()
        self.over = over
        self.words = nn.Embedding(40, 24)
        self.weight = nn.Linear(24, 1)
        self.head = dense(24, 32, 1)

    def forward(self, words: Tensor) -> Tensor:
        found = self.words(words)
        weights = functional.softmax(self.weight(found), dim=self.over)
        outputs: Tensor = self.head((weights * found).sum(1))
        return outputs


class ByHand(nn.Module):
    """Three layers whose weights are written out as in a lesson on matrices."""

    def __init__(self, scaled: bool) -> None:
        super().__init__()
        widths = (6, 64, 64, 1)
        pairs = list(itertools.pairwise(widths))
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(inner, outer) * (inner**-0.5 if scaled else 1.0)) for inner, outer in pairs
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(outer)) for _, outer in pairs)

    def forward(self, inputs: Tensor) -> Tensor:
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            inputs = inputs @ weight + bias
            inputs = functional.relu(inputs) if place < 2 else inputs
        return inputs


class Bag(nn.Module):
    """The mean of the words, then two layers."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.words = nn.Embedding(40, 32)
        self.drop = nn.Dropout(rate)
        self.inner = nn.Linear(32, 32)
        self.outer = nn.Linear(32, 2)

    def forward(self, words: Tensor) -> Tensor:
        pooled = self.drop(self.words(words).mean(1))
        outputs: Tensor = self.outer(self.drop(functional.relu(self.inner(pooled))))
        return outputs


class Tastes(nn.Module):
    """A person's vector times that of a film."""

    def __init__(self) -> None:
        super().__init__()
        self.people = nn.Embedding(40, 4)
        self.films = nn.Embedding(30, 4)

    def forward(self, pair: dict[str, Tensor]) -> Tensor:
        marks: Tensor = (self.people(pair["person"]) * self.films(pair["film"])).sum(1)
        return marks


def pile() -> nn.Sequential:
    """Seven layers for tiles, six of them convolutions, without norms."""
    layers: list[nn.Module] = [nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    for _ in range(5):
        layers += [nn.Conv2d(12, 12, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), nn.Linear(48, 4))


def start_normal(model: nn.Module, std: float | None) -> None:
    """Normal weights of a spread, or of the one that keeps the size of what passes."""
    draw = torch.Generator().manual_seed(5)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            spread = (2.0 / module.weight[0].numel()) ** 0.5 if std is None else std
            nn.init.normal_(module.weight, std=spread, generator=draw)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
