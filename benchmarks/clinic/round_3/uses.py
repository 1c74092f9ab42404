"""Sick by how a sound network is used: its rate, its epochs, and the data it is given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_3 import material
from benchmarks.clinic.round_3.material import Dial, Folder, Forecast, Letters, Split, cut


def _each_place(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def _strands_at_a_tenth(seed: int) -> Setup:
    settings = {"name": "rmsprop", "lr": 0.1}
    return material.setup(material.strands(seed), material.Bases, _each_place, settings, seed=seed, epochs=10)


def _beats_at_a_ten_thousandth(seed: int) -> Setup:
    split = cut(*material.beats(seed, noise=0.25), 800)
    settings = {"name": "sgd", "lr": 1e-4}
    return material.setup(split, material.pulses, nn.CrossEntropyLoss(), settings, seed=seed, epochs=10)


def _names_twice(seed: int) -> Setup:
    settings = {"name": "adam", "lr": 0.003}
    build = partial(Letters, nn.LSTM, 2)
    return material.setup(material.names(seed), build, nn.CrossEntropyLoss(), settings, seed=seed, epochs=2)


def _raw_weather(seed: int) -> Setup:
    settings = {"name": "adam", "lr": 0.005}
    build = partial(Forecast, 3, nn.LSTM)
    return material.setup(material.weather(seed), build, nn.BCEWithLogitsLoss(), settings, seed=seed, epochs=12)


def _standard_weather(setup: Setup) -> Setup:
    readings = setup["train"].tensors[0].flatten(0, 1)
    level, spread = readings.mean(0), readings.std(0)

    def scaled(data: TensorDataset) -> TensorDataset:
        return TensorDataset((data.tensors[0] - level) / spread, data.tensors[1])

    return {**setup, "train": scaled(setup["train"]), "val": scaled(setup["val"])}


class _Message(nn.Module):
    """The mean of embedded words, and a little network over it."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(120, 16, mode="mean")
        self.head = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))

    def forward(self, words: Tensor) -> Tensor:
        scores: Tensor = self.head(self.words(words))
        return scores.squeeze(1)


def _few_complaints(seed: int) -> Setup:
    """Of 2,000 messages one in sixteen is a complaint; its words are only somewhat likelier ones."""
    random = drawn(seed, "messages")
    complaints = torch.rand(2800, generator=random) < 1 / 16
    chances = torch.ones(2, 120)
    chances[1, :30] = 2.4
    words = torch.multinomial(chances[complaints.long()], 16, replacement=True, generator=random)
    settings = {"name": "adam", "lr": 0.003}
    split = cut(words, complaints.float(), 2000)
    return material.setup(split, _Message, nn.BCEWithLogitsLoss(), settings, seed=seed, epochs=12, batch_size=64)


def _clocks_in_folders(seed: int, order: Callable[[int], list[int]]) -> Setup:
    """Pictures are read in the order of `order`, labels in that of their numbers; validation's few are in order."""
    split, turns = material.clocks(seed)
    quarters = (turns * 8).long()
    split = Split((split.train[0][order(900)], quarters[:900]), (split.val[0], quarters[900:]))
    settings = {"name": "adam", "lr": 0.003}
    return material.setup(split, lambda: Dial(8), nn.CrossEntropyLoss(), settings, seed=seed, epochs=10, dataset=Folder)


def _as_text(num_files: int) -> list[int]:
    return sorted(range(num_files), key=str)


def _colours_turned(seed: int, *, turned: bool = True) -> Setup:
    """Traffic lights on grey; red, amber, green. Validation is read with blue first."""
    random = drawn(seed, "lights")
    kinds = torch.randint(3, (1100,), generator=random)
    paint = torch.tensor([[0.9, 0.15, 0.1], [0.9, 0.6, 0.1], [0.15, 0.8, 0.45]])[kinds]
    grid = torch.arange(10).float()
    rows, columns = 2.5 + 5 * torch.rand(2, 1100, 1, generator=random)
    lamp = torch.exp(-((grid - rows) ** 2 / 3))[:, :, None] * torch.exp(-((grid - columns) ** 2 / 3))[:, None, :]
    grey = 0.4 + 0.1 * torch.randn(1100, 3, 10, 10, generator=random)
    pictures = grey * (1 - lamp[:, None]) + paint[:, :, None, None] * lamp[:, None]
    split = cut(pictures, kinds, 800)
    if turned:
        split = Split(split.train, (split.val[0].flip(1), split.val[1]))
    settings = {"name": "adamw", "lr": 0.003}
    return material.setup(split, _lamps, nn.CrossEntropyLoss(), settings, seed=seed, epochs=8, dataset=Folder)


def _lamps() -> nn.Module:
    body = [nn.Conv2d(3, 12, 3, padding=1), nn.GroupNorm(3, 12), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(12, 3))


def _beats_copied(seed: int, *, before: bool = True) -> Setup:
    """Each of 240 signals in five slightly shaken copies; the cut into training and validation before or after the copying."""
    random = drawn(seed, "copies")
    signals, kinds = material.beats(seed, 240, noise=0.6)
    order = torch.arange(240).repeat_interleave(5)
    copies = signals[order] * (1 + 0.05 * torch.randn(1200, 1, 1, generator=random))
    copies = copies + 0.05 * torch.randn(copies.shape, generator=random)
    places = torch.randperm(1200, generator=random) if before else torch.arange(1200)
    settings = {"name": "adam", "lr": 0.003}
    split = cut(copies[places], kinds[order][places], 950)
    return material.setup(split, material.pulses, nn.CrossEntropyLoss(), settings, seed=seed, epochs=15)


def _language_after_language(seed: int) -> Setup:
    split = material.names(seed, 1500)
    order = torch.argsort(split.train[1], stable=True)
    split = Split((split.train[0][order], split.train[1][order]), split.val)
    settings = {"name": "adam", "lr": 0.004}
    return material.setup(split, Letters, nn.CrossEntropyLoss(), settings, seed=seed, epochs=12, shuffle=False)


CASES: tuple[Case, ...] = (
    Case(
        "strands-rmsprop-at-a-tenth",
        _strands_at_a_tenth,
        ("lr_too_high",),
        "accuracy",
        "a Keras script's SGD(0.1) exchanged for RMSprop with the rate left as it was",
        architecture="cnn",
        data="sequence",
        tolerate=("unstable_gradient",),
        fix=lambda setup: {**setup, "optimizer": {"name": "rmsprop", "lr": 0.003}},
    ),
    Case(
        "beats-sgd-at-a-ten-thousandth",
        _beats_at_a_ten_thousandth,
        ("lr_too_low",),
        "accuracy",
        "questions on a loss that hardly moves: SGD(lr=1e-4), a rate often seen with Adam",
        architecture="cnn",
        data="sequence",
        tolerate=("too_few_epochs", "underfitting"),
        fix=lambda setup: {**setup, "optimizer": {"name": "sgd", "lr": 0.1}},
    ),
    Case(
        "names-two-passes-of-an-lstm",
        _names_twice,
        ("too_few_epochs",),
        "accuracy",
        "forum threads whose LSTM is at chance: a thousand rows, twice, about sixty steps in all",
        architecture="rnn",
        data="sequence",
        tolerate=("underfitting", "lr_too_low"),
        fix=lambda setup: {**setup, "epochs": 20},
    ),
    Case(
        "weather-in-pascal-and-kelvin",
        _raw_weather,
        ("unnormalised_inputs",),
        "accuracy",
        "an LSTM on station readings as they come: every gate is shut or open, it says the same for all rows",
        architecture="rnn",
        data="sequence",
        tolerate=("saturated_activation", "vanishing_gradient"),
        fix=_standard_weather,
        changes_data=True,
    ),
    Case(
        "messages-few-complaints",
        _few_complaints,
        ("class_imbalance",),
        "balanced_accuracy",
        "PyTorch forum 145203, predictions stuck at zero where label 1 is rare",
        fix=lambda setup: {**setup, "loss": nn.BCEWithLogitsLoss(pos_weight=torch.tensor(15.0))},
    ),
    Case(
        "clocks-file-names-sorted-as-text",
        lambda seed: _clocks_in_folders(seed, _as_text),
        ("labels_misaligned",),
        "accuracy",
        "pictures by sorted(os.listdir()), 0, 1, 10, 100, 101; labels by the rows of a table, 0, 1, 2, 3",
        architecture="cnn",
        data="image",
        tolerate=("overfitting",),
        changes_data=True,
    ),
    Case(
        "lights-blue-first-in-validation",
        _colours_turned,
        ("train_val_mismatch",),
        "accuracy",
        "StackOverflow on cv2.imread against keras' load_img: trained on red, green, blue, judged on blue, green, red",
        architecture="cnn",
        data="image",
        changes_data=True,
    ),
    Case(
        "beats-copied-before-the-cut",
        _beats_copied,
        ("data_leakage",),
        "accuracy",
        "Cross Validated 175504: augmented first, then cut at random into training and validation",
        architecture="cnn",
        data="sequence",
        tolerate=("overfitting",),
        changes_data=True,
    ),
    Case(
        "names-language-after-language",
        _language_after_language,
        ("unshuffled_data",),
        "accuracy",
        "the tutorial on names, one file for each language, fed through a loader without shuffling",
        architecture="rnn",
        data="sequence",
        fix=lambda setup: {**setup, "shuffle": True},
    ),
)

PROOFS: dict[str, Callable[[int], Setup]] = {
    "clocks-file-names-sorted-as-text": lambda seed: _clocks_in_folders(seed, lambda num_files: list(range(num_files))),
    "lights-blue-first-in-validation": lambda seed: _colours_turned(seed, turned=False),
    "beats-copied-before-the-cut": lambda seed: _beats_copied(seed, before=False),
}
