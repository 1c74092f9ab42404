"""Models of the patients. Initial weights follow from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn


@contextmanager
def weights_from(seed: int) -> Iterator[None]:
    """Within it, layers draw their first weights from the seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 7_001)
        yield


def mlp(
    *sizes: int,
    activation: Callable[[], nn.Module] = nn.ReLU,
    norm: Callable[[int], nn.Module] | None = None,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Linear layers of these sizes with the activation between them."""
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(before, after))
        if place < len(sizes) - 2:
            layers += ([norm(after)] if norm else []) + [activation()] + ([nn.Dropout(dropout)] if dropout else [])
    return nn.Sequential(*layers)


def cnn(
    num_outputs: int,
    *,
    width: int = 8,
    norm: Callable[[int], nn.Module] | None = None,
    activation: Callable[[], nn.Module] = nn.ReLU,
    channels: int = 1,
) -> nn.Sequential:
    """Two convolutions with halving, the mean over places, a head."""

    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, padding=1), *([norm(after)] if norm else []), activation()]

    return nn.Sequential(
        *block(channels, width),
        nn.MaxPool2d(2),
        *block(width, 2 * width),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(18 * width, num_outputs),
    )


class Reader(nn.Module):
    """A recurrent layer over numbers [N, length, features] and a head on its last state."""

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        *,
        width: int = 24,
        cell: Literal["rnn", "gru", "lstm"] = "gru",
        num_layers: int = 1,
        batch_first: Literal[True, False] = True,
    ) -> None:
        super().__init__()
        kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.body = kind(num_inputs, width, num_layers, batch_first=batch_first)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        states: Tensor = self.body(inputs)[0]
        outputs: Tensor = self.head(states[:, -1])
        return outputs


class Attender(nn.Module):
    """A transformer encoder over tokens [N, length], the mean over places and a head."""

    def __init__(
        self,
        vocabulary: int,
        length: int,
        num_outputs: int,
        *,
        width: int = 32,
        num_layers: int = 1,
        norm: Literal["pre", "post"] = "pre",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.1 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout, batch_first=True, norm_first=norm == "pre")
        self.body = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        states: Tensor = self.body(self.tokens(tokens) + self.places)
        outputs: Tensor = self.head(states.mean(1))
        return outputs


def start_all(model: nn.Module, draw_: Callable[[Tensor], object], *, biases: float | None = None) -> nn.Module:
    """The model with every weight of two or more dimensions drawn by `draw_`, and with its biases set where a value is given."""
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.dim() >= 2:
                draw_(tensor)
            elif biases is not None and "bias" in name:
                tensor.fill_(biases)
    return model


class Tagger(Attender):
    """The same encoder with a head at every place: outputs [N, length, num_outputs]."""

    def forward(self, tokens: Tensor) -> Tensor:
        states: Tensor = self.body(self.tokens(tokens) + self.places)
        outputs: Tensor = self.head(states)
        return outputs


class TextReader(nn.Module):
    """An embedding and a recurrent reader."""

    def __init__(self, vocabulary: int, num_outputs: int, *, width: int = 24) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, 12)
        self.reader = Reader(12, num_outputs, width=width)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.reader(self.tokens(tokens))
        return outputs
