"""Healthy patients on images and sequences, some of which look odd."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.held_out import images, sequences, tables
from benchmarks.clinic.held_out.kit import made, parted
from benchmarks.clinic.held_out.models import Elman, SeriesReader, TokenReader, Transformer, convnet, stacked


def group_norm_by_fours(seed: int) -> Setup:
    data = parted(images.strokes(seed, rows=800), 500)
    return made(
        seed, lambda: convnet(1, 5, norm="group", flat=96), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.002},
        batch_size=4, epochs=8,
    )  # fmt: skip


def plain_gratings(seed: int) -> Setup:
    data = parted(images.gratings(seed), 600)
    return made(seed, lambda: convnet(1, 4), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.005}, epochs=15)


def raw_digits(seed: int) -> Setup:
    data = parted(tables.bundled(seed, "digits", raw=True), 1300)
    return made(
        seed, lambda: nn.Sequential(nn.Unflatten(1, (1, 8, 8)), convnet(1, 10, norm="batch", flat=96)), data,
        nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.1, "momentum": 0.9}, epochs=10,
    )  # fmt: skip


class Dropping(nn.Module):
    """Drops whole channels and half the units while training."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.2))
        self.mind = nn.Linear(24 * 25, 64)
        self.head = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(F.relu(self.mind(self.eye(x).flatten(1))), 0.5, self.training))


def dropped_strokes(seed: int) -> Setup:
    data = parted(images.strokes(seed, rows=1400), 1000)
    return made(
        seed, Dropping, data, nn.CrossEntropyLoss(label_smoothing=0.1), {"name": "adamw", "lr": 0.003, "weight_decay": 0.05},
        epochs=15,
    )  # fmt: skip


class Residual(nn.Module):
    """A depthwise block added to its input, its norm's scale starting at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width), nn.Conv2d(width, width, 1), nn.ReLU(), nn.GroupNorm(4, width)
        )
        nn.init.zeros_(self.body[-1].weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def found_lamps(seed: int) -> Setup:
    net = lambda: nn.Sequential(  # noqa: E731
        nn.Conv2d(1, 8, 3, stride=2, padding=1), Residual(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2)
    )
    data = parted(images.lamps(seed), 600)
    return made(seed, net, data, nn.MSELoss(), {"name": "adam", "lr": 0.003}, batch_size=32, epochs=15)


def hot_hollows(seed: int) -> Setup:
    data = parted(images.hollows(seed), 600)
    return made(
        seed,
        lambda: convnet(1, 3, norm="batch"),
        data,
        nn.CrossEntropyLoss(),
        {"name": "sgd", "lr": 1.0},
        batch_size=50,
        epochs=10,
    )


def read_motif(seed: int) -> Setup:
    data = parted(sequences.motif(seed, rows=2400), 1900)
    return made(seed, lambda: TokenReader(6, 2), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=15)


def frozen_table(seed: int) -> Setup:
    def model() -> nn.Module:
        net = TokenReader(40, 5, kind=nn.LSTM)
        net.table.requires_grad_(False)
        return net

    data = parted(sequences.first_word(seed, length=6, words=5), 800)
    held = lambda net: [weight for weight in net.parameters() if weight.requires_grad]  # noqa: E731
    return made(seed, model, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, held=held, epochs=15)


def token_rows(logits: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy of every token."""
    return F.cross_entropy(logits.transpose(1, 2), tokens)


def reversed_tokens(seed: int) -> Setup:
    data = parted(sequences.reversal(seed), 1200)
    net = lambda: Transformer(6, 6, length=7, each=True)  # noqa: E731
    return made(seed, net, data, token_rows, {"name": "adam", "lr": 0.005}, epochs=10)


def deep_pre_norm(seed: int) -> Setup:
    data = parted(sequences.which_first(seed, rows=1800), 1400)
    net = lambda: Transformer(8, 2, length=14, width=24, depth=6)  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adamw", "lr": 0.003}, epochs=10)


def counted_votes(seed: int) -> Setup:
    data = parted(sequences.ballots(seed), 900)
    net = lambda: nn.Sequential(nn.EmbeddingBag(300, 12, mode="mean"), nn.Linear(12, 5))  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.02}, epochs=15)


def next_value(seed: int) -> Setup:
    net = lambda: nn.Sequential(  # noqa: E731
        nn.Flatten(1), nn.Unflatten(1, (1, 20)), nn.Conv1d(1, 16, 5), nn.Tanh(), nn.Flatten(), nn.Linear(256, 1)
    )
    return made(seed, net, parted(sequences.waves(seed), 600), nn.HuberLoss(), {"name": "adam", "lr": 0.003}, epochs=20)


def own_recurrence(seed: int) -> Setup:
    def model() -> nn.Module:
        net = Elman(2, 1, 32)
        nn.init.orthogonal_(net.kept.weight)
        return net

    data = parted(sequences.adding(seed, length=8), 1200)
    return made(seed, model, data, nn.MSELoss(), {"name": "adam", "lr": 0.005}, epochs=30)


class TimeFirst(nn.Module):
    """A recurrent net that wants time first, and gets it."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = nn.GRU(1, 24)
        self.head = nn.Linear(24, 4)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.reader(series.permute(1, 0, 2))[0].mean(0))


def time_first(seed: int) -> Setup:
    data = parted(sequences.wave_kinds(seed, rows=1100), 800)
    return made(seed, TimeFirst, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=25)


def echo(seed: int) -> Setup:
    series, _ = sequences.waves(seed, rows=800, length=16, noise=0.1)
    flat = series[:, :, 0]
    data = parted((flat, flat.clone()), 600)
    return made(seed, lambda: stacked([16, 32, 4, 32, 16], nn.Tanh), data, nn.MSELoss(), {"name": "adam", "lr": 0.005}, epochs=40)


def inverted_photos(seed: int) -> Setup:
    pictures, labels = images.flecks(seed)
    net = lambda: nn.Sequential(  # noqa: E731
        nn.Conv2d(1, 12, 3, padding=1), nn.LeakyReLU(), nn.LPPool2d(1, 10), nn.Flatten(), stacked([12, 24, 4])
    )
    data = parted((0.3 - pictures, labels), 700)
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=30)


def even_attention(seed: int) -> Setup:
    data = parted(sequences.ballots(seed, rows=1000, parties=3), 700)

    def model() -> nn.Module:
        net = Transformer(3, 3, length=15, width=16, depth=1)
        for layer in net.layers:
            nn.init.zeros_(layer.look.gives.weight)
        return net

    return made(seed, model, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.003}, epochs=12)


def series_lstm(seed: int) -> Setup:
    series, targets = sequences.waves(seed, rows=700, noise=0.02)
    return made(
        seed, lambda: SeriesReader(1, 1), parted((series, targets[:, 0]), 500),
        lambda outputs, truth: F.mse_loss(outputs.squeeze(1), truth), {"name": "adam", "lr": 0.01}, batch_size=32, epochs=20,
    )  # fmt: skip


def _case(name: str, build: object, skill: str, floor: float, kind: str, data: str, odd: str) -> Case:
    return Case(name, build, (), skill, odd, architecture=kind, data=data, floor=floor)  # type: ignore[arg-type]


CASES: tuple[Case, ...] = (
    _case("group-norm-fours", group_norm_by_fours, "accuracy", 0.9, "cnn", "image",
          "batches of 4 under a norm that doesn't mind"),
    _case("gratings-no-norm", plain_gratings, "accuracy", 0.9, "cnn", "image", "no norm layer anywhere, none needed"),
    _case("digits-raw-normed-inside", raw_digits, "accuracy", 0.93, "cnn", "image",
          "pixels 0 to 16 as they are; norm layers take care"),
    _case("strokes-with-dropout", dropped_strokes, "accuracy", 0.85, "cnn", "image",
          "dropout and smoothing keep train loss above validation loss"),
    _case("lamps-depthwise", found_lamps, "r2", 0.9, "cnn", "image",
          "a residual branch whose norm scale starts at zero; two targets"),
    _case("hollows-rate-one", hot_hollows, "accuracy", 0.9, "cnn", "image", "SGD at 1.0, fine under batch norm"),
    _case("motif-gru", read_motif, "accuracy", 0.9, "rnn", "sequence", "flat for some epochs before it falls"),
    _case("table-frozen-on-purpose", frozen_table, "accuracy", 0.93, "rnn", "sequence",
          "frozen random embeddings, 35 of 40 rows never met"),
    _case("reversal-each-token", reversed_tokens, "accuracy", 0.93, "transformer", "sequence",
          "outputs for every token, a loss that turns dimensions"),
    _case("six-layers-norm-first", deep_pre_norm, "accuracy", 0.9, "transformer", "sequence",
          "deep, no warm-up; norms come first"),
    _case("votes-in-a-bag", counted_votes, "accuracy", 0.7, "mlp", "sequence",
          "order is thrown away, and doesn't matter; most embedding rows idle"),
    _case("next-value-by-convolution", next_value, "r2", 0.93, "cnn", "sequence", "a convolution over time; no recurrence"),
    _case("adding-orthogonal", own_recurrence, "r2", 0.85, "rnn", "sequence", "a recurrence by hand, of norm one, without gates"),
    _case("kinds-time-first", time_first, "accuracy", 0.9, "rnn", "sequence", "not batch_first, but the inputs are turned"),
    _case("echo-through-four", echo, "r2", 0.85, "mlp", "sequence",
          "targets are the inputs: an autoencoder with a narrow middle"),
    _case("flecks-inverted", inverted_photos, "accuracy", 0.85, "cnn", "image", "images far off centre: nearly all pixels alike"),
    _case("votes-attention-from-zero", even_attention, "accuracy", 0.75, "transformer", "sequence",
          "attention starts as nothing; even weights are right here"),
    _case("waves-lstm-flat-targets", series_lstm, "r2", 0.93, "rnn", "sequence",
          "outputs [rows, 1], targets [rows], brought together by the loss"),
)  # fmt: skip
