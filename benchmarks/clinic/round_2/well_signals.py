"""Sequences and pictures that nothing ails, odd as they look: no obvious change would make them much better."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_2 import builds, layers, nets
from benchmarks.clinic.round_2.builds import Calls, Split, cut, places_entropy, plan, stack, weights_of


class Branches(nn.Module):
    """Three branches around which the signal goes; the last layer of each begins at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Conv1d(2, 12, 5, padding=2), nn.Linear(12, 3)
        twos = [(nn.Conv1d(12, 12, 5, padding=2), nn.ReLU(), nn.Conv1d(12, 12, 5, padding=2)) for _ in range(3)]
        self.branches = nn.ModuleList(nn.Sequential(*two) for two in twos)
        for two in twos:
            for tensor in two[2].parameters():
                nn.init.zeros_(tensor)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for branch in self.branches:
            x = x + branch(x.relu())
        scores: Tensor = self.head(x.relu().mean(2))
        return scores


def _repeated_kind(seed: int) -> Setup:
    with weights_of(seed):
        model = nets.Ear()
    model.pool = "mean"
    train, val = builds.pulses(seed, rows=1200, noise=0.9)
    assert isinstance(train, TensorDataset)
    rare = (train.tensors[1] == 2).nonzero().flatten().tolist()[:40]
    others = (train.tensors[1] != 2).nonzero().flatten().tolist()
    return plan((Subset(train, others + 6 * rare), val), model, nn.CrossEntropyLoss(), "adam", 0.01, epochs=10)


def _tied_words(seed: int) -> Setup:
    with weights_of(seed):
        model = nets.Writer(0.15)
    split = builds.chains(seed, rows=600, length=14, words=16, doubt=0.3)
    return plan(split, model, places_entropy, "adam", 0.006, epochs=12, batch_size=25)


def _faint_slopes(seed: int) -> Setup:
    with weights_of(seed):
        model = nn.Linear(30, 1)
    return plan(builds.slopes(seed, rows=1500, noise=6.0), model, nn.MSELoss(), "adamw", 0.003, epochs=12)


def _zero_branches(seed: int) -> Setup:
    with weights_of(seed):
        model = Branches()
    return plan(builds.pulses(seed, noise=0.9), model, nn.CrossEntropyLoss(), "adamw", 0.005, epochs=12)


def _one_hot_table(seed: int) -> Setup:
    with weights_of(seed):
        words = nn.Embedding.from_pretrained(torch.eye(80))  # type: ignore[no-untyped-call]
        model = Calls(nets.bag, words=words, head=nn.Linear(80, 3))
    head = list(model.get_submodule("head").parameters())
    return plan(builds.recipes(seed), model, nn.CrossEntropyLoss(), "adam", 0.2, epochs=25, params=head)


def _short_ones(seed: int) -> Setup:
    with weights_of(seed):
        model = Calls(nets.tag, words=nn.Embedding(4, 12), reader=nn.GRU(12, 32, batch_first=True), head=nn.Linear(32, 4))
    return plan(builds.nesting(seed, shortest=7), model, places_entropy, "adam", 0.01, epochs=15)


def _grey_dials(seed: int) -> Setup:
    with weights_of(seed):
        norm = nn.InstanceNorm2d(1)
        filters = (nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        model = nn.Sequential(norm, *filters, nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 2), nn.Tanh())
    return plan(builds.dials(seed, scale=-70.0, level=180.0), model, nn.MSELoss(), "adam", 0.004, epochs=15)


def _tide(seed: int) -> Split:
    draw = drawn(seed, "tide")
    level = [0.0, 0.0]
    for _ in range(1000):
        level.append(1.5 * level[-1] - 0.8 * level[-2] + float(torch.randn(1, generator=draw)))
    series = torch.tensor(level[100:]) / 3.0
    windows = series.unfold(0, 13, 1)
    return cut(windows[:, :12].clone(), windows[:, 12:].clone(), 600)


def _in_order(seed: int) -> Setup:
    with weights_of(seed):
        model = stack(12, 16, 1, bend=nn.Tanh)
    return plan(_tide(seed), model, nn.MSELoss(), "adam", 0.005, epochs=20, shuffle=False, batch_size=24)


CASES: tuple[Case, ...] = (
    Case(
        "pulses-rare-kind-repeated",
        _repeated_kind,
        (),
        "balanced_accuracy",
        "one kind is rare, its rows are dealt six times",
        "cnn",
        "sequence",
        floor=0.93,
    ),
    Case(
        "chains-tied-quiet-words",
        _tied_words,
        (),
        "accuracy",
        "three words of ten are chance; one table for both ends",
        "rnn",
        "sequence",
        floor=0.58,
    ),
    Case(
        "slopes-in-much-noise",
        _faint_slopes,
        (),
        "r2",
        "two thirds of the variance have no explanation",
        data="sequence",
        floor=0.3,
    ),
    Case(
        "pulses-branches-from-zero",
        _zero_branches,
        (),
        "accuracy",
        "the last layer of each branch begins at zero",
        "cnn",
        "sequence",
        floor=0.93,
    ),
    Case(
        "recipes-one-hot-table",
        _one_hot_table,
        (),
        "accuracy",
        "the table of words is the identity, frozen on purpose; the optimizer holds the head",
        data="sequence",
        floor=0.82,
    ),
    Case(
        "nesting-short-ones",
        _short_ones,
        (),
        "accuracy",
        "a quarter of the places is -100 and can't be right",
        "rnn",
        "sequence",
        floor=0.68,
    ),
    Case(
        "dials-grey-instance-norm",
        _grey_dials,
        (),
        "r2",
        "pictures from 110 to 180 behind an instance norm, tanh at the end",
        "cnn",
        "image",
        floor=0.97,
    ),
    Case(
        "molecules-neighbours-averaged",
        lambda seed: layers.molecules(seed, "mean"),
        (),
        "r2",
        "inputs are a tuple; the mean over neighbours",
        floor=0.94,
    ),
    Case(
        "tide-in-order-of-time",
        _in_order,
        (),
        "r2",
        "windows of one series, never shuffled, cut by time",
        data="sequence",
        floor=0.8,
    ),
)
