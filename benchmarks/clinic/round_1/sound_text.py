"""Healthy readers of sequences that look odd: losses held up by entropy, padding, held vectors, shared blocks, ordered series."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_1.sound import coin, cut, normal, setup_of, sound, tokens, uniform

recurrent = partial(sound, architecture="rnn", data="sequence")
attending = partial(sound, architecture="transformer", data="sequence")
sliding = partial(sound, architecture="cnn", data="sequence")


def per_place(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy over places; those labelled -100 don't count."""
    return functional.cross_entropy(outputs.flatten(0, 1), labels.flatten())


def chain(seed: int, purpose: str, chances: Tensor, length: int) -> Tensor:
    """Letters [rows, length]: each is drawn by the two before it, from chances [rows, kinds, kinds, kinds]."""
    generator = drawn(seed, purpose)
    every = torch.arange(len(chances))
    letters = list(torch.randint(chances.shape[-1], (2, len(chances)), generator=generator))
    while len(letters) < length:
        letters.append(torch.multinomial(chances[every, letters[-2], letters[-1]], 1, generator=generator)[:, 0])
    return torch.stack(letters, 1)


class Speller(nn.Module):
    """The next letter at each place; one table embeds letters and scores them."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(6, width)
        self.reader = nn.GRU(width, width, batch_first=True)
        nn.init.normal_(self.letters.weight, std=width**-0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.reader(self.letters(inputs))
        return functional.linear(states, self.letters.weight)


@recurrent("letters-by-chance", "next letters of a chain: the loss can't fall below its entropy", skill="accuracy", floor=0.45)
def letters(seed: int) -> Setup:
    chances = (1.3 * normal(0, "law", 6, 6, 6)).softmax(-1).expand(900, -1, -1, -1)
    drawn_letters = chain(seed, "letters", chances, 21)
    split = cut(600, drawn_letters[:, :-1], drawn_letters[:, 1:])
    return setup_of(split, Speller(width=24), per_place, {"name": "adam", "lr": 5e-3}, batch_size=20, epochs=8)


class Tagger(nn.Module):
    """A tag per word, read from both sides."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(31, width, padding_idx=0)
        self.reader = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.reader(self.words(inputs))
        outputs: Tensor = self.head(states)
        return outputs


@recurrent("tags-padded", "a fifth of the places are padding, labelled -100", skill="accuracy", floor=0.7)
def padded(seed: int) -> Setup:
    words = 1 + tokens(seed, "words", 30, 1100, 14)
    before = functional.pad((words[:, :-1] % 3 == 0).long(), (1, 0))
    tags = (words + before) % 3
    gone = torch.arange(14) >= tokens(seed, "lengths", 7, 1100, 1) + 8
    split = cut(600, words.masked_fill(gone, 0), tags.masked_fill(gone, -100))
    return setup_of(split, Tagger(width=16), per_place, {"name": "adam", "lr": 5e-3}, batch_size=20, epochs=8)


@sound("reviews-bag-of-words", "a fifth of the verdicts is chance", skill="accuracy", floor=0.72, data="sequence")
def reviews(seed: int) -> Setup:
    words = (50 * uniform(seed, "words", 3000, 12).square()).long()
    worth = 0.45 * normal(0, "worth", 50)
    labels = coin(seed, "labels", worth[words].sum(1))
    model = nn.Sequential(nn.EmbeddingBag(50, 8, mode="mean"), nn.Linear(8, 2))
    settings = {"name": "adagrad", "lr": 0.1}
    return setup_of(cut(2000, words, labels), model, nn.CrossEntropyLoss(), settings, batch_size=32, epochs=12)


class Reader(nn.Module):
    """Norms before attention; one block, used again and again."""

    def __init__(self, num_kinds: int, length: int, num_outputs: int, *, width: int, times: int, tagging: bool) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(num_kinds, width), nn.Parameter(0.3 * torch.randn(length, width))
        self.block = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, num_outputs)
        self.times, self.tagging = times, tagging

    def forward(self, inputs: Tensor) -> Tensor:
        states = self.words(inputs) + self.places
        for _ in range(self.times):
            states = self.block(states)
        states = self.norm(states)
        outputs: Tensor = self.head(states if self.tagging else states.mean(1))
        return outputs


@attending("orders-which-first", "attention with norms first at rate 0.001, no warmup", skill="accuracy", floor=0.93)
def which_first(seed: int) -> Setup:
    words = 2 + tokens(seed, "words", 8, 2300, 10)
    pair = uniform(seed, "places", 2300, 10).argsort(1)[:, :2]
    words = words.scatter(1, pair, torch.tensor([0, 1]).expand(2300, 2))
    labels = (pair[:, 0] < pair[:, 1]).long()
    model = Reader(10, 10, 2, width=32, times=1, tagging=False)
    return setup_of(cut(1500, words, labels), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 1e-3}, epochs=15)


@attending("echoes-of-the-first", "one block runs three times; a sixth of the places are yes", skill="accuracy", floor=0.95)
def echoes(seed: int) -> Setup:
    words = tokens(seed, "words", 6, 1400, 9)
    labels = (words == words[:, :1]).long()
    model = Reader(6, 9, 2, width=16, times=3, tagging=True)
    return setup_of(cut(900, words, labels), model, per_place, {"name": "adamw", "lr": 3e-3}, batch_size=30, epochs=10)


class Reservoir(nn.Module):
    """An LSTM whose forget gates begin open."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.reader, self.head = nn.LSTM(1, width, batch_first=True), nn.Linear(width, 1)
        with torch.no_grad():
            self.reader.get_parameter("bias_ih_l0")[width : 2 * width] = 1.0
            self.reader.get_parameter("bias_hh_l0")[width : 2 * width] = 0.0

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.reader(inputs)[0][:, -1])
        return outputs


@recurrent("reservoir-open-gates", "forget gates begin at one; gradients are clipped by nobody", skill="r2", floor=0.85)
def reservoir(seed: int) -> Setup:
    rain = normal(seed, "rain", 1400, 18)
    level = torch.zeros(1400)
    for step in range(18):
        level = (0.92 * level + 0.5 * rain[:, step]).clamp(-1.2, 1.2)
    targets = (level + 0.1 * normal(seed, "gauge", 1400))[:, None]
    return setup_of(cut(900, rain[..., None], targets), Reservoir(width=16), nn.MSELoss(), {"name": "adam", "lr": 0.01})


class Vectors(nn.Module):
    """Word vectors from elsewhere, held, under a window of three that learns."""

    def __init__(self, vectors: Tensor, *, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vectors.shape[0], vectors.shape[1], _weight=vectors, _freeze=True)
        self.window, self.head = nn.Conv1d(vectors.shape[1], width, 3, padding=1), nn.Linear(width, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found = functional.gelu(self.window(self.words(inputs).transpose(1, 2)))
        outputs: Tensor = self.head(found.mean(2))
        return outputs


@sliding("topics-held-vectors", "word vectors are frozen and not in the optimizer", skill="accuracy", floor=0.85)
def topics(seed: int) -> Setup:
    meaning = normal(0, "meaning", 200, 10)
    labels = tokens(seed, "topics", 3, 1800)
    liking = (0.3 * normal(0, "liking", 3, 10) @ meaning.T).softmax(1)
    words = torch.multinomial(liking[labels], 12, replacement=True, generator=drawn(seed, "words"))
    model = Vectors(meaning + 0.3 * normal(0, "blur", 200, 10), width=16)
    settings = {"name": "adam", "lr": 3e-3, "params": [*model.window.parameters(), *model.head.parameters()]}
    return setup_of(cut(1000, words, labels), model, nn.CrossEntropyLoss(), settings, epochs=10)


@sliding("load-next-hour-in-order", "windows of one series in order of time, never shuffled", skill="r2", floor=0.8)
def load(seed: int) -> Setup:
    hours = torch.arange(2400.0)
    drift = [torch.zeros(())]
    for shock in normal(seed, "shocks", 2399):
        drift.append(0.7 * drift[-1] + 0.25 * shock)
    series = torch.sin(hours * torch.pi / 12) * (1 + 0.3 * torch.sin(hours * torch.pi / 84)) + torch.stack(drift)
    windows = series.unfold(0, 25, 1)
    model = nn.Sequential(nn.Conv1d(1, 8, 5), nn.Tanh(), nn.Flatten(), nn.Linear(160, 1))
    split = cut(1800, windows[:, None, :24], windows[:, 24:])
    return setup_of(split, model, nn.MSELoss(), {"name": "adam", "lr": 3e-3}, batch_size=30, epochs=12, shuffle=False)


@sliding("returns-quarter-explained", "a weak echo of the last days, in order of time", skill="r2", floor=0.15)
def returns(seed: int) -> Setup:
    days = [torch.zeros(()), torch.zeros(())]
    for shock in normal(seed, "shocks", 2998):
        days.append(0.55 * days[-1] - 0.35 * days[-2] + shock)
    windows = torch.stack(days).unfold(0, 9, 1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 1))
    split = cut(1900, windows[:, None, :8], windows[:, 8:])
    return setup_of(split, model, nn.HuberLoss(), {"name": "sgd", "lr": 0.01}, epochs=8, shuffle=False)


@sliding("hum-of-three-pumps", "batches come out even under BatchNorm; sound is near its noise", skill="accuracy", floor=0.8)
def pumps(seed: int) -> Setup:
    pump = tokens(seed, "pumps", 3, 1440)
    phase = 6.3 * uniform(seed, "phases", 1440, 1)
    speeds = torch.tensor([0.55, 0.8, 1.1])[pump][:, None]
    hum = 0.75 * torch.sin(speeds * torch.arange(32.0) + phase) + normal(seed, "noise", 1440, 32)
    first = nn.Sequential(nn.Conv1d(1, 12, 9, padding=4), nn.BatchNorm1d(12), nn.SiLU())
    model = nn.Sequential(first, nn.Conv1d(12, 12, 5), nn.SiLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(12, 3))
    return setup_of(cut(640, hum[:, None], pump), model, nn.CrossEntropyLoss(), {"name": "adamw", "lr": 5e-3}, epochs=15)


class Notes(Dataset[tuple[dict[str, Tensor], Tensor]]):
    """Padded words with their mask, and the mean worth of the words."""

    def __init__(self, seed: int, purpose: str, num_rows: int) -> None:
        self.words = tokens(seed, purpose, 40, num_rows, 10)
        self.mask = torch.arange(10) < 3 + tokens(seed, purpose + "-lengths", 8, num_rows, 1)
        worth = 2 * (normal(0, "worth", 40)[self.words] * self.mask).sum(1) / self.mask.sum(1)
        self.worth = worth + 0.6 * normal(seed, purpose + "-noise", num_rows)

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, place: int) -> tuple[dict[str, Tensor], Tensor]:
        return {"words": self.words[place], "mask": self.mask[place]}, self.worth[place]


class Pooler(nn.Module):
    """Attention of one query over the words that are there."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.words, self.query, self.head = nn.Embedding(40, width), nn.Linear(width, 1), nn.Linear(width, 1)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        words = self.words(inputs["words"])
        shares = self.query(words)[..., 0].masked_fill(~inputs["mask"], float("-inf")).softmax(1)
        outputs: Tensor = self.head((shares[..., None] * words).sum(1))[:, 0]
        return outputs


@attending("notes-masked-mean", "inputs are a dict; scores of padding are minus infinity", skill="r2", floor=0.6)
def notes(seed: int) -> Setup:
    split = Notes(seed, "train", 1200), Notes(seed, "val", 700)
    return setup_of(split, Pooler(width=12), nn.SmoothL1Loss(), {"name": "adam", "lr": 7e-3}, epochs=12)


CASES: tuple[Case, ...] = (letters, padded, reviews, which_first, echoes, reservoir, topics, load, returns, pumps, notes)
