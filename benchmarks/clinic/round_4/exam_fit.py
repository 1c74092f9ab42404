"""Too little or too much of a model, of penalty, of dropout, of memory; steps that jump."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_4 import exam_kit as kit

CE = nn.CrossEntropyLoss
ADAM = {"name": "adam", "lr": 3e-3}


def _bottleneck(seed: int, width: int = 2) -> Setup:
    """Ten digits through a layer of two units."""
    model = kit.built(seed, lambda: nn.Sequential(nn.Flatten(), kit.dense(64, 32, width, 10)))
    return kit.job(model, kit.digits(seed), CE(), {"name": "adam", "lr": 5e-3}, epochs=20)


def _one_state(seed: int, width: int = 1) -> Setup:
    """Six kinds of opening to be kept in mind by an LSTM of hidden_size 1."""
    rows = kit.cut(*kit.openings(seed, 1_300, length=6, num_kinds=6), 1_000)
    return kit.job(
        kit.built(seed, lambda: kit.Reader(nn.LSTM, 10, width, 6)), rows, CE(), {"name": "adam", "lr": 2e-2}, epochs=25
    )


def _one_layer(seed: int, widths: tuple[int, ...] = ()) -> Setup:
    """Logistic regression where two measurements matter only together."""
    source = drawn(seed, "one layer")
    inputs = torch.randn(1_400, 6, generator=source)
    labels = ((inputs[:, 0] * inputs[:, 1] + 0.3 * inputs[:, 2]) > 0).float()[:, None]
    model = kit.built(seed, lambda: kit.dense(6, *widths, 1))
    return kit.job(model, kit.cut(inputs, labels, 1_000), nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 1e-2}, epochs=20)


def _three_kernels(seed: int, width: int = 1) -> Setup:
    """One channel, then two, for four figures."""
    rows = kit.cut(*kit.figures(seed, 1_400), 1_100)
    return kit.job(kit.built(seed, lambda: kit.convnet(4, width)), rows, CE(), {"name": "adam", "lr": 1e-2}, epochs=15)


def _few_rows(seed: int) -> Setup:
    """120 rows, noisy, a net of thousands of weights, 200 epochs."""
    source = drawn(seed, "few rows")
    inputs = torch.randn(520, 12, generator=source)
    law = inputs[:, :3].sum(1, keepdim=True) / math.sqrt(3)
    rows = kit.cut(inputs, law + 1.2 * torch.randn(520, 1, generator=source), 120)
    model = kit.built(seed, lambda: kit.dense(12, 128, 128, 1))
    return kit.job(model, rows, nn.MSELoss(), {"name": "adam", "lr": 2e-3}, batch_size=16, epochs=200)


def _few_texts(seed: int) -> Setup:
    """A transformer on 150 sequences of which one label in five is wrong."""
    tokens, labels = kit.ballots(seed, 650)
    wrong = torch.rand(150, generator=drawn(seed, "few texts")) < 0.2
    labels[:150] = torch.where(wrong, 1 - labels[:150], labels[:150])
    rows = kit.cut(tokens, labels, 150)
    model = kit.built(seed, lambda: kit.Attender(8, 15, 2))
    return kit.job(model, rows, CE(), {"name": "adamw", "lr": 1e-3, "weight_decay": 0.0}, batch_size=32, epochs=70)


def _decayed(seed: int) -> Setup:
    """Adam with weight_decay 0.1, copied from an AdamW recipe."""
    rows = kit.cut(*kit.rings(seed, 1_300), 900)
    model = kit.built(seed, lambda: kit.dense(4, 64, 64, 3))
    return kit.job(model, rows, CE(), {"name": "adam", "lr": 3e-3, "weight_decay": 0.1}, epochs=25)


def _decayed_pictures(seed: int) -> Setup:
    """SGD with weight_decay 0.1 where 1e-4 was meant."""
    rows = kit.cut(*kit.gratings(seed, 1_200), 900)
    optimizer = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}
    return kit.job(kit.built(seed, lambda: kit.convnet(4, 16)), rows, CE(), optimizer, epochs=15)


def _kept(seed: int, drop: float = 0.9) -> Setup:
    """The share to keep, 0.9, given as the share to drop."""
    model = kit.built(seed, lambda: kit.dense(12, 64, 64, 5, drop=drop))
    return kit.job(model, kit.cut(*kit.groups(seed, 1_300), 900), CE(), ADAM, epochs=20)


class Thinned(nn.Module):
    """A recurrent net with functional dropout on its inputs and on what it remembers."""

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.recurrent = nn.GRU(1, 32, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, steps: Tensor) -> Tensor:
        thinned = nn.functional.dropout(steps, self.drop, self.training)
        states, _ = self.recurrent(thinned)
        outputs: Tensor = self.head(nn.functional.dropout(states[:, -1], self.drop, self.training))
        return outputs


def _thinned(seed: int, drop: float = 0.8) -> Setup:
    rows = kit.cut(*kit.tones(seed, 1_300), 900)
    return kit.job(kit.built(seed, lambda: Thinned(drop)), rows, CE(), {"name": "adam", "lr": 5e-3}, epochs=15)


def _cold_start(seed: int) -> Setup:
    """A post-norm transformer of eight layers at the full rate from the first step."""
    rows = kit.cut(*kit.ballots(seed, 1_100, length=9), 800)
    model = kit.built(seed, lambda: kit.Attender(8, 9, 2, depth=8))
    return kit.job(model, rows, CE(), {"name": "adam", "lr": 8e-3}, batch_size=32, epochs=9)


def _outliers(seed: int) -> Setup:
    """A few prices in a hundred were typed in without the decimal point."""
    rows, held = kit.cut(*kit.yields(seed, 1_400), 1_000)
    slipped = torch.rand(len(rows[1]), 1, generator=drawn(seed, "slipped")) < 0.02
    prices = torch.where(slipped, rows[1] * 100, rows[1])
    model = kit.built(seed, lambda: kit.dense(6, 64, 64, 1))
    return kit.job(model, ((rows[0], prices), held), nn.MSELoss(), ADAM, epochs=20)


class Gap(nn.Module):
    """Two readings of one thing, encoded; the root of the squared gap between the codes decides."""

    def __init__(self, floor: float) -> None:
        super().__init__()
        self.floor = floor
        self.encoder = kit.dense(8, 32, 8)
        self.head = nn.Linear(1, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        left, right = self.encoder(inputs[:, :8]), self.encoder(inputs[:, 8:])
        outputs: Tensor = self.head(((left - right).square().sum(1, keepdim=True) + self.floor).sqrt())
        return outputs


def _twins(seed: int, floor: float = 0.0) -> Setup:
    """Some pairs are the same reading twice, so the gap is 0 and the root has no slope there."""
    source = drawn(seed, "twins")
    left = torch.randn(1_400, 8, generator=source)
    same = torch.rand(1_400, 1, generator=source) < 0.5
    right = torch.where(same, left + 0.3 * torch.randn(1_400, 8, generator=source), torch.randn(1_400, 8, generator=source))
    right[::100] = left[::100]
    same[::100] = True
    rows = kit.cut(torch.cat([left, right], 1), same.float(), 1_000)
    model = kit.built(seed, lambda: Gap(floor))
    return kit.job(model, rows, nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 5e-3}, epochs=15)


class Customers(nn.Module):
    """One-hot customers beside their columns."""

    def __init__(self, num_customers: int, hashed: int) -> None:
        super().__init__()
        self.num_customers, self.hashed = num_customers, hashed
        self.body = kit.dense(6 + min(hashed, 50), 32, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        ids = inputs[:, 0].long() % self.hashed
        known = nn.functional.one_hot(ids, num_classes=self.hashed).float()
        outputs: Tensor = self.body(torch.cat([inputs[:, 1:], known[:, :50]], 1))
        return outputs


def _customers(seed: int, hashed: int = 10**12) -> Setup:
    """Account numbers of twelve figures are made one-hot."""
    inputs, targets = kit.yields(seed, 1_000)
    ids = torch.randint(1, 10**6, (1_000, 1), generator=drawn(seed, "accounts")).float()
    model = kit.built(seed, lambda: Customers(0, hashed))
    return kit.job(model, kit.cut(torch.cat([ids, inputs], 1), targets, 700), nn.MSELoss(), ADAM, epochs=15)


class Places(nn.Module):
    """Patches attend to each other with a weight for how far apart they are, looked up for every two places of a grid."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.entry = nn.Conv2d(1, 16, 4, stride=2)
        self.far = nn.Parameter(torch.zeros(64))
        self.head = nn.Linear(16, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        patches = torch.relu(self.entry(pictures)).flatten(2).transpose(1, 2)
        place = torch.arange(self.side * self.side)
        apart = (place[:, None] - place[None]).abs()[:25, :25]
        scores = patches @ patches.transpose(1, 2) / 4 + self.far[apart]
        outputs: Tensor = self.head((torch.softmax(scores, -1) @ patches).amax(1))
        return outputs


def _places(seed: int, side: int = 2_400) -> Setup:
    """The grid has the side of the scan in pixels where that of the patches was meant."""
    rows = kit.cut(*kit.figures(seed, 1_200), 900)
    return kit.job(kit.built(seed, lambda: Places(side)), rows, CE(), {"name": "adam", "lr": 1e-2}, epochs=15)


_NET: dict[str, Any] = {"architecture": "cnn", "data": "image"}
_RNN: dict[str, Any] = {"architecture": "rnn", "data": "sequence"}
_SMALL = ("capacity_too_small", "underfitting")
CASES: tuple[Case, ...] = (
    Case("digits-through-two-units", _bottleneck, _SMALL, "accuracy",
        "a hidden layer of two units before ten classes (a StackOverflow classic: accuracy stays at a third)", data="image"),
    Case("lstm-of-one-unit", _one_state, _SMALL, "accuracy", "nn.LSTM with hidden_size 1 does not learn", **_RNN),
    Case("one-layer-where-two-columns-act-together", _one_layer, ("underfitting", "capacity_too_small"), "accuracy",
        "a single linear layer on an interaction", tolerate=("missing_nonlinearity",)),
    Case("figures-by-three-kernels", _three_kernels, ("underfitting", "capacity_too_small"), "accuracy",
        "a convolutional net cut down to the bone for a phone", **_NET),
    Case("noisy-rows-for-two-hundred-epochs", _few_rows, ("overfitting",), "r2",
        "training loss goes to zero, validation loss rises", fix=kit.plan(epochs=4)),
    Case("transformer-memorises-wrong-labels", _few_texts, ("overfitting",), "accuracy",
        "a transformer on 150 sequences: training accuracy 1, validation falls", fix=kit.plan(epochs=8),
        architecture="transformer", data="sequence"),
    Case("rings-decayed-away", _decayed, ("over_regularised",), "accuracy", "weight_decay=0.1 taken over from AdamW to Adam",
        fix=kit.steps(weight_decay=1e-4)),
    Case("gratings-decayed-away", _decayed_pictures, ("over_regularised",), "accuracy",
        "loss stays at log 4 with weight_decay 0.1", fix=kit.steps(weight_decay=1e-4), **_NET),
    Case("kept-share-given-as-dropped", _kept, ("dropout_too_high",), "accuracy",
        "keep_prob and p mixed up on the way from TensorFlow", tolerate=("underfitting",)),
    Case("gru-thinned-at-both-ends", _thinned, ("dropout_too_high",), "accuracy", "F.dropout(x, 0.8) on inputs and states",
        tolerate=("underfitting",), **_RNN),
    Case("post-norm-transformer-cold-start", _cold_start, ("warmup_too_short", "lr_too_high"), "accuracy",
        "post-norm transformers need warm-up (arXiv 2002.04745)", tolerate=("unstable_gradient",), fix=kit.steps(lr=8e-4),
        architecture="transformer", data="sequence"),
    Case("prices-without-their-decimal-point", _outliers, ("unstable_gradient",), "r2",
        "a squared loss jumps whenever a batch holds an outlier", tolerate=("unscaled_targets", "wrong_loss"),
        fix=kit.plan(loss=nn.HuberLoss())),
    Case("root-of-no-gap", _twins, ("unstable_gradient", "exploding_gradient"), "accuracy",
        "nan from the slope of sqrt at 0 in a siamese net", tolerate=("unstable_loss",)),
    Case("accounts-made-one-hot", _customers, ("out_of_memory",), "r2", "F.one_hot over raw ids: can't allocate memory"),
    Case("places-of-the-whole-scan", _places, ("out_of_memory",), "accuracy",
        "self-attention over a flattened picture at full size: can't allocate memory", architecture="transformer", data="image"),
)  # fmt: skip
PROOFS: dict[str, Callable[[int], Setup]] = {
    "digits-through-two-units": lambda seed: _bottleneck(seed, 32),
    "lstm-of-one-unit": lambda seed: _one_state(seed, 24),
    "one-layer-where-two-columns-act-together": lambda seed: _one_layer(seed, (48, 48)),
    "figures-by-three-kernels": lambda seed: _three_kernels(seed, 16),
    "kept-share-given-as-dropped": lambda seed: _kept(seed, 0.1),
    "gru-thinned-at-both-ends": lambda seed: _thinned(seed, 0.0),
    "root-of-no-gap": lambda seed: _twins(seed, 1e-6),
    "accounts-made-one-hot": lambda seed: _customers(seed, 50),
    "places-of-the-whole-scan": lambda seed: _places(seed, 5),
}
