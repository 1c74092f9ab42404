"""Data and networks shared by habits, ends and feeds: rhythms, spellings, homes, engines, loans, tides, tags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from benchmarks.clinic.case import Setup, drawn

Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
Change = Callable[[Any, Tensor], tuple[Any, Tensor]]


def rows_of(inputs: Inputs, rows: Any) -> Any:
    """The same rows of every tensor of the inputs."""
    if isinstance(inputs, Tensor):
        return inputs[rows]
    if isinstance(inputs, tuple):
        return tuple(part[rows] for part in inputs)
    return {name: part[rows] for name, part in inputs.items()}


class Rows(Dataset[tuple[Any, Tensor]]):
    """A user's own map-style data set over a tensor, a tuple or a mapping of tensors."""

    def __init__(self, inputs: Inputs, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        return rows_of(self.inputs, index), self.targets[index]


def setup_of(
    data: tuple[Inputs, Tensor],
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: dict[str, Any],
    *,
    batch_size: int = 64,
    epochs: int,
    num_train: int = 1200,
) -> Setup:
    """The keywords of a setup; the first rows train, the others validate."""
    inputs, targets = data
    return {
        "model": model,
        "train": Rows(rows_of(inputs, slice(num_train)), targets[:num_train]),
        "val": Rows(rows_of(inputs, slice(num_train, None)), targets[num_train:]),
        "loss": loss,
        "optimizer": optimizer,
        "batch_size": batch_size,
        "epochs": epochs,
        "shuffle": True,
    }


def with_rows(setup: Setup, change: Change, *, where: Literal["train", "val", "both"]) -> Setup:
    """The setup with its rows changed."""
    names = ("train", "val") if where == "both" else (where,)
    return {**setup, **{name: Rows(*change(setup[name].inputs, setup[name].targets)) for name in names}}


def job(**changes: Any) -> Callable[[Setup], Setup]:
    """A fix that replaces keywords of the setup."""
    return lambda setup: {**setup, **changes}


def optimizer(**changes: Any) -> Callable[[Setup], Setup]:
    """A fix that replaces settings of the optimizer."""
    return lambda setup: {**setup, "optimizer": {**setup["optimizer"], **changes}}


def rows(change: Change, where: Literal["train", "val", "both"] = "both") -> Callable[[Setup], Setup]:
    """A fix of the data."""
    return lambda setup: with_rows(setup, change, where=where)


@contextmanager
def weights_from(seed: int) -> Iterator[None]:
    """Modules made inside draw their weights from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 17)
        yield


def rhythms(seed: int, *, num_rows: int = 1600, noise: float = 0.6) -> tuple[Tensor, Tensor]:
    """Pulse trains [N, 1, 48] of random phase; the distance of the pulses is the class of four."""
    random = drawn(seed, "rhythms")
    labels = torch.randint(4, (num_rows,), generator=random)
    period = torch.tensor([5.0, 7.0, 10.0, 14.0])[labels][:, None]
    phase = torch.rand(num_rows, 1, generator=random) * period
    pulses = torch.exp(-(((torch.arange(48.0) + phase) % period - period / 2) ** 2) / 1.5)
    signals = 2.0 * pulses + noise * torch.randn(num_rows, 48, generator=random)
    return (signals - signals.mean(1, keepdim=True))[:, None], labels


def spellings(seed: int, *, num_rows: int = 1600) -> tuple[Tensor, Tensor]:
    """Words of 12 out of 26 letters [N, 12], frequent ones first; one of ten classes' pairs of letters stands somewhere."""
    random = drawn(seed, "spellings")
    shares = 1.0 / (torch.arange(26.0) + 2.0)
    words = torch.multinomial(shares, num_rows * 12, replacement=True, generator=random).reshape(num_rows, 12)
    labels = torch.randint(10, (num_rows,), generator=random)
    place = torch.randint(11, (num_rows,), generator=random)
    every = torch.arange(num_rows)
    words[every, place] = 12 + labels
    words[every, place + 1] = 25 - labels
    return words, labels


def homes(seed: int, *, num_rows: int = 1600, noise: float = 0.2) -> tuple[dict[str, Tensor], Tensor]:
    """Six numbers and a kind of eight; what is used [N, 1], of mean about 0 and deviation about 1."""
    random = drawn(seed, "homes")
    numbers = torch.randn(num_rows, 6, generator=random)
    kind = torch.randint(8, (num_rows,), generator=random)
    level = 0.8 * torch.randn(8, generator=random)[kind]
    used = 0.6 * numbers[:, 0] * (kind % 2) + 0.5 * numbers[:, 1].abs() - 0.4 * numbers[:, 2] + 0.4 * torch.sin(2 * numbers[:, 3])
    used = used + level + noise * torch.randn(num_rows, generator=random)
    return {"numbers": numbers, "kind": kind}, ((used - used.mean()) / used.std())[:, None]


def engines(seed: int, *, num_rows: int = 1600) -> tuple[Tensor, Tensor]:
    """Ten gauges, three standardised quantities that bend with them."""
    random = drawn(seed, "engines")
    gauges = torch.randn(num_rows, 10, generator=random)
    first, second = torch.randn(10, 12, generator=random) / 10**0.5, torch.randn(12, 3, generator=random)
    targets = torch.tanh(1.2 * gauges @ first) @ second + 0.15 * torch.randn(num_rows, 3, generator=random)
    return gauges, (targets - targets.mean(0)) / targets.std(0)


def loans(seed: int, *, num_rows: int = 1600, flipped: float = 0.0) -> tuple[Tensor, Tensor]:
    """Twelve columns and whether it was paid back [N, 1] as 0.0 or 1.0; a share of the answers is flipped."""
    random = drawn(seed, "loans")
    columns = torch.randn(num_rows, 12, generator=random)
    score = columns[:, 0] * columns[:, 1] + columns[:, 2] - 0.8 * columns[:, 3] + 0.7 * columns[:, 4].abs() - 0.5
    wrong = torch.rand(num_rows, generator=random) < flipped
    return columns, ((score > 0) ^ wrong).float()[:, None]


def tides(seed: int, *, num_rows: int = 1600) -> tuple[Tensor, Tensor]:
    """Two forces over 16 hours [N, 16, 2]; the level of each hour [N, 16] follows them with inertia."""
    random = drawn(seed, "tides")
    forces = torch.randn(num_rows, 16, 2, generator=random)
    level, levels = torch.zeros(num_rows), []
    for hour in range(16):
        push = forces[:, hour, 0] + 0.8 * forces[:, hour, 0] * torch.tanh(forces[:, hour, 1])
        level = 0.7 * level + push
        levels.append(level)
    targets = torch.stack(levels, 1) + 0.1 * torch.randn(num_rows, 16, generator=random)
    return forces, targets / targets.std()


def tags(seed: int, *, num_rows: int = 1000) -> tuple[Tensor, Tensor]:
    """Sentences of 14 out of 36 words; a word's tag [N, 14] follows from its group and from the first word's kind of three."""
    words = torch.randint(36, (num_rows, 14), generator=drawn(seed, "tags"))
    return words, (words % 6 + 2 * (words[:, :1] // 12)) % 6


def layers(*widths: int, last: bool = False, activation: Callable[[], nn.Module] = nn.GELU) -> nn.Sequential:
    """Linear layers and activations in turn; after the last layer too where `last` says so."""
    parts = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), activation())]
    return nn.Sequential(*parts) if last else nn.Sequential(*parts[:-1])


def listener(num_outputs: int = 4) -> nn.Sequential:
    """One-dimensional convolutions, group norms, a mean over time."""
    return nn.Sequential(
        *(nn.Conv1d(1, 12, 7, padding=3), nn.GroupNorm(3, 12), nn.ReLU(), nn.MaxPool1d(2)),
        *(nn.Conv1d(12, 24, 7, padding=3), nn.GroupNorm(3, 24), nn.ReLU(), nn.AdaptiveAvgPool1d(1)),
        *(nn.Flatten(), nn.Linear(24, num_outputs)),
    )


class Speller(nn.Module):
    """Letters, a recurrent reader, the largest of its states."""

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.reader = nn.Embedding(26, 16), nn.GRU(16, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, words: Tensor) -> Tensor:
        scores: Tensor = self.head(self.reader(self.letters(words))[0].amax(1))
        return scores


class Home(nn.Module):
    """Numbers next to the kind's vector, a body with a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds = nn.Embedding(8, 4)
        self.body = nn.Sequential(nn.Linear(10, 48), nn.LayerNorm(48), nn.SiLU(), nn.Linear(48, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, home: dict[str, Tensor]) -> Tensor:
        used: Tensor = self.body(torch.cat([home["numbers"], self.kinds(home["kind"])], 1))
        return used


class Follower(nn.Module):
    """A recurrent net with one number per hour [N, 16, 1], or without the last axis."""

    def __init__(self, *, flat: bool = True) -> None:
        super().__init__()
        self.states, self.head, self.flat = nn.GRU(2, 32, batch_first=True), nn.Linear(32, 1), flat

    def forward(self, forces: Tensor) -> Tensor:
        levels: Tensor = self.head(self.states(forces)[0])
        return levels.squeeze(-1) if self.flat else levels


class Tagger(nn.Module):
    """Words and places, encoder layers of attention, scores per place [N, 14, tags]; `end` follows the scores."""

    def __init__(self, num_tags: int = 6, end: nn.Module | None = None, *, num_layers: int = 1) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(36, 32), nn.Parameter(0.5 * torch.randn(14, 32))
        block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(block, num_layers, enable_nested_tensor=False)
        self.head, self.end = nn.Linear(32, num_tags), end or nn.Identity()

    def forward(self, words: Tensor) -> Tensor:
        scores: Tensor = self.end(self.head(self.body(self.words(words) + self.places)))
        return scores


def per_place(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over all places."""
    return functional.cross_entropy(scores.flatten(0, 1), labels.flatten())
