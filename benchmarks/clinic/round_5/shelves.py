"""Setups of the patients in goods: what became of the data on their way to the loop."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.clinic.case import Setup, drawn
from benchmarks.clinic.round_5 import stores
from benchmarks.clinic.round_5.stores import cut, first_weights, job


def masks_of_bytes(seed: int) -> Setup:
    pictures, kinds = stores.fields(seed)
    with first_weights(seed):
        model = stores.Mapper(1)
    data = cut(pictures, 255.0 * (kinds == 1).unsqueeze(3), 400)
    return job(data, model, nn.BCEWithLogitsLoss(), epochs=10, batch_size=32, lr=0.005)


def masks_of_ones(setup: Setup) -> Setup:
    train, val = (TensorDataset(data.tensors[0], data.tensors[1] / 255) for data in (setup["train"], setup["val"]))
    return {**setup, "train": train, "val": val}


class Standardised(Dataset[tuple[Tensor, Tensor]]):
    """Each signal less its own mean, by its own spread."""

    def __init__(self, signals: Tensor, kinds: Tensor, *, floor: float = 0.0) -> None:
        self.signals, self.kinds, self.floor = signals, kinds, floor

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        signal = self.signals[index]
        return (signal - signal.mean()) / (signal.std() + self.floor), self.kinds[index]


def flat_tones(seed: int) -> Setup:
    signals, kinds = stores.tones(seed)
    signals[torch.randperm(900, generator=drawn(seed, "flat"))[:6]] = 0.75
    with first_weights(seed):
        model = stores.ear(5)
    data = Standardised(signals[:900], kinds[:900]), Standardised(signals[900:], kinds[900:])
    return job(data, model, nn.CrossEntropyLoss(), epochs=10, lr=0.01)


def floored(setup: Setup) -> Setup:
    train = Standardised(setup["train"].signals, setup["train"].kinds, floor=1e-6)
    return {**setup, "train": train}


def _baskets(columns: dict[str, Tensor], brings: Tensor, model: nn.Module, *, epochs: int = 20, **others: Any) -> Setup:
    return job(stores.rows_cut(columns, brings, 1_000), model, nn.MSELoss(), epochs=epochs, **{"lr": 0.005, **others})


def per_piece(seed: int) -> Setup:
    columns, brings = stores.baskets(seed)
    pieces = torch.randint(0, 60, brings.shape, generator=drawn(seed, "pieces"))
    columns["numbers"][:, 4] = 20 * columns["numbers"][:, 4].abs() / pieces
    with first_weights(seed):
        model = stores.Till(nn.SiLU)
    return _baskets(columns, brings, model)


def finite(setup: Setup) -> Setup:
    for data in (setup["train"], setup["val"]):
        data.columns["numbers"] = data.columns["numbers"].nan_to_num(posinf=0.0)
    return setup


def in_cents(seed: int) -> Setup:
    columns, brings = stores.baskets(seed)
    columns["numbers"] = 60 + 25 * columns["numbers"]
    with first_weights(seed):
        model = stores.Till(nn.Tanh)
    return _baskets(columns, brings, model)


def standard_numbers(setup: Setup) -> Setup:
    numbers = setup["train"].columns["numbers"]
    centre, spread = numbers.mean(0), numbers.std(0)
    for data in (setup["train"], setup["val"]):
        data.columns["numbers"] = (data.columns["numbers"] - centre) / spread
    return setup


def cheap_to_dear(seed: int) -> Setup:
    columns, brings = stores.baskets(seed)
    order = torch.cat([brings[:1_000].argsort(), torch.arange(1_000, len(brings))])
    with first_weights(seed):
        model = stores.Till(nn.SiLU)
    sorted_columns = {name: column[order] for name, column in columns.items()}
    return _baskets(sorted_columns, brings[order], model, epochs=12, lr=0.02, shuffle=False)


def _read(seed: int, words: Tensor, moods: Tensor, model: nn.Module | None = None) -> Setup:
    with first_weights(seed):
        model = stores.Reader(50, 3) if model is None else model
    return job(cut(words, moods, 1_000), model, nn.CrossEntropyLoss(), epochs=12, lr=0.005)


def padding_kept(seed: int, *, kept: slice = slice(0, 20)) -> Setup:
    words, moods = stores.notes(seed)
    padded = torch.zeros(len(words), 40, dtype=torch.long)
    for row, length in enumerate((words > 0).sum(1).tolist()):
        padded[row, 40 - length :] = words[row, :length]
    return _read(seed, padded[:, kept], moods)


def bucketed(seed: int, *, both: bool = False) -> Setup:
    words, moods = stores.notes(seed)
    order = (words[:1_000] > 0).sum(1).argsort(stable=True)
    words[:1_000] = words[:1_000][order]
    moods[:1_000] = moods[:1_000][order] if both else moods[:1_000]
    return _read(seed, words, moods)


class FarReader(stores.Reader):
    """A reader that adds an offset for each pair of places, from a table for the longest text there could be."""

    most = 2**20

    def forward(self, words: Tensor) -> Tensor:
        length = words.shape[1]
        offsets = torch.zeros(self.most, self.most, 24)
        states, _ = self.states(self.words(words) + offsets[:length, :length].mean(0))
        judged: Tensor = self.head((torch.softmax(self.worth(states), dim=1) * states).sum(1))
        return judged


def million_places(seed: int) -> Setup:
    with first_weights(seed):
        model = FarReader(50, 3)
    return _read(seed, *stores.notes(seed), model)


def as_many(setup: Setup) -> Setup:
    setup["model"].most = 16
    return setup


def _listen(seed: int, data: tuple[Any, Any], num_outputs: int = 5, *, loss: Any = None, epochs: int = 10) -> Setup:
    with first_weights(seed):
        model = stores.ear(num_outputs)
    return job(data, model, nn.CrossEntropyLoss() if loss is None else loss, epochs=epochs, lr=0.01)


def alarms(seed: int, *, ending: str = "\n") -> Setup:
    signals, kinds = stores.tones(seed)
    words = ["yes" + ending if kind in (2, 4) else "no" + ending for kind in kinds.tolist()]
    alarms = torch.tensor([word == "yes" for word in words])
    loss: Any = lambda o, t: F.binary_cross_entropy_with_logits(o.squeeze(1), t.float())  # noqa: E731
    return _listen(seed, cut(signals, alarms, 900), 1, loss=loss)


def weights(*values: float) -> Tensor:
    """Weights of the kinds in a loss."""
    return torch.tensor(values)


_RARE = {0: 0, 2: 1, 3: 2}


def rare_makes(seed: int) -> Setup:
    signals, kinds = stores.tones(seed, 12_000, noise=0.8)
    places = [(kinds == kind).nonzero().squeeze(1) for kind in _RARE]
    mixed = [(places[0][:1_080], 800), (places[1][:120], 50), (places[2][:120], 50)]
    train, val = torch.cat([rows[:num] for rows, num in mixed]), torch.cat([rows[num:] for rows, num in mixed])
    order = torch.cat([train, val])
    labels = torch.tensor([_RARE[kind] for kind in kinds[order].tolist()])
    return _listen(seed, cut(signals[order], labels, len(train)), 3, epochs=15)


def jittered(seed: int, *, cut_first: bool = False) -> Setup:
    generator = drawn(seed, "jitter")
    signals, kinds = stores.tones(seed, 240)
    wrong = torch.rand(240, generator=generator) < 0.4
    kinds = torch.where(wrong, torch.randint(0, 5, (240,), generator=generator), kinds)
    copies = torch.arange(240).repeat_interleave(6)
    order = torch.arange(1_440) if cut_first else torch.randperm(1_440, generator=generator)
    noisy = signals[copies] + 0.02 * torch.randn(1_440, 1, 48, generator=generator)
    return _listen(seed, cut(noisy[order], kinds[copies][order], 1_200), epochs=40)


def folders(seed: int, *, shared: bool = False) -> Setup:
    signals, kinds = stores.tones(seed)
    train, (heard, makes) = TensorDataset(signals[:900], kinds[:900]), (signals[900:], kinds[900:])
    present = makes != 1
    return _listen(seed, (train, TensorDataset(heard[present], makes[present] - (makes[present] > 1).long() * (not shared))))


def other_rate(seed: int, *, step: float = 2.0) -> Setup:
    signals, kinds = stores.tones(seed)
    return _listen(seed, (TensorDataset(signals[:900], kinds[:900]), TensorDataset(*stores.tones(seed + 50, 300, step=step))))


def assays(seed: int) -> Setup:
    x, y = stores.parcels(seed)
    with first_weights(seed):
        model = stores.dense(8, 1)
    return job(cut(x, 4e-4 + 2e-4 * y[:, :1], 1_000), model, nn.MSELoss(), epochs=25, lr=0.005)


def standard_targets(setup: Setup) -> Setup:
    train, val = (data.tensors for data in (setup["train"], setup["val"]))
    centre, spread = train[1].mean(0), train[1].std(0)
    x, y = torch.cat([train[0], val[0]]), torch.cat([train[1], val[1]])
    data = cut(x, (y - centre) / spread, len(train[0]))
    return {**setup, "train": data[0], "val": data[1]}
