"""Splits that share rows or differ, and batches that rows shouldn't depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_4 import exam_kit as kit

CE = nn.CrossEntropyLoss
ADAM = {"name": "adam", "lr": 3e-3}


def _repeated(seed: int) -> Setup:
    """Few of 900 patients are ill; each ill one is copied nine times, then the table is split."""
    source = drawn(seed, "repeated")
    inputs = torch.randn(900, 10, generator=source)
    score = inputs[:, 0] + inputs[:, 1] * inputs[:, 2] + 1.2 * torch.randn(900, generator=source)
    labels = (score > score.quantile(0.9)).long()
    ill = labels == 1
    inputs = torch.cat([inputs, inputs[ill].repeat(8, 1)])
    labels = torch.cat([labels, labels[ill].repeat(8)])
    order = torch.randperm(len(labels), generator=source)
    model = kit.built(seed, lambda: kit.dense(10, 64, 64, 2))
    return kit.job(model, kit.cut(inputs[order], labels[order], 1_200), CE(), ADAM, epochs=30)


def _jittered(seed: int) -> Setup:
    """300 pictures, each saved five times with a change that no eye sees, then split."""
    pictures, labels = kit.figures(seed, 300)
    source = drawn(seed, "jittered")
    pictures = pictures.repeat(5, 1, 1, 1) + 0.002 * torch.randn(1_500, 1, 12, 12, generator=source)
    order = torch.randperm(1_500, generator=source)
    rows = kit.cut(pictures[order], labels.repeat(5)[order], 1_100)
    return kit.job(kit.built(seed, lambda: kit.convnet(4, norm=nn.BatchNorm2d)), rows, CE(), ADAM, epochs=8)


def _whole(seed: int) -> Setup:
    """The training loader was given the whole set, of which validation is a part."""
    rows = kit.ballots(seed, 1_400)
    everything = TensorDataset(*rows)
    order = torch.randperm(1_400, generator=drawn(seed, "whole")).tolist()
    setup = kit.job(kit.built(seed, lambda: kit.Attender(8, 15, 2)), (rows, rows), CE(), {"name": "adam", "lr": 2e-3})
    return {**setup, "train": everything, "val": Subset(everything, order[1_100:]), "epochs": 8}


def _rest_of_whole(setup: Setup) -> Setup:
    held = set(setup["val"].indices)
    return {**setup, "train": Subset(setup["train"], [row for row in range(len(setup["train"])) if row not in held])}


def _apart(setup: Setup) -> Setup:
    """Training rows that have no near twin in validation."""
    inputs, labels = setup["train"].tensors
    distance = torch.cdist(inputs.flatten(1), setup["val"].tensors[0].flatten(1)).amin(1)
    return {**setup, "train": TensorDataset(inputs[distance > 0.2], labels[distance > 0.2])}


def _inked_val(seed: int) -> Setup:
    """Trained on bright digits on black, validated on scans of dark ink on white paper."""
    train, (pictures, labels) = kit.digits(seed)
    model = kit.built(seed, lambda: kit.convnet(10, width=16))
    return kit.job(model, (train, (1 - pictures, labels)), CE(), {"name": "adam", "lr": 1e-2}, epochs=15)


def _inverted_val(setup: Setup) -> Setup:
    pictures, labels = setup["val"].tensors
    return {**setup, "val": TensorDataset(1 - pictures, labels)}


ORDER = [3, 0, 5, 1, 4, 2]


def _columns(seed: int) -> Setup:
    """The second file lists the same columns in the order of the alphabet."""
    source = drawn(seed, "columns")
    num_rows = 1_400
    age = (torch.randn(num_rows, generator=source) * 0.4).exp()
    visits = torch.poisson(torch.full((num_rows,), 2.0), generator=source)
    smoker = (torch.rand(num_rows, generator=source) < 0.3).float()
    pulse = torch.randn(num_rows, generator=source)
    ratio = torch.rand(num_rows, generator=source) * 2 - 1
    weight = torch.randn(num_rows, generator=source) + 0.5
    cost = (
        0.9 * age + 0.5 * visits + 1.2 * smoker * age + 0.4 * torch.sin(2 * pulse) + 0.2 * torch.randn(num_rows, generator=source)
    )
    inputs = torch.stack([age, visits, smoker, pulse, ratio, weight], 1)
    train, (held, truth) = kit.cut(inputs, ((cost - 3) / 1.2)[:, None], 1_000)
    model = kit.built(seed, lambda: kit.dense(6, 48, 48, 1, act=nn.GELU))
    return kit.job(model, (train, (held[:, ORDER], truth)), nn.MSELoss(), ADAM, epochs=20)


def _same_columns(setup: Setup) -> Setup:
    inputs, truth = setup["val"].tensors
    return {**setup, "val": TensorDataset(inputs[:, torch.tensor(ORDER).argsort()], truth)}


def _sales(seed: int, *, relative: bool = False) -> Setup:
    """A shop's sales with a season, which grow; trained on the first years and validated on the last."""
    source = drawn(seed, "sales")
    day = torch.arange(1_300.0)
    sales = 100 + 0.12 * day + 12 * torch.sin(day * 0.52) + 3 * torch.randn(1_300, generator=source)
    windows = sales.unfold(0, 21, 1)
    if relative:
        windows = windows - windows[:, :20].mean(1, keepdim=True)
    past, following = windows[:, :20, None], windows[:, 20:]
    middle, spread = past[:900].mean(), past[:900].std()
    rows = kit.cut((past - middle) / spread, (following - middle) / spread, 900)
    return kit.job(kit.built(seed, lambda: kit.Reader(nn.GRU, 1, 24, 1)), rows, nn.MSELoss(), {"name": "adam", "lr": 5e-3})


def _lone_row(seed: int) -> Setup:
    """513 rows in batches of 32."""
    inputs, labels = kit.groups(seed, 913)
    model = kit.built(seed, lambda: kit.dense(12, 48, 48, 5, norm=nn.BatchNorm1d))
    return kit.job(model, kit.cut(inputs, labels, 513), CE(), {"name": "adam", "lr": 5e-3}, batch_size=32)


def _lone_picture(seed: int) -> Setup:
    """801 pictures in batches of 50, normalised after the mean over the picture."""

    def make() -> nn.Module:
        features = nn.Sequential(*list(kit.convnet(4, width=16).children())[:-1])
        return nn.Sequential(features, nn.BatchNorm1d(32), nn.Linear(32, 4))

    rows = kit.cut(*kit.gratings(seed, 1_201), 801)
    optimizer = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    return kit.job(kit.built(seed, make), rows, CE(), optimizer, batch_size=50, epochs=10)


def _pairs(seed: int) -> Setup:
    """Batches of two under batch norm, since more didn't fit into memory at full size."""
    model = kit.built(seed, lambda: kit.dense(12, 64, 64, 5, norm=nn.BatchNorm1d))
    rows = kit.cut(*kit.groups(seed, 1_100), 700)
    return kit.job(model, rows, CE(), {"name": "adam", "lr": 2e-3}, batch_size=2, epochs=5)


def _pictures_in_pairs(seed: int) -> Setup:
    """Batch norm right behind the mean over the picture sees two numbers a channel."""

    def make() -> nn.Module:
        body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())
        return nn.Sequential(body, nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))

    optimizer = {"name": "sgd", "lr": 0.02, "momentum": 0.9}
    return kit.job(kit.built(seed, make), kit.digits(seed, 700), CE(), optimizer, batch_size=2, epochs=5)


def _across(seed: int, *, batch_first: bool = False) -> Setup:
    """Encoder layers that take the first axis for time."""
    model = kit.built(seed, lambda: kit.Attender(8, 15, 2, batch_first=batch_first))
    return kit.job(model, kit.cut(*_matched(seed, 1_900), 1_500), CE(), {"name": "adam", "lr": 2e-3}, epochs=14)


def _matched(seed: int, num_rows: int) -> kit.Rows:
    """Does the token at the front come again later?"""
    source = drawn(seed, "matched")
    tokens = torch.randint(1, 8, (num_rows, 15), generator=source)
    labels = torch.randint(2, (num_rows,), generator=source)
    later = torch.where(tokens[:, 1:] == tokens[:, :1], tokens[:, 1:] % 7 + 1, tokens[:, 1:])
    spot = torch.randint(14, (num_rows,), generator=source)
    again = later.clone()
    again[torch.arange(num_rows), spot] = tokens[:, 0]
    return torch.cat([tokens[:, :1], torch.where(labels[:, None] == 1, again, later)], 1), labels


class TimeFirst(nn.Module):
    """A recurrent net that wants time first and gets it by `view`, or by a true transposition."""

    def __init__(self, turn: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.turn = turn
        self.recurrent = nn.GRU(1, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, steps: Tensor) -> Tensor:
        states, _ = self.recurrent(self.turn(steps))
        outputs: Tensor = self.head(states[-1])
        return outputs


def _viewed(steps: Tensor) -> Tensor:
    return steps.reshape(steps.shape[1], steps.shape[0], steps.shape[2])


def _turned(steps: Tensor) -> Tensor:
    return steps.transpose(0, 1)


def _tones(seed: int, turn: Callable[[Tensor], Tensor]) -> Setup:
    rows = kit.cut(*kit.tones(seed, 1_300), 900)
    return kit.job(kit.built(seed, lambda: TimeFirst(turn)), rows, CE(), {"name": "adam", "lr": 5e-3}, epochs=15)


def _case(name: str, build: Callable[[int], Setup], accept: tuple[str, ...], source: str, **more: Any) -> Case:
    return Case(name, build, accept, more.pop("skill", "accuracy"), source, **more)


_SHIFT, _ACROSS, _SMALL = ("train_val_mismatch",), ("batch_dependence",), ("batchnorm_small_batch",)
_NET: dict[str, Any] = {"architecture": "cnn", "data": "image"}
_GRU: dict[str, Any] = {"architecture": "rnn", "data": "sequence"}
CASES: tuple[Case, ...] = (
    _case("patients-oversampled-then-split", _repeated, ("data_leakage",),
        "rare rows repeated before the split (a common question on oversampling)", fix=_apart, changes_data=True),
    _case("pictures-resaved-then-split", _jittered, ("data_leakage",),
        "copies of one picture land in both splits (a common slip with augmentation on disk)", fix=_apart, changes_data=True,
        **_NET),
    _case("validation-within-the-training-set", _whole, ("data_leakage",),
        "the loader is given the data set instead of its subset (forum: random_split, then DataLoader(dataset))",
        fix=_rest_of_whole, changes_data=True, architecture="transformer", data="sequence"),
    _case("digits-validated-as-ink-on-paper", _inked_val, _SHIFT,
        "a digit model fails on the user's own photographs, which are dark on white (a standing question about MNIST models)",
        fix=_inverted_val, **_NET),
    _case("second-file-orders-columns-otherwise", _columns, _SHIFT, "two csv files whose columns stand in different orders",
        fix=_same_columns, skill="r2"),
    _case("sales-outgrow-their-training-years", _sales, _SHIFT, "a recurrent forecast of raw levels stays below a growing series",
        skill="r2", **_GRU),
    _case("one-patient-left-for-the-last-batch", _lone_row, ("last_batch_of_one",),
        "Expected more than 1 value per channel when training (forum)", fix=kit.plan(batch_size=30)),
    _case("one-picture-left-for-the-last-batch", _lone_picture, ("last_batch_of_one",), "the same crash, behind global pooling",
        fix=kit.plan(batch_size=64), **_NET),
    _case("clouds-in-pairs-under-batch-norm", _pairs, _SMALL, "validation far below training with batch size 2 and batch norm",
        tolerate=("batch_too_small",), fix=kit.plan(batch_size=32, epochs=20)),
    _case("digits-in-pairs-under-batch-norm", _pictures_in_pairs, _SMALL, "batch size cut to 2 after running out of memory",
        tolerate=("batch_too_small",), fix=kit.plan(batch_size=32, epochs=10), data="image"),
    _case("encoder-attends-over-its-batch", _across, _ACROSS,
        "nn.TransformerEncoderLayer without batch_first (a common forum question)", architecture="transformer", data="sequence"),
    _case("time-first-by-view", lambda seed: _tones(seed, _viewed), _ACROSS,
        "view instead of transpose before a GRU (forum 62364 is its mirror image)", **_GRU),
)  # fmt: skip
PROOFS: dict[str, Callable[[int], Setup]] = {
    "sales-outgrow-their-training-years": lambda seed: _sales(seed, relative=True),
    "encoder-attends-over-its-batch": lambda seed: _across(seed, batch_first=True),
    "time-first-by-view": lambda seed: _tones(seed, _turned),
}
