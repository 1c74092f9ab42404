"""Readers of sentences, and texts in which the next word is told."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import drawn


class GruTagger(nn.Module):
    """A bidirectional GRU: scores [N, length, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(40, 16)
        self.cell, self.head = nn.GRU(16, 24, batch_first=True, bidirectional=True), nn.Linear(48, 5)

    def forward(self, words: Tensor) -> Tensor:
        scores: Tensor = self.head(self.cell(self.words(words))[0])
        return scores


def per_word(scores: Tensor, tags: Tensor) -> Tensor:
    """Mean cross-entropy over all words; tags of -100 don't count."""
    return nn.functional.cross_entropy(scores.flatten(0, 1), tags.flatten())


class Attender(nn.Module):
    """One or more post-norm layers of attention over word and place vectors."""

    def __init__(self, *, batch_first: bool, layers: int = 1, num_outputs: int = 5) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(40, 32), nn.Parameter(torch.randn(16, 32))
        made = [nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=batch_first) for _ in range(layers)]
        self.layers, self.head = nn.ModuleList(made), nn.Linear(32, num_outputs)

    def forward(self, words: Tensor) -> Tensor:
        states = self.words(words) + self.places[: words.shape[1]]
        for layer in self.layers:
            states = layer(states)
        scores: Tensor = self.head(states)
        return scores


def next_words(seed: int, *, sure: float = 0.8, num_rows: int = 600) -> tuple[Tensor, Tensor]:
    """Eight words of 40 [N, 8] and the words after them: mostly what a table of two classes of the last word says."""
    g = drawn(seed, "next words")
    follows = torch.randperm(40, generator=g)
    text = torch.randint(40, (num_rows, 9), generator=g)
    for place in range(8):
        told = torch.rand(num_rows, generator=g) < sure
        text[:, place + 1] = torch.where(told, follows[text[:, place]], text[:, place + 1])
    return text[:, :8], text[:, 1:]


class Causal(Attender):
    """Sees the words so far: scores of the next one [N, length, 40], or their softmax."""

    def __init__(self, ending: str = "scores") -> None:
        super().__init__(batch_first=True, num_outputs=40)
        self.ending = ending

    def forward(self, words: Tensor) -> Tensor:
        states = self.words(words) + self.places[: words.shape[1]]
        later = torch.ones(words.shape[1], words.shape[1], dtype=torch.bool).triu(1)
        for layer in self.layers:
            states = layer(states, src_mask=later)
        scores: Tensor = self.head(states)
        return scores.softmax(-1) if self.ending == "softmax" else scores
