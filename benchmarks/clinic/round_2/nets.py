"""Nets of the patients of layers, fits and well."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.clinic.round_2.builds import stack


class Differences(nn.Module):
    """What changes between readings, of which a head makes a pace."""

    def __init__(self) -> None:
        super().__init__()
        self.axis = 0
        self.head = stack(30, 32, 1)

    def forward(self, readings: Tensor) -> Tensor:
        first = readings.narrow(self.axis, 0, 1)
        changes: Tensor = self.head(4.0 * torch.diff(readings, dim=self.axis, prepend=first))
        return changes


class Writer(nn.Module):
    """Next words by a causal GRU whose head is the table of words."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.words = nn.Embedding(24, 48)
        nn.init.normal_(self.words.weight, std=std)
        self.reader = nn.GRU(48, 48, batch_first=True)
        self.norm = nn.LayerNorm(48)

    def forward(self, text: Tensor) -> Tensor:
        states, _ = self.reader(self.words(text))
        return functional.linear(self.norm(states), self.words.weight)


class Gates(nn.Module):
    """Gated linear units one behind the other; with `around`, each adds to what it got."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.enter, self.leave, self.around = nn.Linear(6, 24), nn.Linear(24, 4), False
        self.layers = nn.ModuleList(nn.Linear(24, 48) for _ in range(depth))
        self.norms = nn.ModuleList(nn.Identity() for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for layer, norm in zip(self.layers, self.norms):
            x = x + functional.glu(layer(norm(x))) if self.around else functional.glu(layer(x))
        scores: Tensor = self.leave(x)
        return scores


class Messages(nn.Module):
    """Four rounds in which each atom hears its neighbours: their sum, or their mean."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.enter, self.leave = how, nn.Linear(3, 32), nn.Linear(32, 1)
        self.rounds = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))

    def forward(self, graph: tuple[Tensor, Tensor]) -> Tensor:
        atoms, bonds = graph
        share = bonds / bonds.sum(2, keepdim=True) if self.how == "mean" else bonds
        x = functional.relu(self.enter(atoms))
        for layer in self.rounds:
            x = functional.relu(layer(share @ x)) + x
        answer: Tensor = self.leave(x.mean(1))
        return answer


class Prototypes(nn.Module):
    """Scores from how near a row is to forty places."""

    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(2 * torch.randn(40, 6))
        self.act, self.head = nn.ReLU(), nn.Linear(40, 4)

    def forward(self, x: Tensor) -> Tensor:
        near = -torch.cdist(x, self.centres).square() / 6
        scores: Tensor = self.head(self.act(near))
        return scores


class Bell(nn.Module):
    """One at nought, nothing far below."""

    def forward(self, near: Tensor) -> Tensor:
        return near.exp()


class Ear(nn.Module):
    """Filters, their power, pooled over time, a bent head."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Sequential(nn.Conv1d(2, 16, 7, padding=3), nn.BatchNorm1d(16), nn.GELU())
        self.pool = "sum"
        self.head = nn.Sequential(nn.Tanh(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        found = self.filters(x).square()
        scores: Tensor = self.head(found.mean(2) if self.pool == "mean" else found.sum(2))
        return scores


class Unassigned(nn.Module):
    """Three linear layers; what their activation gives is kept only on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 40), nn.Linear(40, 40)])
        self.act = nn.GELU()
        self.head = nn.Linear(40, 1)
        self.assigned = False

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
            bent = self.act(x)
            x = bent if self.assigned else x
        height: Tensor = self.head(x)
        return height


def mixture(model: Any, x: Tensor) -> Tensor:
    """Outputs of all experts, weighed by the gate."""
    shares = model.gate(x).softmax(1)
    answers = torch.cat([expert(x) for expert in model.experts], 1)
    return torch.sum(shares * answers, 1, keepdim=True)


class Factors(nn.Module):
    """A mark from a reader's tastes and a book's, and a level of each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.readers, self.books = nn.Embedding(40, width), nn.Embedding(40, width)
        self.levels = nn.ModuleList([nn.Embedding(40, 1), nn.Embedding(40, 1)])
        for table in (self.readers, self.books, *self.levels):
            nn.init.normal_(next(table.parameters()), std=0.5)

    def forward(self, pairs: Tensor) -> Tensor:
        who, what = pairs.unbind(1)
        mark: Tensor = (self.readers(who) * self.books(what)).sum(1)
        mark = mark + self.levels[0](who).squeeze(1) + self.levels[1](what).squeeze(1)
        return mark


def summed_columns(model: Any, x: Tensor) -> Tensor:
    """The sum of a curve per column."""
    return torch.stack([curve(column) for curve, column in zip(model.curves, torch.chunk(x, 4, 1))]).sum(0)


class Customers(nn.Module):
    """A loan's score from four quantities and from a vector per customer."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers, self.head = nn.Embedding(600, 48), stack(52, 32, 1)

    def forward(self, loan: dict[str, Tensor]) -> Tensor:
        score: Tensor = self.head(torch.cat([self.numbers(loan["customer"]), loan["quantities"]], 1))
        return score.squeeze(1)


def tag(model: Any, marks: Tensor) -> Tensor:
    """Scores at each place."""
    scores: Tensor = model.head(model.reader(model.words(marks))[0])
    return scores


def bag(model: Any, words: Tensor) -> Tensor:
    """Scores from the sum of words."""
    scores: Tensor = model.head(model.words(words).mean(1))
    return scores


class Demand(nn.Module):
    """A positive quantity."""

    def __init__(self, link: str) -> None:
        super().__init__()
        self.link, self.body = link, stack(5, 32, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        score: Tensor = self.body(x)
        return score.exp() if self.link == "exp" else functional.softplus(score)


class Block:
    """Layers held by a plain object."""

    def __init__(self) -> None:
        self.filters = nn.Conv1d(2, 12, 7, padding=3)
        self.mix = nn.Linear(12, 3)

    def __call__(self, x: Tensor) -> Tensor:
        scores: Tensor = self.mix(self.filters(x).relu().amax(2))
        return scores


class Listener(nn.Module):
    """A norm, then a block that isn't a module, then a shift and a stretch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.block, self.last = nn.BatchNorm1d(2), Block(), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.block(self.norm(x)))
        return scores


class Peaks(nn.Module):
    """The highest answer of each filter in each row, and what a head makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.filters, self.head, self.listed = nn.Conv1d(2, 6, 7, padding=3), stack(6, 16, 3), True

    def forward(self, x: Tensor) -> Tensor:
        heights = self.filters(x).amax(2)
        heights = torch.tensor([[float(height) for height in row] for row in heights]) if self.listed else heights
        scores: Tensor = self.head(heights)
        return scores


class Normed(nn.Module):
    """Convolutions over a norm that is called as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("var", torch.ones(1))
        self.says_training = False
        filters = (nn.Conv2d(1, 8, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten())
        self.body = nn.Sequential(*filters, nn.Linear(128, 32), nn.Tanh(), nn.Linear(32, 2))

    def forward(self, x: Tensor) -> Tensor:
        live = self.training and self.says_training
        answer: Tensor = self.body(functional.batch_norm(x, self.get_buffer("mean"), self.get_buffer("var"), training=live))
        return answer
