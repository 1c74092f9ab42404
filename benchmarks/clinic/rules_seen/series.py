"""Sequences drawn by rules: tokens and numbers."""

from __future__ import annotations

import math

import torch

from benchmarks.clinic.case import drawn
from benchmarks.clinic.rules_seen.tables import Split, cut


def motifs(seed: int, *, length: int = 14, vocabulary: int = 8, num_train: int = 800, num_val: int = 300) -> Split:
    """Whether token 1 is followed by token 2 anywhere; half of the rows have it. Tokens [N, length], targets [N], long."""
    random = drawn(seed, "motifs")
    rows = num_train + num_val
    tokens = torch.randint(vocabulary, (rows, length), generator=random)
    apart = (tokens[:, :-1] == 1) & (tokens[:, 1:] == 2)
    tokens[:, 1:][apart] = 3
    labels = torch.randint(2, (rows,), generator=random)
    place = torch.randint(length - 1, (rows,), generator=random)
    having = labels.nonzero().squeeze(1)
    tokens[having, place[having]] = 1
    tokens[having, place[having] + 1] = 2
    return cut(tokens, labels, num_train)


def majorities(seed: int, *, length: int = 12, vocabulary: int = 4, num_train: int = 700, num_val: int = 300) -> Split:
    """Which token comes most often. Tokens [N, length], targets [N], long."""
    random = drawn(seed, "majorities")
    rows = num_train + num_val
    labels = torch.randint(vocabulary, (rows,), generator=random)
    tokens = torch.randint(vocabulary, (rows, length), generator=random)
    chosen = torch.rand(rows, length, generator=random) < 0.35
    tokens = torch.where(chosen, labels.unsqueeze(1), tokens)
    counts = torch.nn.functional.one_hot(tokens, vocabulary).sum(1)
    return cut(tokens, counts.argmax(1), num_train)


def recalls(seed: int, *, length: int = 20, num_classes: int = 4, num_train: int = 600, num_val: int = 300) -> Split:
    """Which signal came first, noise after it. Inputs [N, length, num_classes], targets [N], long."""
    random = drawn(seed, "recalls")
    rows = num_train + num_val
    labels = torch.randint(num_classes, (rows,), generator=random)
    inputs = 0.3 * torch.randn(rows, length, num_classes, generator=random)
    inputs[:, 0] = 2.0 * torch.nn.functional.one_hot(labels, num_classes)
    return cut(inputs, labels, num_train)


def sums(seed: int, *, length: int = 10, num_train: int = 600, num_val: int = 300) -> Split:
    """The sum of the marked numbers. Inputs [N, length, 2] (number, mark), targets [N, 1] of spread about 1."""
    random = drawn(seed, "sums")
    rows = num_train + num_val
    numbers = torch.randn(rows, length, generator=random)
    marks = (torch.rand(rows, length, generator=random) < 0.5).float()
    law = (numbers * marks).sum(1, keepdim=True) / math.sqrt(length / 2)
    return cut(torch.stack([numbers, marks], 2), law, num_train)


def sines(seed: int, *, length: int = 16, num_train: int = 500, num_val: int = 300, noise: float = 0.05) -> Split:
    """The next value of a sine of random pitch and phase. Inputs [N, length, 1], targets [N, 1]."""
    random = drawn(seed, "sines")
    rows = num_train + num_val
    pitch = 0.3 + 0.6 * torch.rand(rows, 1, generator=random)
    phase = 2 * math.pi * torch.rand(rows, 1, generator=random)
    values = (pitch * torch.arange(length + 1) + phase).sin() + noise * torch.randn(rows, length + 1, generator=random)
    return cut(values[:, :-1].unsqueeze(2), values[:, -1:], num_train)


def mirrors(seed: int, *, length: int = 8, vocabulary: int = 6, num_train: int = 800, num_val: int = 200) -> Split:
    """The same tokens from last to first. Tokens [N, length], targets [N, length], long."""
    tokens = torch.randint(vocabulary, (num_train + num_val, length), generator=drawn(seed, "mirrors"))
    return cut(tokens, tokens.flip(1), num_train)
