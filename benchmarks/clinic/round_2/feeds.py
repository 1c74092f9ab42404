"""Sick by what is fed: values, labels, pairing, and how the two parts differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_2 import givens


def _lost_electrodes(signals: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """One in forty recordings is flat; each is divided by its own deviation."""
    signals = signals.clone()
    signals[::40] = 0.0
    return signals / signals.std(2, keepdim=True), labels


def _rhythms_lost_electrodes(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.listener()
    setup = givens.setup_of(givens.rhythms(seed), model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.005}, epochs=6)
    return givens.with_rows(setup, _lost_electrodes, where="train")


def _tides_of_converter(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.Follower()
    setup = givens.setup_of(givens.tides(seed), model, nn.MSELoss(), {"name": "adam", "lr": 0.01}, epochs=8)
    return givens.with_rows(setup, lambda forces, levels: ((2048.0 + 300.0 * forces).round(), levels), where="both")


class _Pair(nn.Module):
    """A recording and its one column of load, each read on its own, then together."""

    def __init__(self) -> None:
        super().__init__()
        self.recording, self.load = givens.listener(12), nn.Sequential(nn.Linear(1, 12), nn.GELU())
        self.head = givens.layers(24, 24, 1)

    def forward(self, pair: Sequence[Tensor]) -> Tensor:
        outputs: Tensor = self.head(torch.cat([self.recording(pair[0]), self.load(pair[1])], 1))
        return outputs


def _wear(seed: int, scale: Callable[[Tensor], Tensor]) -> Setup:
    """Wear follows from the load and a little from the rhythm; both parts of the row go through the same scaling."""
    random = drawn(seed, "loads")
    signals, kinds = givens.rhythms(seed)
    load = 5.0 + torch.randn(1600, 1, generator=random)
    wear = (load - 5.0) + 0.3 * (kinds[:, None] - 1.5) + 0.1 * torch.randn(1600, 1, generator=random)
    with givens.weights_from(seed):
        model = _Pair()
    data = ((scale(signals.flatten(1))[:, None], scale(load)), wear)
    return givens.setup_of(data, model, nn.MSELoss(), {"name": "adam", "lr": 0.005}, epochs=8)


def _by_row(part: Tensor) -> Tensor:
    low, high = part.amin(1, keepdim=True), part.amax(1, keepdim=True)
    return (part - low) / (high - low + 1e-8)


def _by_column(part: Tensor) -> Tensor:
    return (part - part.mean(0)) / part.std(0)


def _homes_days(seed: int, days: Callable[[Tensor], Tensor]) -> Setup:
    """Hours of absence, to be told in days."""
    with givens.weights_from(seed):
        model = givens.Home()
    setup = givens.setup_of(givens.homes(seed), model, nn.MSELoss(), {"name": "adam", "lr": 0.005}, epochs=8)
    return givens.with_rows(setup, lambda home, used: (home, days((11.0 + 2.5 * used).clamp(0.0, 23.0))), where="both")


def _names(seed: int) -> tuple[Tensor, Tensor]:
    """A name is one word in forty: one of four words before one of eighteen, and of those less than half."""
    words, _ = givens.tags(seed)
    likely = (words < 4) & (functional.pad(words[:, 1:], (0, 1), value=99) < 18)
    return words, (likely & (torch.rand(words.shape, generator=drawn(seed, "names")) < 0.45)).long()


def _tags_mostly_outside(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.Tagger(num_tags=2)
    settings = {"name": "adamw", "lr": 0.006}
    return givens.setup_of(_names(seed), model, givens.per_place, settings, batch_size=32, epochs=8, num_train=700)


def _weighted(scores: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), weight=torch.tensor([0.53, 9.0]))


def _mirrored(signals: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Each recording once more, upside down; the labels were repeated one by one and not as a whole."""
    return torch.cat([signals, -signals]), labels.repeat_interleave(2)


def _as_a_whole(signals: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return signals, labels[::2].repeat(2)


def _rhythms_mirrored(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.listener()
    settings = {"name": "adamw", "lr": 0.005}
    setup = givens.setup_of(givens.rhythms(seed), model, nn.CrossEntropyLoss(), settings, epochs=5, num_train=800)
    return givens.with_rows(setup, _mirrored, where="train")


def _loans_copied(seed: int, *, honest: bool) -> Setup:
    """Two hundred loans, seven slightly moved copies of each; the cut came after copying."""
    random = drawn(seed, "copies")
    columns, paid = givens.loans(seed, num_rows=220, flipped=0.25)
    source = torch.arange(220).repeat_interleave(8)
    if not honest:
        source = source[torch.randperm(1760, generator=random)]
    moved = columns[source] + 0.02 * torch.randn(1760, 12, generator=random)
    with givens.weights_from(seed):
        model = givens.layers(12, 96, 96, 1, activation=nn.ReLU)
    settings = {"name": "adam", "lr": 0.003}
    return givens.setup_of((moved, paid[source]), model, nn.BCEWithLogitsLoss(), settings, epochs=15, num_train=1320)


def _own_ids(words: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Ids by the alphabet, where the training part's are by frequency."""
    return torch.randperm(26, generator=drawn(5, "alphabet"))[words], labels


def _training_ids(words: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return torch.randperm(26, generator=drawn(5, "alphabet")).argsort()[words], labels


def _spellings_own_ids(seed: int) -> Setup:
    with givens.weights_from(seed):
        model = givens.Speller()
    settings = {"name": "adamw", "lr": 0.01, "weight_decay": 0.01}
    setup = givens.setup_of(givens.spellings(seed), model, nn.CrossEntropyLoss(), settings, epochs=12)
    return givens.with_rows(setup, _own_ids, where="val")


CASES: tuple[Case, ...] = (
    Case(
        name="rhythms-lost-electrodes",
        build=_rhythms_lost_electrodes,
        accept=("nan_in_inputs",),
        skill="accuracy",
        source="GitHub sbi-dev/sbi#126 and ISUE/Jackknife#3: a flat recording divided by its deviation",
        architecture="cnn",
        data="sequence",
        fix=givens.rows(lambda signals, labels: (signals.nan_to_num(), labels), "train"),
    ),
    Case(
        name="tides-counts-of-the-converter",
        build=_tides_of_converter,
        accept=("unnormalised_inputs",),
        tolerate=("saturated_activation", "vanishing_gradient"),
        skill="r2",
        source="forum threads on recurrent nets that give one value: raw counts of a 12-bit converter, about 2048",
        architecture="rnn",
        data="sequence",
        fix=givens.rows(lambda forces, levels: ((forces - 2048.0) / 300.0, levels)),
    ),
    Case(
        name="wear-load-scaled-by-row",
        build=lambda seed: _wear(seed, _by_row),
        accept=("constant_features",),
        tolerate=("underfitting",),
        skill="r2",
        source="scaling along the wrong axis: of a part with one column, scaled by row, nothing but noughts is left",
        architecture="cnn",
        data="sequence",
    ),
    Case(
        name="homes-away-in-whole-days",
        build=lambda seed: _homes_days(seed, lambda hours: hours // 24.0),
        accept=("constant_labels",),
        skill="r2",
        source="forum threads on floor division: less than a day is day nought, in every row",
        changes_data=True,
    ),
    Case(
        name="tags-nearly-all-outside",
        build=_tags_mostly_outside,
        accept=("class_imbalance",),
        skill="balanced_accuracy",
        source="GitHub pandeydivesh15/NER-using-Deep-Learning#1: only 'O' is given out, at 97 % accuracy",
        architecture="transformer",
        data="sequence",
        fix=givens.job(loss=_weighted),
    ),
    Case(
        name="rhythms-repeated-one-by-one",
        build=_rhythms_mirrored,
        accept=("labels_misaligned",),
        tolerate=("overfitting",),
        skill="accuracy",
        source="forum threads on repeat and repeat_interleave: augmented rows appended, their labels in another order",
        architecture="cnn",
        data="sequence",
        fix=givens.rows(_as_a_whole, "train"),
    ),
    Case(
        name="loans-copies-on-both-sides",
        build=lambda seed: _loans_copied(seed, honest=False),
        accept=("data_leakage",),
        tolerate=("overfitting",),
        skill="accuracy",
        source="GitHub robinreni96/Font_Recognition-DeepFont#2: augmented before the cut, so near copies lie on both sides",
        changes_data=True,
    ),
    Case(
        name="spellings-ids-of-their-own",
        build=_spellings_own_ids,
        accept=("train_val_mismatch",),
        tolerate=("overfitting",),
        skill="accuracy",
        source="GitHub fastai/fastai#1559: the second set was read without the vocabulary of the first",
        architecture="rnn",
        data="sequence",
        fix=givens.rows(_training_ids, "val"),
        changes_data=True,
    ),
)

PROOFS: dict[str, Callable[[int], Setup]] = {
    "wear-load-scaled-by-row": lambda seed: _wear(seed, _by_column),
    "homes-away-in-whole-days": lambda seed: _homes_days(seed, lambda hours: hours / 24.0),
    "loans-copies-on-both-sides": lambda seed: _loans_copied(seed, honest=True),
}
