"""Data, networks and small parts that the patients of goods, scales and quiet share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.clinic.case import Setup, drawn

Bend = Callable[[Tensor], Tensor]
Fix = Callable[[Setup], Setup]


@contextmanager
def first_weights(seed: int) -> Iterator[None]:
    """Within it, layers draw their weights from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(31 * seed + 505)
        yield


def job(data: tuple[Any, Any], model: nn.Module, loss: Any, *, epochs: int, lr: float = 0.003, **others: Any) -> Setup:
    """A setup of training and validation data, with Adam unless another optimizer is named."""
    setup = {"train": data[0], "val": data[1], "model": model, "loss": loss, "optimizer": {"name": "adam", "lr": lr}}
    return {**setup, "batch_size": 64, "epochs": epochs, "shuffle": True, **others}


def changed(**parts: Any) -> Fix:
    """The fix that puts other parts in the setup's place."""
    return lambda setup: {**setup, **parts}


def cut(inputs: Tensor, targets: Tensor, num_train: int) -> tuple[TensorDataset, TensorDataset]:
    """The first rows to train on, the others to validate on."""
    return TensorDataset(inputs[:num_train], targets[:num_train]), TensorDataset(inputs[num_train:], targets[num_train:])


class Rows(Dataset[tuple[dict[str, Tensor], Tensor]]):
    """Rows of several named columns, as a user's own class gives them."""

    def __init__(self, columns: Mapping[str, Tensor], targets: Tensor) -> None:
        self.columns, self.targets = dict(columns), targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        return {name: column[index] for name, column in self.columns.items()}, self.targets[index]


def rows_cut(columns: Mapping[str, Tensor], targets: Tensor, num_train: int) -> tuple[Rows, Rows]:
    """The same cut for named columns."""
    early, late = ({name: column[part] for name, column in columns.items()} for part in _parts(num_train))
    return Rows(early, targets[:num_train]), Rows(late, targets[num_train:])


def _parts(num_train: int) -> tuple[slice, slice]:
    return slice(None, num_train), slice(num_train, None)


def parcels(seed: int, num: int = 1_300) -> tuple[Tensor, Tensor]:
    """Eight measures of a parcel [num, 8]; its cost, delay and wear [num, 3], about standard, noise 0.1."""
    generator = drawn(seed, "parcels")
    x = torch.randn(num, 8, generator=generator)
    cost = 0.9 * x[:, 0] + 0.6 * x[:, 1] * x[:, 2]
    delay = x[:, 3].abs() - 0.8 - 0.7 * x[:, 4]
    wear = torch.sin(2 * x[:, 5]) + 0.6 * x[:, 6]
    y = torch.stack([cost, delay, wear], dim=1)
    return x, y + 0.1 * torch.randn(y.shape, generator=generator)


def lamps(seed: int, num: int = 900) -> tuple[Tensor, Tensor]:
    """A lit spot in a noisy picture [num, 1, 12, 12]; its row and column [num, 2], from -1 to 1."""
    generator = drawn(seed, "lamps")
    at = 2 * torch.rand(num, 2, generator=generator) - 1
    grid = torch.linspace(-1, 1, 12)
    far = (grid[None, :, None] - at[:, 0, None, None]) ** 2 + (grid[None, None, :] - at[:, 1, None, None]) ** 2
    pictures = torch.exp(-far / 0.08) + 0.15 * torch.randn(num, 12, 12, generator=generator)
    return pictures.unsqueeze(1), at


def fields(seed: int, num: int = 500, *, noise: float = 0.5) -> tuple[Tensor, Tensor]:
    """A field from above [num, 1, 12, 12] and the kind of each place [num, 12, 12]: soil 0, a pond 1, a striped crop 2."""
    generator = drawn(seed, "fields")
    kinds = torch.zeros(num, 12, 12, dtype=torch.long)
    for row in range(num):
        for kind in (1, 2):
            top, left = torch.randint(0, 7, (2,), generator=generator).tolist()
            high, wide = torch.randint(3, 6, (2,), generator=generator).tolist()
            kinds[row, top : top + high, left : left + wide] = kind
    stripes = (torch.arange(12) % 2 * 2 - 1).expand(12, 12)
    pictures = (kinds == 1).float() + (kinds == 2).float() * stripes + noise * torch.randn(num, 12, 12, generator=generator)
    return pictures.unsqueeze(1), kinds


def notes(seed: int, num: int = 1_300, length: int = 16) -> tuple[Tensor, Tensor]:
    """Short texts [num, length], 0 after their end: praise 2 to 9, blame 10 to 17, other words to 49; the mood 0, 1, 2 [num]."""
    generator = drawn(seed, "notes")
    words = torch.randint(2, 50, (num, length), generator=generator)
    lengths = torch.randint(8, length + 1, (num,), generator=generator)
    words[torch.arange(length)[None] >= lengths[:, None]] = 0
    balance = ((words >= 2) & (words < 10)).sum(1) - ((words >= 10) & (words < 18)).sum(1)
    return words, (balance > -1).long() + (balance > 0).long()


def speech(seed: int, num: int = 900, length: int = 12) -> tuple[Tensor, Tensor]:
    """Words [num, length] of 24 and their tags of 16: by the word's own family and the family of the word before."""
    generator = drawn(seed, "speech")
    words = torch.randint(1, 25, (num, length), generator=generator)
    before = torch.cat([torch.zeros(num, 1, dtype=torch.long), words[:, :-1]], dim=1)
    return words, words % 4 * 4 + before % 4


def tones(seed: int, num: int = 1_200, *, step: float = 1.0, noise: float = 0.3) -> tuple[Tensor, Tensor]:
    """Signals [num, 1, 48] of five makes [num]: two sines, a square, a saw, a rising sine. `step`: time between two samples."""
    generator = drawn(seed, f"tones {step}")
    kind = torch.randint(0, 5, (num,), generator=generator)
    phase = torch.rand(num, 1, generator=generator)
    pace = 0.9 + 0.2 * torch.rand(num, 1, generator=generator)
    time = step * torch.arange(48) / 48 * pace
    cycles = [3 * time + phase, 6 * time + phase, 3 * time + phase, 3 * time + phase, (2 * time + 4 * time**2) + phase]
    shapes = [torch.sin(2 * math.pi * turn) for turn in cycles]
    shapes[2] = shapes[2].sign()
    shapes[3] = 2 * (cycles[3] % 1) - 1
    signals = torch.stack(shapes)[kind, torch.arange(num)]
    return (signals + noise * torch.randn(num, 48, generator=generator)).unsqueeze(1), kind


def rooms(seed: int, num: int = 700, hours: int = 24) -> tuple[Tensor, Tensor]:
    """Sun, wind and stove by the hour [num, hours, 3]; the warmth of the room at each hour [num, hours]."""
    generator = drawn(seed, "rooms")
    x = torch.randn(num, hours, 3, generator=generator)
    push = 0.7 * x[..., 0] - 0.5 * x[..., 1].abs() + 0.4 * (x[..., 2] > 0.5).float() + 0.2
    warmth, state = [], torch.zeros(num)
    for hour in range(hours):
        state = 0.8 * state + push[:, hour]
        warmth.append(state)
    return x, torch.stack(warmth, dim=1) + 0.1 * torch.randn(num, hours, generator=generator)


def baskets(seed: int, num: int = 1_300) -> tuple[dict[str, Tensor], Tensor]:
    """Shop and day [num, 2] and five standard measures [num, 5] of a purchase; what it brings [num], noise 0.2."""
    generator = drawn(seed, "baskets")
    codes = torch.stack([torch.randint(0, 12, (num,), generator=generator), torch.randint(0, 7, (num,), generator=generator)], 1)
    numbers = torch.randn(num, 5, generator=generator)
    shops, days = torch.randn(12, generator=generator), 0.5 * torch.randn(7, generator=generator)
    brings = shops[codes[:, 0]] + days[codes[:, 1]] + numbers[:, 0] * numbers[:, 1] - 0.8 * numbers[:, 2]
    return {"codes": codes, "numbers": numbers}, brings + 0.2 * torch.randn(num, generator=generator)


def dense(num_inputs: int, num_outputs: int, width: int = 48) -> nn.Sequential:
    """A network for tables, with a norm after its first layer."""
    first = [nn.Linear(num_inputs, width), nn.LayerNorm(width), nn.GELU()]
    return nn.Sequential(*first, nn.Linear(width, width), nn.GELU(), nn.Linear(width, num_outputs))


def ear(num_outputs: int, *, norm: bool = True) -> nn.Sequential:
    """Two convolutions over time and the mean of their channels."""
    norms = [nn.GroupNorm(4, 16), nn.GroupNorm(4, 32)] if norm else [nn.Identity(), nn.Identity()]
    first = [nn.Conv1d(1, 16, 5, padding=2), norms[0], nn.ReLU(), nn.MaxPool1d(2)]
    second = [nn.Conv1d(16, 32, 5, padding=2), norms[1], nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()]
    return nn.Sequential(*first, *second, nn.Linear(32, num_outputs))


def eye(num_outputs: int) -> nn.Sequential:
    """Two convolutions over a picture of 12 by 12, places kept apart."""
    first = [nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*first, *second, nn.Linear(216, num_outputs))


class Mapper(nn.Module):
    """A score for each kind at each place of a picture: [rows, 1, H, W] to [rows, H, W, kinds]."""

    def __init__(self, num_kinds: int, last: Bend | None = None) -> None:
        super().__init__()
        first = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.SiLU()]
        self.body = nn.Sequential(*first, nn.Conv2d(16, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, num_kinds, 1))
        self.last = last

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.body(pictures)
        scores = scores if self.last is None else self.last(scores)
        return scores.permute(0, 2, 3, 1)


class Reader(nn.Module):
    """A recurrent reader of texts; attends to its own states, then judges."""

    def __init__(self, num_words: int, num_outputs: int, *, width: int = 24) -> None:
        super().__init__()
        self.words = nn.Embedding(num_words, width, padding_idx=0)
        self.states = nn.GRU(width, width, batch_first=True)
        self.worth = nn.Linear(width, 1)
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(width, num_outputs))

    def forward(self, words: Tensor) -> Tensor:
        states, _ = self.states(self.words(words))
        judged: Tensor = self.head((torch.softmax(self.worth(states), dim=1) * states).sum(1))
        return judged


class Steps(nn.Module):
    """An answer at each step of a sequence of words (num_words > 0) or of numbers: [rows, steps, answers]."""

    def __init__(self, num_inputs: int, num_outputs: int, *, num_words: int = 0, last: Bend | None = None) -> None:
        super().__init__()
        self.entry: nn.Module = nn.Embedding(num_words, num_inputs) if num_words else nn.Identity()
        self.states = nn.GRU(num_inputs, 32, batch_first=True)
        self.head = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, num_outputs))
        self.last = last

    def forward(self, sequence: Tensor) -> Tensor:
        states, _ = self.states(self.entry(sequence))
        answers: Tensor = self.head(states)
        return answers if self.last is None else self.last(answers)


class Till(nn.Module):
    """Reads the codes and the numbers of a purchase; one number [rows]."""

    def __init__(self, bend: type[nn.Module] = nn.Tanh, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.shop, self.day = nn.Embedding(12, 4), nn.Embedding(7, 3)
        self.norm = norm
        self.body = nn.Sequential(nn.Linear(12, 48), bend(), nn.Linear(48, 48), bend(), nn.Linear(48, 1))

    def forward(self, row: dict[str, Tensor]) -> Tensor:
        numbers = row["numbers"] if self.norm is None else self.norm(row["numbers"])
        shop, day = row["codes"].unbind(1)
        brings: Tensor = self.body(torch.cat([self.shop(shop), self.day(day), numbers], dim=1))
        return brings.squeeze(1)
