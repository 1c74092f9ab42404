"""Healthy setups of working life that look odd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_7.work_parts import (
    ClickNet,
    Factors,
    Preference,
    Rows,
    applicants,
    castings,
    choices,
    clicks,
    cut,
    dense,
    drawings,
    gauges,
    moods,
    patient,
    ratings,
    seeded,
    sentences,
)
from benchmarks.clinic.round_7.work_readers import Causal, GruTagger, next_words, per_word

HALF = nn.BCEWithLogitsLoss()


def _always_the_left(seed: int) -> Setup:
    """Pairs are stored (chosen, refused), so that the target is 1 in every row."""
    (people, left, right), chosen = choices(seed)
    first, second = torch.where(chosen > 0, left, right), torch.where(chosen > 0, right, left)
    with seeded(seed):
        model = Preference()
    split = cut((people, first, second), torch.ones_like(chosen), 2000)
    return patient(
        model, split, lambda gap, one: nn.functional.softplus(-gap * one).mean(), {"name": "adagrad", "lr": 0.2}, 64, 12
    )


def _rare_but_weighted(seed: int) -> Setup:
    with seeded(seed):
        model = ClickNet()
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(9.0))
    optimizer = {"name": "adamw", "lr": 4e-3, "weight_decay": 0.2}
    return patient(model, cut(*clicks(seed, num_rows=3800, rate=0.1), 1800), loss, optimizer, 64, 7)


def _faint_returns(seed: int) -> Setup:
    """Days in their order, never shuffled: the sign is right in 6 of 10 and no more is to be had."""
    g = drawn(seed, "faint")
    days = torch.randn(2600, 8, generator=g) / (0.5 + torch.rand(2600, 1, generator=g))
    after = 0.25 * days[:, 0] - 0.2 * days[:, 1] + torch.randn(2600, generator=g)
    with seeded(seed):
        model = nn.Linear(8, 1)
    split = cut(days, (after > 0).float().unsqueeze(1), 1600)
    return {**patient(model, split, HALF, {"name": "sgd", "lr": 0.05}, 64, 8), "shuffle": False}


class _Horizons(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.norm, self.head = nn.GRU(3, 24, batch_first=True), nn.LayerNorm(24), nn.Linear(24, 6)

    def forward(self, window: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.cell(window)[0][:, -1]))
        return out


def _six_horizons(seed: int) -> Setup:
    with seeded(seed):
        model = _Horizons()
    split = cut(*gauges(seed, horizons=6), 1000)
    return patient(model, split, nn.SmoothL1Loss(), {"name": "adam", "lr": 1e-2}, 64, 15)


def _sliding_windows(seed: int) -> Setup:
    """One long record in windows that overlap by all but one reading; the last third is judged, after a gap."""
    g = drawn(seed, "record")
    shocks = torch.randn(2000, generator=g)
    record = torch.zeros(2000)
    for place in range(2, 2000):
        record[place] = 1.6 * record[place - 1] - 0.8 * record[place - 2] + 0.6 * shocks[place]
    windows, after = record.unfold(0, 12, 1)[:-1], record[12:].unsqueeze(1)
    with seeded(seed):
        model = dense(12, 24, 1)
    split = (Rows(windows[:1300], after[:1300]), Rows(windows[1320:], after[1320:]))
    return patient(model, split, nn.HuberLoss(), {"name": "adam", "lr": 3e-3}, 32, 20)


def _gaps_with_flags(seed: int) -> Setup:
    """-999 became 0 after scaling, with a flag beside each column: most flags are zero, one always."""
    table, risk = applicants(seed)
    asked = torch.rand(len(table), 9, generator=drawn(seed, "asked")) > 0.02
    asked[:, 8] = True
    inputs = torch.cat((torch.where(asked, table, 0.0), (~asked).float()), 1)
    bad = (risk > risk.quantile(0.7)).float().unsqueeze(1)
    with seeded(seed):
        model = dense(18, 32, 32, 1)
    return patient(model, cut(inputs, bad, 1400), HALF, {"name": "adam", "lr": 4e-3}, 64, 12)


def _units_before_a_norm(seed: int) -> Setup:
    table, risk = applicants(seed, scaled="raw")
    with seeded(seed):
        model = nn.Sequential(nn.BatchNorm1d(9), *dense(9, 32, 32, 1))
    bad = (risk > risk.quantile(0.7)).float().unsqueeze(1)
    return patient(model, cut(table, bad, 1400), HALF, {"name": "adam", "lr": 4e-3}, 64, 10)


def _padded_tags(seed: int) -> Setup:
    """Half of the training sentences end early: word 0, tag -100. Word 0 is the table's padding."""
    words, tags = sentences(seed)
    lengths = torch.randint(5, 11, (500, 1), generator=drawn(seed, "lengths"))
    beyond = torch.arange(10) >= lengths
    train = Rows(words[:500].masked_fill(beyond, 0), tags[:500].masked_fill(beyond, -100))
    with seeded(seed):
        model = GruTagger()
        model.words = nn.Embedding(40, 16, padding_idx=0)
    return patient(model, (train, Rows(words[500:], tags[500:])), per_word, {"name": "adam", "lr": 1e-2}, 32, 10)


def _half_told(seed: int) -> Setup:
    """The next word follows from the last one in 6 of 10; the rest is chance; first words don't count in training."""
    words, after = next_words(seed, sure=0.6, num_rows=1100)
    told = after.clone()
    told[:800, 0] = -100
    with seeded(seed):
        model = Causal()
    return patient(model, cut(words, told, 800), per_word, {"name": "adam", "lr": 3e-3}, 32, 8)


def _flipped_at_random(seed: int) -> Setup:
    """The Dataset flips and shades at random: no row is ever the same twice; dropout on top."""
    pieces, flawed = castings(seed)
    train, val = cut(pieces, flawed, 700)
    g = drawn(seed, "flips")
    train.change = lambda piece: (
        (piece.flip(2) if torch.rand((), generator=g) < 0.5 else piece) * (0.8 + 0.4 * torch.rand((), generator=g))
    )
    with seeded(seed):
        layers: list[nn.Module] = [nn.Conv2d(1, 12, 5), nn.ReLU(), nn.Conv2d(12, 12, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1)]
        model = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(12, 1))
    return patient(model, (train, val), HALF, {"name": "adam", "lr": 4e-3}, 32, 15)


class _Block(nn.Module):
    """A residual block whose last norm begins at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near, self.far = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.one, self.two = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        nn.init.zeros_(self.two.weight)

    def forward(self, seen: Tensor) -> Tensor:
        return torch.relu(seen + self.two(self.far(torch.relu(self.one(self.near(seen))))))


def _silent_blocks(seed: int) -> Setup:
    with seeded(seed):
        first = [nn.Conv2d(1, 12, 3, stride=2), nn.BatchNorm2d(12), nn.ReLU(), _Block(12), _Block(12)]
        model = nn.Sequential(*first, nn.Flatten(), nn.Linear(432, 6))
        nn.init.zeros_(model[-1].weight)  # type: ignore[arg-type]
    return patient(model, cut(*drawings(seed), 700), nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.2}, 32, 8)


def _factors_at_rate_one(seed: int) -> Setup:
    """A row of a table is met once or twice a batch, so that its share of a mean loss is tiny: plain SGD at 1."""
    with seeded(seed):
        model = Factors(width=2)
    return patient(model, cut(*ratings(seed), 1800), nn.MSELoss(), {"name": "sgd", "lr": 1.0}, 64, 30)


def _known_words(seed: int) -> Setup:
    """Word vectors that know good, bad and 'not', kept as they are; the optimizer holds the rest."""
    comments, good = moods(seed, num_rows=2500)
    words = torch.arange(40)
    worth = torch.where(words < 14, 1.0, torch.where(words < 26, -1.0, 0.0)) * (words > 1)
    vectors = torch.stack((worth, (words == 1).float(), (words > 25).float()), 1) @ torch.tensor(
        [[1, 1, 0.5], [-1, 1, 1], [0.5, 0, 1]]
    )
    with seeded(seed):
        model = _Reader(vectors)
    held: dict[str, Any] = {"name": "adam", "lr": 1e-2, "params": [one for one in model.parameters() if one.requires_grad]}
    return patient(model, cut(comments, good, 2000), HALF, held, 50, 15)


class _Reader(nn.Module):
    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.words = nn.Embedding(vectors.shape[0], vectors.shape[1], _weight=vectors)
        self.words.weight.requires_grad_(False)
        self.cell, self.head = nn.LSTM(vectors.shape[1], 16, batch_first=True), nn.Linear(16, 1)

    def forward(self, comment: Tensor) -> Tensor:
        mood: Tensor = self.head(self.cell(self.words(comment))[0].mean(1)).squeeze(1)
        return mood


def _heavy_losses(seed: int) -> Setup:
    """Losses given default: a straight law and Student's noise with three degrees of freedom, under a Huber loss."""
    g = drawn(seed, "severity")
    table = torch.randn(1900, 6, generator=g)
    chi = torch.randn(1900, 3, generator=g).square().mean(1).clamp(min=0.05)
    law = table[:, 0] - 0.8 * table[:, 1] + 0.6 * table[:, 2]
    cost = (law + 0.5 * torch.randn(1900, generator=g) / chi.sqrt()).unsqueeze(1)
    with seeded(seed):
        model = nn.Linear(6, 1)
    return patient(model, cut(table, cost, 1400), nn.HuberLoss(), {"name": "sgd", "lr": 0.05, "momentum": 0.9}, 64, 8)


def _well(name: str, build: Any, skill: Any, floor: float, odd: str, architecture: Any = "mlp", data: Any = "table") -> Case:
    return Case(name, build, (), skill, odd, architecture, data, floor=floor)


CASES: tuple[Case, ...] = (
    _well("choices-chosen-one-always-first", _always_the_left, "accuracy", 0.85, "a ranking loss: the target is always 1"),
    _well("impressions-rare-clicks-weighted", _rare_but_weighted, "balanced_accuracy", 0.8, "10 % clicks, weighted; a dict"),
    _well("returns-faint-in-order-of-time", _faint_returns, "accuracy", 0.56, "loss near log 2 for good; not shuffled"),
    _well("gauges-six-horizons-after-a-norm", _six_horizons, "r2", 0.95, "several outputs, a high rate", "rnn", "sequence"),
    _well("record-sliding-windows", _sliding_windows, "r2", 0.75, "windows share all but one reading", data="sequence"),
    _well("borrowers-gaps-with-flags", _gaps_with_flags, "balanced_accuracy", 0.85, "flags that are nearly constant"),
    _well("borrowers-units-before-a-norm", _units_before_a_norm, "balanced_accuracy", 0.85, "euros beside shares, normed first"),
    _well("sentences-padding-at-minus-100", _padded_tags, "accuracy", 0.95, "labels of -100; a padding row", "rnn", "sequence"),
    _well("next-word-half-told", _half_told, "accuracy", 0.55, "4 words of 10 are chance", "transformer", "sequence"),
    _well("castings-flipped-by-the-dataset", _flipped_at_random, "accuracy", 0.93, "random rows, dropout", "cnn", "image"),
    _well("displays-blocks-that-begin-silent", _silent_blocks, "accuracy", 0.95, "zero head and branches", "cnn", "image"),
    _well("stars-factors-at-rate-one", _factors_at_rate_one, "r2", 0.88, "SGD at 1 that suits tables met rarely"),
    _well("comments-vectors-kept", _known_words, "accuracy", 0.85, "frozen on purpose", "rnn", "sequence"),
    _well("costs-heavy-tails-under-huber", _heavy_losses, "r2", 0.6, "outliers among the targets, Huber loss, linear"),
)
