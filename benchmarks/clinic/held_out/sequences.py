"""Sequences for the held-out patients: tokens [rows, length] or series [rows, length, columns]."""

from __future__ import annotations

import math

import torch

from benchmarks.clinic.case import drawn
from benchmarks.clinic.held_out.kit import Rows


def first_word(seed: int, *, rows: int = 1000, length: int = 10, words: int = 4) -> Rows:
    """The class is the token that stood first."""
    tokens = torch.randint(words, (rows, length), generator=drawn(seed, "held_out.first"))
    return tokens, tokens[:, 0].clone()


def ballots(seed: int, *, rows: int = 1200, length: int = 15, parties: int = 5) -> Rows:
    """The class is the token that was drawn with the highest weight: most often the most common one."""
    source = drawn(seed, "held_out.ballots")
    labels = torch.randint(parties, (rows,), generator=source)
    tokens = torch.randint(parties, (rows, length), generator=source)
    loyal = torch.rand(rows, length, generator=source) < 0.45
    return torch.where(loyal, labels[:, None], tokens), labels


def motif(seed: int, *, rows: int = 1400, length: int = 12, words: int = 6) -> Rows:
    """Whether token 1 comes right before token 2 anywhere."""
    source = drawn(seed, "held_out.motif")
    tokens = torch.randint(words, (rows, length), generator=source)
    place = torch.randint(length - 1, (rows,), generator=source)
    planted = torch.rand(rows, generator=source) < 0.4
    every = torch.arange(rows)
    tokens[every[planted], place[planted]] = 1
    tokens[every[planted], place[planted] + 1] = 2
    return tokens, ((tokens[:, :-1] == 1) & (tokens[:, 1:] == 2)).any(1).long()


def which_first(seed: int, *, rows: int = 1200, length: int = 14, words: int = 8) -> Rows:
    """Whether the one token 0 stands before the one token 1."""
    source = drawn(seed, "held_out.which")
    tokens = torch.randint(2, words, (rows, length), generator=source)
    places = torch.rand(rows, length, generator=source).argsort(1)[:, :2]
    tokens.scatter_(1, places, torch.tensor([[0, 1]]).expand(rows, 2))
    return tokens, (places[:, 0] < places[:, 1]).long()


def reversal(seed: int, *, rows: int = 1500, length: int = 7, words: int = 6) -> Rows:
    """The targets are the same tokens from back to front, [rows, length]."""
    tokens = torch.randint(words, (rows, length), generator=drawn(seed, "held_out.reversal"))
    return tokens, tokens.flip(1)


def waves(seed: int, *, rows: int = 900, length: int = 20, noise: float = 0.05) -> Rows:
    """A wave of some frequency and phase, [rows, length, 1]; the target is the next value, [rows, 1]."""
    source = drawn(seed, "held_out.waves")
    speed = 0.3 + 0.5 * torch.rand(rows, 1, generator=source)
    phase = 2 * math.pi * torch.rand(rows, 1, generator=source)
    series = (speed * torch.arange(length + 1) + phase).sin() * 1.4
    series = series + noise * torch.randn(rows, length + 1, generator=source)
    return series[:, :-1, None], series[:, -1:]


def wave_kinds(seed: int, *, rows: int = 900, length: int = 24) -> Rows:
    """A sine, a square wave, a saw or a walk: four classes, [rows, length, 1]."""
    source = drawn(seed, "held_out.kinds")
    labels = torch.randint(4, (rows,), generator=source)
    turn = torch.arange(length) * (0.06 + 0.06 * torch.rand(rows, 1, generator=source)) + torch.rand(rows, 1, generator=source)
    sine = (2 * math.pi * turn).sin() * 1.4
    walk = torch.randn(rows, length, generator=source).cumsum(1) / math.sqrt(length) * 1.4
    kinds = torch.stack([sine, sine.sign(), (turn % 1) * 3.4 - 1.7, walk], 1)
    series = kinds[torch.arange(rows), labels] + 0.2 * torch.randn(rows, length, generator=source)
    return series[:, :, None], labels


def adding(seed: int, *, rows: int = 1500, length: int = 12) -> Rows:
    """Values and marks, [rows, length, 2]; the target is the sum of the two marked values, standardised."""
    source = drawn(seed, "held_out.adding")
    values = torch.rand(rows, length, generator=source) * 2 - 1
    marks = torch.zeros(rows, length)
    marks.scatter_(1, torch.rand(rows, length, generator=source).argsort(1)[:, :2], 1.0)
    return torch.stack([values, marks], 2), (values * marks).sum(1, keepdim=True) / 0.8
