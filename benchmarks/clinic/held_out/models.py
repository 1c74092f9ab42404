"""Models of the held-out patients, as users write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def stacked(
    sizes: Sequence[int],
    activation: Callable[[], nn.Module] = nn.ReLU,
    *,
    norm: Callable[[int], nn.Module] | None = None,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Linear layers with an activation between each two."""
    parts: list[nn.Module] = []
    for wide, next_wide in pairwise(sizes[:-1]):
        parts.append(nn.Linear(wide, next_wide))
        if norm is not None:
            parts.append(norm(next_wide))
        parts.append(activation())
        if dropout:
            parts.append(nn.Dropout(dropout))
    return nn.Sequential(*parts, nn.Linear(sizes[-2], sizes[-1]))


class WideDeep(nn.Module):
    """Two branches: a linear one and a deep one, added."""

    def __init__(self, width: int, hidden: int, num_outputs: int) -> None:
        super().__init__()
        self.wide = nn.Linear(width, num_outputs)
        self.deep = stacked([width, hidden, hidden, num_outputs], nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(x) + self.deep(x)


class ResidualTable(nn.Module):
    """Blocks added to a running state; with `zero`, each starts as nothing."""

    def __init__(self, width: int, hidden: int, num_outputs: int, *, blocks: int, normed: bool, zero: bool) -> None:
        super().__init__()
        self.entry = nn.Linear(width, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden) if normed else nn.Identity(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden)
            )
            for _ in range(blocks)
        )
        self.head = nn.Linear(hidden, num_outputs)
        if zero:
            for block in self.blocks:
                nn.init.zeros_(block[-1].weight)
                nn.init.zeros_(block[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        state = self.entry(x)
        for block in self.blocks:
            state = state + block(state)
        return self.head(state)


def convnet(
    channels: int,
    num_outputs: int,
    *,
    widths: Sequence[int] = (12, 24),
    norm: Literal["none", "batch", "group"] = "none",
    activation: Callable[[], nn.Module] = nn.ReLU,
    flat: int = 0,
) -> nn.Sequential:
    """Convolutions and poolings, then a mean over places, or with `flat` a linear layer over that many numbers."""
    parts: list[nn.Module] = []
    for index, width in enumerate(widths):
        parts.append(nn.Conv2d(channels, width, 3, padding=1))
        if norm != "none":
            parts.append(nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(4, width))
        parts.append(activation())
        if index < 2:
            parts.append(nn.MaxPool2d(2))
        channels = width
    parts += [nn.Flatten(), nn.Linear(flat, num_outputs)] if flat else _mean_head(channels, num_outputs)
    return nn.Sequential(*parts)


def _mean_head(channels: int, num_outputs: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_outputs)]


class TokenReader(nn.Module):
    """A recurrent net over tokens; its last state is judged."""

    def __init__(self, words: int, num_outputs: int, *, hidden: int = 32, kind: type[nn.RNNBase] = nn.GRU) -> None:
        super().__init__()
        self.table = nn.Embedding(words, 16)
        self.reader = kind(16, hidden, batch_first=True)
        self.head = nn.Linear(hidden, num_outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.reader(self.table(tokens))[0][:, -1])


class SeriesReader(nn.Module):
    """A recurrent net over a series; its last state is judged."""

    def __init__(self, columns: int, num_outputs: int, *, hidden: int = 24, kind: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        self.reader = kind(columns, hidden, batch_first=True)
        self.head = nn.Linear(hidden, num_outputs)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.reader(series)[0][:, -1])


class Elman(nn.Module):
    """A recurrent step written by hand, over a series."""

    def __init__(self, columns: int, num_outputs: int, hidden: int, squash: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.fresh = nn.Linear(columns, hidden)
        self.kept = nn.Linear(hidden, hidden, bias=False)
        self.head = nn.Linear(hidden, num_outputs)
        self.squash = squash

    def forward(self, series: Tensor) -> Tensor:
        state = series.new_zeros(len(series), self.kept.in_features)
        for column in series.unbind(1):
            state = self.squash(self.fresh(column) + self.kept(state))
        return self.head(state)


class Attention(nn.Module):
    """Heads over a sequence, written out; `over` is the dimension that scores are normalised over."""

    def __init__(self, width: int, heads: int = 2, over: int = -1) -> None:
        super().__init__()
        self.heads, self.over = heads, over
        self.asks = nn.Linear(width, 3 * width)
        self.gives = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        ask, key, value = (part.view(rows, length, self.heads, -1).transpose(1, 2) for part in self.asks(x).split(width, dim=-1))
        scores = F.softmax(ask @ key.transpose(-1, -2) / math.sqrt(width / self.heads), dim=self.over)
        return self.gives((scores @ value).transpose(1, 2).reshape(rows, length, width))


class Layer(nn.Module):
    """Attention and a small net, each added; norms before (`pre`), after (`post`), or none."""

    def __init__(self, width: int, norms: Literal["pre", "post", "none"], over: int = -1) -> None:
        super().__init__()
        self.norms = norms
        self.look = Attention(width, over=over)
        self.think = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.first = nn.Identity() if norms == "none" else nn.LayerNorm(width)
        self.second = nn.Identity() if norms == "none" else nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        if self.norms == "post":
            x = self.first(x + self.look(x))
            return self.second(x + self.think(x))
        x = x + self.look(self.first(x))
        return x + self.think(self.second(x))


class Transformer(nn.Module):
    """Layers over tokens with learned places; judges the mean, or each token where `each`."""

    def __init__(
        self,
        words: int,
        num_outputs: int,
        *,
        length: int,
        width: int = 32,
        depth: int = 2,
        norms: Literal["pre", "post", "none"] = "pre",
        each: bool = False,
        over: int = -1,
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(words, width)
        self.places = nn.Parameter(0.3 * torch.randn(length, width))
        self.layers = nn.ModuleList(Layer(width, norms, over) for _ in range(depth))
        self.last = nn.LayerNorm(width) if norms == "pre" else nn.Identity()
        self.head = nn.Linear(width, num_outputs)
        self.each = each

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens) + self.places
        for layer in self.layers:
            x = layer(x)
        x = self.last(x)
        return self.head(x if self.each else x.mean(1))
