"""Data and small networks from which the setups on networks, sequences, pictures and capacity are put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.clinic.case import Setup, drawn

Fix = Callable[[Setup], Setup]


@dataclass(frozen=True)
class Split:
    """Training and validation rows."""

    train: Dataset[Any]
    val: Dataset[Any]


class Records(Dataset[Any]):
    """Rows whose inputs are named columns."""

    def __init__(self, columns: dict[str, Tensor], targets: Tensor) -> None:
        self.columns, self.targets = columns, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        return {name: column[index] for name, column in self.columns.items()}, self.targets[index]


@contextmanager
def started(seed: int) -> Iterator[None]:
    """Within, weights are drawn from the seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def job(split: Split, model: nn.Module, loss: Any, optimizer: dict[str, Any], /, **more: Any) -> Setup:
    """The parts as a setup; 15 epochs of batches of 32 unless told otherwise."""
    parts = {"model": model, "train": split.train, "val": split.val, "loss": loss, "optimizer": optimizer}
    return {**parts, "batch_size": 32, "epochs": 15, "shuffle": True, **more}


def with_model(make: Callable[[], nn.Module], **more: Any) -> Fix:
    """The fix that puts another model in place, and what else goes with it."""

    def fix(setup: Setup) -> Setup:
        with started(17):
            return {**setup, "model": make(), **more}

    return fix


def with_settings(**settings: Any) -> Fix:
    """The fix that changes settings of the optimizer."""
    return lambda setup: {**setup, "optimizer": {**setup["optimizer"], **settings}}


def freshly_started(setup: Setup) -> Setup:
    """Every layer draws its weights as its class does."""
    with started(19):
        for part in setup["model"].modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
    return setup


def cut(inputs: Tensor, targets: Tensor, num_train: int) -> Split:
    """The first rows to train on, the rest to validate."""
    head, tail = slice(num_train), slice(num_train, None)
    return Split(TensorDataset(inputs[head], targets[head]), TensorDataset(inputs[tail], targets[tail]))


def flights(seed: int, num_train: int = 900, noise: float = 0.05) -> Split:
    """Thrown balls: speed, angle, height, wind, mass to range, peak, time of flight; all in standard units."""
    source = drawn(seed, "flights")
    unit = torch.rand(num_train + 400, 5, generator=source)
    speed, angle, height, wind, mass = (unit * torch.tensor([9.0, 1.2, 5.0, 2.0, 1.0]) + 0.2).unbind(1)
    rise, run = speed * angle.sin(), speed * angle.cos()
    time = (rise + (rise.square() + 19.6 * height).sqrt()) / 9.8
    targets = torch.stack([run * time - wind * time.square() / (mass + 0.5), height + rise.square() / 19.6, time], 1)
    targets = (targets - targets.mean(0)) / targets.std(0)
    return cut((unit - 0.5) * 3.46, targets + noise * torch.randn(targets.shape, generator=source), num_train)


def orders(seed: int, num_train: int = 960) -> Split:
    """Six amounts and a shop; each shop sends back orders by a rule of its own. Targets are 0.0 or 1.0, one column."""
    source = drawn(seed, "orders")
    amounts = torch.randn(num_train + 400, 6, generator=source)
    shop = torch.randint(0, 5, (num_train + 400,), generator=source)
    rules = torch.randn(5, 6, generator=source)
    targets = ((amounts * rules[shop]).sum(1, keepdim=True) > 0).float()
    parts = [{"amounts": amounts[part], "shop": shop[part]} for part in (slice(num_train), slice(num_train, None))]
    return Split(Records(parts[0], targets[:num_train]), Records(parts[1], targets[num_train:]))


def spirals(seed: int, num_train: int = 900) -> Split:
    """Three arms in the plane."""
    source = drawn(seed, "spirals")
    label = torch.randint(0, 3, (num_train + 400,), generator=source)
    radius = torch.rand(num_train + 400, generator=source).sqrt()
    turn = 4.2 * radius + label * 2.0944 + 0.12 * torch.randn(num_train + 400, generator=source)
    return cut(torch.stack([radius * turn.cos(), radius * turn.sin()], 1) * 2, label, num_train)


def panels(seed: int, num_train: int = 800) -> Split:
    """Eighteen gauges that follow three hidden quantities; to be given back as they are."""
    source = drawn(seed, "panels")
    hidden = torch.randn(num_train + 300, 3, generator=source)
    gauges = torch.tanh(hidden @ torch.randn(3, 18, generator=source)) + 0.3 * hidden @ torch.randn(3, 18, generator=source)
    gauges = gauges + 0.05 * torch.randn(gauges.shape, generator=source)
    return cut(gauges, gauges, num_train)


def topics(seed: int, num_train: int = 700, share: float = 0.35) -> Split:
    """Notes of 16 words out of 40; some of the words belong to one of four topics."""
    source = drawn(seed, "topics")
    label = torch.randint(0, 4, (num_train + 400,), generator=source)
    anything = torch.randint(0, 40, (num_train + 400, 16), generator=source)
    fitting = 4 + 9 * label[:, None] + torch.randint(0, 6, anything.shape, generator=source)
    words = torch.where(torch.rand(anything.shape, generator=source) < share, fitting, anything)
    return cut(words, label, num_train)


def waits(seed: int, num_train: int = 600) -> Split:
    """At each of 14 places, how long ago the last bell (token 0) rang, at most 5."""
    source = drawn(seed, "waits")
    tokens = torch.randint(0, 5, (num_train + 300, 14), generator=source)
    since = torch.full((len(tokens),), 5)
    targets = []
    for place in tokens.unbind(1):
        since = torch.where(place == 0, 0, (since + 1).clamp(max=5))
        targets.append(since)
    return cut(tokens, torch.stack(targets, 1), num_train)


def picks(seed: int, num_train: int = 900) -> Split:
    """Twelve tokens of 0 to 6 with one marker, 7; the class is the token behind the marker."""
    source = drawn(seed, "picks")
    tokens = torch.randint(0, 7, (num_train + 400, 12), generator=source)
    place = torch.randint(0, 11, (num_train + 400, 1), generator=source)
    return cut(tokens.scatter(1, place, 7), tokens.gather(1, place + 1).flatten(), num_train)


def crests(seed: int, num_train: int = 600, noise: float = 0.3) -> Split:
    """Signals of 40 moments, one channel: sine, square, saw or spikes of any phase."""
    source = drawn(seed, "crests")
    label = torch.randint(0, 4, (num_train + 300,), generator=source)
    speed, phase = 2.0 + 2.0 * torch.rand(2, num_train + 300, 1, generator=source)
    turns = torch.linspace(0, 1, 40) * speed + phase
    kinds = [(6.2832 * turns).sin(), (6.2832 * turns).sin().sign(), 2 * turns.frac() - 1, (6.2832 * turns).sin().pow(9) * 1.5]
    signals = torch.stack(kinds, 1)[torch.arange(len(label)), label]
    return cut((signals + noise * torch.randn(signals.shape, generator=source))[:, None], label, num_train)


def crosses(seed: int, num_train: int = 500, noise: float = 0.3) -> Split:
    """Images of 14 by 14 with one of five signs of 5 by 5 anywhere; pixels from 0 up."""
    source = drawn(seed, "crosses")
    rows = (
        "..x..x...xxxxxxxxxxxx....",
        "..x...x.x.x...xx...xx....",
        "xxxxx..x..x...xxxxxxx....",
        "..x...x.x.x...xx...xx....",
        "..x..x...xxxxxxxxxxxxxxxx",
    )
    bits = [[float(row[5 * kind : 5 * kind + 5][place] == "x") for row in rows for place in range(5)] for kind in range(5)]
    signs = torch.tensor(bits).reshape(5, 5, 5)
    label = torch.randint(0, 5, (num_train + 300,), generator=source)
    images = noise * torch.rand(num_train + 300, 1, 14, 14, generator=source)
    corners = torch.randint(0, 10, (num_train + 300, 2), generator=source).tolist()
    for image, (top, left), kind in zip(images, corners, label.tolist()):
        image[0, top : top + 5, left : left + 5] += signs[kind]
    return cut(images, label, num_train)


def dots(seed: int, num_train: int = 500) -> Split:
    """Images of 14 by 14 with one to six soft dots; how many there are, less 3.5, as a column."""
    source = drawn(seed, "dots")
    number = torch.randint(1, 7, (num_train + 300, 1), generator=source)
    centre = 1 + 12 * torch.rand(num_train + 300, 6, 2, 1, generator=source)
    bell = (-(torch.arange(14) - centre).square() / 2).exp()
    present = (torch.arange(6) < number).float()
    images = torch.einsum("nd,ndh,ndw->nhw", present, bell[:, :, 0], bell[:, :, 1])
    images = images + 0.1 * torch.randn(images.shape, generator=source)
    return cut(images[:, None], number - 3.5, num_train)


def places_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of labels at every place."""
    return nn.functional.cross_entropy(outputs.transpose(1, 2), targets)


def all_held(setup: Setup) -> Setup:
    """The optimizer holds all of the model."""
    return {**setup, "optimizer": {key: value for key, value in setup["optimizer"].items() if key != "params"}}


def unfrozen(setup: Setup) -> Setup:
    """All of the model trains."""
    setup["model"].requires_grad_(True)
    return setup


def echoes(seed: int, length: int, num_train: int = 800) -> Split:
    """A signal of faint noise whose first three moments are loud; to be answered: their sum, as a column."""
    source = drawn(seed, "echoes")
    signal = 0.3 * torch.randn(num_train + 300, length, 1, generator=source)
    signal[:, :3] = torch.randn(num_train + 300, 3, 1, generator=source)
    return cut(signal, signal[:, :3].sum(1), num_train)


def visits(seed: int) -> Split:
    """Two signals over 5 to 20 of 20 moments, with a column of lengths and one of time stamps in milliseconds."""
    source = drawn(seed, "visits")
    signal = torch.randn(800, 20, 2, generator=source)
    length = torch.randint(5, 21, (800,), generator=source)
    stamp = 1_700_000_000_000 + torch.randint(0, 10**9, (800,), generator=source)
    inside = torch.arange(20) < length[:, None]
    targets = ((signal[:, :, 0] * signal[:, :, 1]).abs() * inside).sum(1) / length
    named = {"signal": signal, "length": length, "stamp": stamp}
    halves = [{name: column[part] for name, column in named.items()} for part in (slice(550), slice(550, None))]
    return Split(Records(halves[0], targets[:550]), Records(halves[1], targets[550:]))


def columns(rows: Dataset[Any]) -> tuple[Tensor, ...]:
    """Inputs and targets of rows that are tensors."""
    return cast(TensorDataset, rows).tensors


def whole(split: Split) -> tuple[Tensor, Tensor]:
    """Inputs and targets of all rows, first those to train on."""
    inputs, targets = (torch.cat(pair) for pair in zip(columns(split.train), columns(split.val), strict=True))
    return inputs, targets
