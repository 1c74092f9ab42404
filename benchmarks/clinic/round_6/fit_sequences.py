"""Sound sequences: masks, padding, tied and frozen tables, rows in the order of time, directions, hard limits on skill."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_6.fit_parts import cut, normal, perceptron, setup_of, standard, uniform, weights_of


class _LastState(nn.Module):
    """A recurrent layer, read at its last step."""

    def __init__(self, cell: Any, num_inputs: int, width: int, num_outputs: int) -> None:
        super().__init__()
        self.cell = cell(num_inputs, width, batch_first=True)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.cell(inputs)
        answer: Tensor = self.head(states[:, -1])
        return answer


def _bells(seed: int, *, width: int = 24) -> Setup:
    """Three pitches, each struck at a moment of its own, in noise."""
    kind = torch.randint(0, 3, (1300,), generator=drawn(seed, "bells"))
    time = torch.arange(24.0)
    pitch = torch.tensor([0.5, 1.0, 1.7])[kind].unsqueeze(1)
    sound = torch.sin(pitch * time + 6.28 * uniform(seed, "phase", 1300, 1)) + 0.4 * normal(seed, "hall", 1300, 24)
    with weights_of(seed):
        model = _LastState(nn.GRU, 1, width, 3)
    return setup_of(cut(sound.unsqueeze(2), kind, 900), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=12)


class _Tagger(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(21, 16, padding_idx=0)
        self.reader = nn.LSTM(16, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.reader(self.table(tokens))
        scores: Tensor = self.head(states)
        return scores


def _over_tokens(scores: Tensor, tags: Tensor) -> Tensor:
    return functional.cross_entropy(scores.flatten(0, 1), tags.flatten(), ignore_index=-100)


def _glosses(seed: int, *, width: int = 24) -> Setup:
    """A word's tag follows from the word and the one before it; sentences of 6 to 12 words, padded, padding not counted."""
    words = torch.randint(1, 21, (900, 12), generator=drawn(seed, "glosses"))
    before = functional.pad(words, (1, 0))[:, :-1]
    tags = words % 2 + 2 * (before > 10).long()
    length = torch.randint(6, 13, (900, 1), generator=drawn(seed, "lengths"))
    padding = torch.arange(12) >= length
    split = cut(words.masked_fill(padding, 0), tags.masked_fill(padding, -100), 600)
    with weights_of(seed):
        model = _Tagger(width)
    return setup_of(split, model, _over_tokens, {"name": "adam", "lr": 0.01}, epochs=10)


class _Masked(nn.Module):
    """One layer of attention that leaves the padding out, and the mean over what is there."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(200, width, padding_idx=0)
        self.layer = nn.TransformerEncoderLayer(width, 2, 2 * width, 0.1, batch_first=True)
        self.head = nn.Linear(width, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        there = tokens > 0
        states = self.layer(self.table(tokens), src_key_padding_mask=~there)
        states = states * there.unsqueeze(2)
        scores: Tensor = self.head(states.sum(1) / there.sum(1, keepdim=True))
        return scores


def _letters(seed: int, *, width: int = 24) -> Setup:
    """Which third of the words prevails? Three to fourteen words, the table has 200 rows, 60 are used."""
    subject = torch.randint(0, 3, (1700, 1), generator=drawn(seed, "subject"))
    own = uniform(seed, "own words", 1700, 14) < 0.6
    other = torch.randint(1, 61, (1700, 14), generator=drawn(seed, "other words"))
    words = torch.where(own, 1 + subject * 20 + torch.randint(0, 20, (1700, 14), generator=drawn(seed, "words")), other)
    length = torch.randint(3, 15, (1700, 1), generator=drawn(seed, "letter lengths"))
    words = words.masked_fill(torch.arange(14) >= length, 0)
    with weights_of(seed):
        model = _Masked(width)
    split = cut(words, subject.flatten(), 1200)
    return setup_of(split, model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 2e-3}, epochs=10)


class _Tied(nn.Module):
    """What comes next? The table that reads the tokens writes them as well."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(16, width)
        nn.init.normal_(self.table.weight, std=0.3)
        self.reader = nn.GRU(width, width, batch_first=True)
        self.writer = nn.Linear(width, 16)
        self.writer.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.reader(self.table(tokens))
        scores: Tensor = self.writer(states)
        return scores


def _next_token(scores: Tensor, tokens: Tensor) -> Tensor:
    return functional.cross_entropy(scores.reshape(-1, scores.shape[-1]), tokens.reshape(-1))


def _chain(seed: int, *, width: int = 32) -> Setup:
    """A Markov chain of 16 states: the likeliest next state comes in about six of ten."""
    odds = torch.distributions.Dirichlet(torch.full((16,), 0.1)).concentration
    shares = torch._standard_gamma(odds.expand(16, 16).contiguous(), generator=drawn(seed, "chain")) + 1e-4
    states = [torch.randint(0, 16, (900,), generator=drawn(seed, "chain start"))]
    random = drawn(seed, "chain walk")
    for _ in range(12):
        states.append(torch.multinomial(shares[states[-1]], 1, generator=random).flatten())
    walk = torch.stack(states, dim=1)
    with weights_of(seed):
        model = _Tied(width)
    return setup_of(cut(walk[:, :-1], walk[:, 1:], 600), model, _next_token, {"name": "adam", "lr": 5e-3}, epochs=12)


def _river(seed: int, *, width: int = 16) -> Setup:
    """The level of a river, from the sixteen days before; rows in the order of time, the last 484 days to validate."""
    shock = normal(seed, "rain", 2300)
    level = torch.zeros(2300)
    for day in range(2, 2300):
        level[day] = 1.5 * level[day - 1] - 0.6 * level[day - 2] + shock[day]
    windows = standard(level[200:]).unfold(0, 17, 1)
    split = cut(windows[:, :-1].unsqueeze(2), windows[:, -1:], 1600)
    with weights_of(seed):
        model = _LastState(nn.RNN, 1, width, 1)
    settings = {"name": "adam", "lr": 2e-3}
    return setup_of(split, model, nn.MSELoss(), settings, batch_size=16, epochs=10, shuffle=False)


class _Heading(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(3, width, 5, padding=2), nn.GELU(), nn.AvgPool1d(4), nn.Flatten(), nn.Linear(6 * width, 2)
        )

    def forward(self, signals: Tensor) -> Tensor:
        return functional.normalize(self.body(signals), dim=1)


def _cosine(outputs: Tensor, targets: Tensor) -> Tensor:
    return -functional.cosine_similarity(outputs, targets, dim=1).mean()


def _headings(seed: int, *, width: int = 16) -> Setup:
    """Three microphones and a wave: where does it come from? A unit vector; minus the cosine falls to -1."""
    angle = 2.0 * math.pi * uniform(seed, "headings", 1400, 1)
    seat = torch.tensor([0.0, 2.1, 4.2]).reshape(1, 3, 1)
    time = torch.arange(24.0).reshape(1, 1, 24)
    delay = 2.0 * torch.cos(angle.unsqueeze(2) - seat)
    signals = (-((time - 12.0 - delay) ** 2) / 6.0).exp() + 0.1 * normal(seed, "wind", 1400, 3, 24)
    split = cut(signals, torch.cat([torch.cos(angle), torch.sin(angle)], dim=1), 1000)
    with weights_of(seed):
        model = _Heading(width)
    return setup_of(split, model, _cosine, {"name": "adam", "lr": 3e-3}, epochs=15)


class _Held(nn.Module):
    """Given vectors of words, held fixed; what is learnt reads their mean."""

    def __init__(self, vectors: Tensor, width: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(*vectors.shape)
        self.vectors.weight = nn.Parameter(vectors, requires_grad=False)
        self.body = perceptron(vectors.shape[1], width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        answer: Tensor = self.body(self.vectors(tokens).mean(1))
        return answer


def _reviews(seed: int, *, width: int = 16) -> Setup:
    """Praise or blame, from words whose given vectors tell their tone; most of the parameters are the vectors."""
    vectors = normal(seed, "vectors", 500, 16)
    tokens = torch.randint(0, 500, (1700, 12), generator=drawn(seed, "reviews"))
    tone = vectors[tokens][:, :, 0].mean(1) + 0.5 * vectors[tokens][:, :, 1].mean(1)
    praise = (tone + 0.05 * normal(seed, "mood", 1700) > 0).float().unsqueeze(1)
    with weights_of(seed):
        model = _Held(vectors, width)
    settings = {"name": "adam", "lr": 0.01, "params": list(model.body.parameters())}
    return setup_of(cut(tokens, praise, 1200), model, nn.BCEWithLogitsLoss(), settings, epochs=10)


class _Causal(nn.Module):
    """Weight-normed convolutions over the past, one added to the other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = parametrizations.weight_norm(nn.Conv1d(1, width, 3))
        self.second = parametrizations.weight_norm(nn.Conv1d(width, width, 3, dilation=2))
        self.head = nn.Conv1d(width, 1, 1)

    def forward(self, signals: Tensor) -> Tensor:
        states = functional.relu(self.first(functional.pad(signals, (2, 0))))
        states = states + functional.relu(self.second(functional.pad(states, (4, 0))))
        answer: Tensor = self.head(states)
        return answer


def _pipes(seed: int, *, width: int = 24) -> Setup:
    """At each moment, what flows in now and the larger of what came two and four moments ago."""
    inflow = normal(seed, "pipes", 500, 1, 32)
    past = functional.pad(inflow, (4, 0))
    flow = 0.6 * inflow + torch.maximum(past[:, :, 2:-2], past[:, :, :-4]) + 0.2 * normal(seed, "pipe meter", 500, 1, 32)
    with weights_of(seed):
        model = _Causal(width)
    return setup_of(cut(inflow, flow, 350), model, nn.MSELoss(), {"name": "adam", "lr": 5e-3}, batch_size=10, epochs=20)


def _told(name: str, build: Any, skill: Any, floor: float, source: str, kind: Any = "rnn") -> Case:
    return Case(name, build, (), skill, source, kind, "sequence", floor=floor)


CASES: tuple[Case, ...] = (
    _told("bells-read-at-the-last-step", _bells, "accuracy", 0.9, "the last state alone is read, after 24 steps"),
    _told(
        "glosses-padding-not-counted", _glosses, "accuracy", 0.7, "a quarter of the targets is -100; plain accuracy counts them"
    ),
    _told("letters-mask-over-padding", _letters, "accuracy", 0.8, "padding, a mask, 139 rows never touched", "transformer"),
    _told("chain-one-table-for-both-ends", _chain, "accuracy", 0.5, "tied weights; a law that leaves much to chance"),
    _told("river-days-in-order", _river, "r2", 0.8, "no shuffling: overlapping windows in the order of time, validation later"),
    _told("headings-minus-the-cosine", _headings, "r2", 0.9, "a loss that falls to -1; targets are unit vectors", "cnn"),
    _told("reviews-given-vectors-held", _reviews, "accuracy", 0.85, "8,000 of 8,289 parameters are frozen and not held", "mlp"),
    _told("pipes-weight-norm-over-the-past", _pipes, "r2", 0.85, "weight norm: lengths and directions move apart", "cnn"),
)
