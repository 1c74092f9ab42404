"""Readers of sequences, sound ones and such as carry a fault."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.round_1.parts import layers


class Reader(nn.Module):
    """Tokens, a recurrent body, a head on the last place or on every place."""

    def __init__(self, num_tokens: int, width: int, num_outputs: int, *, places: slice | int = -1, dropout: float = 0.0) -> None:
        super().__init__()
        self.tokens = nn.Embedding(num_tokens, 16)
        self.dropout = nn.Dropout(dropout)
        self.body = nn.GRU(16, width, batch_first=True)
        self.head = nn.Linear(width, num_outputs)
        self.places = places

    def forward(self, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(self.dropout(self.tokens(tokens)))[0][:, self.places])
        return outputs


class Encoder(nn.Module):
    """Tokens with places, transformer blocks, a head on the mean or on every place."""

    def __init__(self, num_tokens: int, num_outputs: int, *, depth: int = 2, length: int = 12, **block: Any) -> None:
        super().__init__()
        self.tokens = nn.Embedding(num_tokens, 32)
        self.places = nn.Parameter(0.5 * torch.randn(length, 32))
        settings = {"dim_feedforward": 64, "dropout": 0.0, "batch_first": True, **block}
        self.blocks = nn.ModuleList([nn.TransformerEncoderLayer(32, 4, **settings) for _ in range(depth)])
        self.head = nn.Linear(32, num_outputs)

    def body(self, tokens: Tensor) -> Tensor:
        states: Tensor = self.tokens(tokens) + self.places
        for block in self.blocks:
            states = block(states)
        return states

    def forward(self, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(tokens))
        return outputs


class Stack(nn.Module):
    """Tokens, a recurrent body of choice, a head on the last state."""

    def __init__(self, body: nn.RNNBase, num_outputs: int) -> None:
        super().__init__()
        self.tokens, self.body = nn.Embedding(8, 16), body
        self.head = nn.Linear(body.hidden_size, num_outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(self.tokens(tokens))[0][:, -1])
        return outputs


class Memory(nn.Module):
    """A linear recurrence written by hand."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.enter, self.keep, self.head = nn.Linear(1, 24), nn.Linear(24, 24, bias=False), nn.Linear(24, 1)
        nn.init.orthogonal_(self.keep.weight, gain=gain)

    def forward(self, signal: Tensor) -> Tensor:
        state = signal.new_zeros(len(signal), 24)
        for moment in signal.unbind(1):
            state = self.keep(state) + self.enter(moment)
        outputs: Tensor = self.head(state)
        return outputs


class BothWays(nn.Module):
    """A bidirectional reader; the two last states of a row are laid side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(40, 16)
        self.body = nn.GRU(16, 24, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 4))

    def beside(self, states: Tensor) -> Tensor:
        return states.transpose(0, 1).flatten(1)

    def forward(self, words: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.beside(self.body(self.tokens(words))[1]))
        return outputs


class BothWaysViewed(BothWays):
    """The same, but the axis of directions is taken for the axis of rows."""

    def beside(self, states: Tensor) -> Tensor:
        return states.reshape(states.shape[1], -1)


class Chooser(nn.Module):
    """Every place gets a score from its token and the one before; the answer is read from the places by their scores."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(8, 24)
        self.score = nn.Sequential(nn.Linear(48, 32), nn.Tanh(), nn.Linear(32, 1))
        self.head = nn.Linear(24, 7)

    def weights(self, scores: Tensor) -> Tensor:
        return scores.softmax(1)

    def forward(self, tokens: Tensor) -> Tensor:
        states = self.tokens(tokens)
        former = nn.functional.pad(states, (0, 0, 1, 0))[:, :-1]
        weights = self.weights(self.score(torch.cat([states, former], 2)).squeeze(2))
        outputs: Tensor = self.head(torch.einsum("nt,ntd->nd", weights, states))
        return outputs


class HardChooser(Chooser):
    """Only the place with the best score is read."""

    def weights(self, scores: Tensor) -> Tensor:
        return nn.functional.one_hot(scores.argmax(1), scores.shape[1]).to(scores.dtype)


class Improvised(nn.Module):
    """A reader that makes its inner layer as it needs it."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(40, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, words: Tensor) -> Tensor:
        inner = nn.Linear(16, 16)
        outputs: Tensor = self.head(torch.relu(inner(self.tokens(words).mean(1))))
        return outputs


class Prepared(Improvised):
    """The same with the layer made once."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 16)

    def forward(self, words: Tensor) -> Tensor:
        outputs: Tensor = self.head(torch.relu(self.inner(self.tokens(words).mean(1))))
        return outputs


class MaskedMean(nn.Module):
    """Visits of various lengths: the mean over the moments that count, by the lengths of one column."""

    def __init__(self, column: str) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 32), nn.ReLU())
        self.head = nn.Linear(32, 1)
        self.column = column

    def forward(self, visit: dict[str, Tensor]) -> Tensor:
        lengths = visit[self.column]
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).float()[:, :20, None]
        states = self.body(visit["signal"])[:, : mask.shape[1]] * mask
        outputs: Tensor = self.head(states.sum(1) / lengths[:, None])
        return outputs.squeeze(1)


class Cosine(nn.Module):
    """Words are brought to length one by hand before they are pooled; padding, token 0, is the zero vector."""

    def __init__(self, least: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(41, 24, padding_idx=0)
        self.turn = nn.Linear(24, 24, bias=False)
        self.head = nn.Linear(24, 4)
        self.least = least

    def forward(self, words: Tensor) -> Tensor:
        vectors = self.turn(self.tokens(words))
        lengths = (vectors.square().sum(2, keepdim=True) + self.least).sqrt()
        outputs: Tensor = self.head((vectors / lengths.clamp(min=1e-6)).mean(1))
        return outputs


class Bag(nn.Module):
    """The mean of the tokens' vectors, then a network."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(8, 32)
        self.head = layers(32, 64, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.tokens(tokens).mean(1))
        return outputs


class ShortSighted(nn.Module):
    """A label at each place from the last moments only: causal convolutions, each spread twice as wide as the former."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(5, 24)
        self.layers = nn.ModuleList([nn.Conv1d(24, 24, 2, dilation=2**level) for level in range(depth)])
        self.head = nn.Sequential(nn.Linear(24, 64), nn.GELU(), nn.Linear(64, 6))

    def forward(self, tokens: Tensor) -> Tensor:
        states = self.tokens(tokens).transpose(1, 2)
        for level, layer in enumerate(self.layers):
            states = nn.functional.gelu(layer(nn.functional.pad(states, (2**level, 0))))
        outputs: Tensor = self.head(states.transpose(1, 2))
        return outputs
