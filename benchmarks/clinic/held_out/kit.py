"""What the held-out patients share: seeds, splits, and small changes that mend a setup."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Setup, drawn

Fix = Callable[[Setup], Setup]
Loss = Callable[[Tensor, Tensor], Tensor]
Rows = tuple[Tensor, Tensor]
Pair = tuple[TensorDataset, TensorDataset]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generator set for a while, for weights that a user would draw from it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def parted(rows: Rows, num_train: int) -> Pair:
    """The first rows to train on, the others to validate on."""
    inputs, targets = rows
    return TensorDataset(inputs[:num_train], targets[:num_train]), TensorDataset(inputs[num_train:], targets[num_train:])


def made(
    seed: int,
    model: Callable[[], nn.Module],
    data: Pair,
    loss: Loss,
    optimizer: Mapping[str, Any],
    *,
    held: Callable[[Any], Iterable[Tensor]] | None = None,
    batch_size: int = 64,
    epochs: int = 10,
    shuffle: bool = True,
) -> Setup:
    """A setup whose weights are drawn from the seed; `held` gives the tensors that the optimizer has, if not all."""
    with seeded(7 * seed + 3):
        built = model()
    settings = dict(optimizer)
    if held is not None:
        settings["params"] = list(held(built))
    return {
        "model": built,
        "train": data[0],
        "val": data[1],
        "loss": loss,
        "optimizer": settings,
        "batch_size": batch_size,
        "epochs": epochs,
        "shuffle": shuffle,
    }


def swapped(**changes: Any) -> Fix:
    """A fix that replaces keywords of the setup: loss, epochs, batch_size, shuffle."""
    return lambda setup: {**setup, **changes}


def tuned(**changes: Any) -> Fix:
    """A fix that replaces settings of the optimizer."""
    return lambda setup: {**setup, "optimizer": {**setup["optimizer"], **changes}}


def all_held(setup: Setup) -> Setup:
    """A fix: the optimizer holds every parameter."""
    return {**setup, "optimizer": {name: value for name, value in setup["optimizer"].items() if name != "params"}}


def mended(change: Callable[[Any], None]) -> Fix:
    """A fix that changes a copy of the model in place; the optimizer then holds all of it."""

    def fix(setup: Setup) -> Setup:
        model = copy.deepcopy(setup["model"])
        with seeded(fingerprint(model)):
            change(model)
        return all_held({**setup, "model": model})

    return fix


def wrapped(wrap: Callable[[nn.Module], nn.Module]) -> Fix:
    """A fix that puts another module around a copy of the model."""
    return lambda setup: all_held({**setup, "model": wrap(copy.deepcopy(setup["model"]))})


def rebuilt(build: Callable[[], nn.Module]) -> Fix:
    """A fix that puts a new model in place; its weights follow from those of the old one."""

    def fix(setup: Setup) -> Setup:
        with seeded(fingerprint(setup["model"])):
            return all_held({**setup, "model": build()})

    return fix


def fingerprint(model: nn.Module) -> int:
    """A number that follows from the weights."""
    total = sum((float(value.detach().double().abs().sum()) for value in model.state_dict().values()), 0.0)
    return int(total * 1e6) % 2**31 if total == total and total < 1e12 else 11


def in_turn(*fixes: Fix) -> Fix:
    """Fixes applied one after the other."""

    def fix(setup: Setup) -> Setup:
        for each in fixes:
            setup = each(setup)
        return setup

    return fix


def changed_rows(change: Callable[[Tensor, Tensor], Rows], *, parts: Sequence[str] = ("train", "val")) -> Fix:
    """A fix that changes the rows of one part or of both, each by itself."""

    def fix(setup: Setup) -> Setup:
        return {**setup, **{part: TensorDataset(*change(*setup[part].tensors)) for part in parts}}

    return fix


class Before(nn.Module):
    """A model and what is done to its inputs first."""

    def __init__(self, net: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.change(x))


def inputs_through(change: Callable[[Tensor], Tensor]) -> Fix:
    """A fix: inputs of both parts pass through a function on their way into the model; the data stay as they are."""
    return wrapped(lambda net: Before(net, change))


def standardised(setup: Setup) -> Setup:
    """A fix: inputs get mean 0 and deviation 1 by the statistics of the training rows, on their way into the model."""
    inputs = setup["train"].tensors[0]
    mean, deviation = inputs.mean(0, keepdim=True), inputs.std(0, keepdim=True).clamp(min=1e-6)
    return inputs_through(lambda x: (x - mean) / deviation)(setup)


class Rescaled(nn.Module):
    """A model whose outputs are brought to the scale of the targets."""

    def __init__(self, net: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * self.deviation + self.mean


def targets_scaled(setup: Setup) -> Setup:
    """A fix: the net learns standardised targets, and its outputs come back in the units of the data."""
    targets = setup["train"].tensors[1]
    mean, deviation, loss = targets.mean(), targets.std(), setup["loss"]

    def scaled(outputs: Tensor, truth: Tensor) -> Tensor:
        return loss((outputs - mean) / deviation, (truth - mean) / deviation)

    return wrapped(lambda net: Rescaled(net, mean, deviation))({**setup, "loss": scaled})


def shuffled_rows(rows: Rows, seed: int) -> Rows:
    """Rows in an order drawn from the seed."""
    order = torch.randperm(len(rows[0]), generator=drawn(seed, "held_out.order"))
    return rows[0][order], rows[1][order]
