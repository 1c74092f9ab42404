"""Patients whose rows are at fault: shares, order, pairing, split."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.held_out import images, sequences, tables
from benchmarks.clinic.held_out.kit import Pair, changed_rows, made, parted, shuffled_rows, swapped
from benchmarks.clinic.held_out.models import TokenReader, convnet, stacked


def rare_fraud(seed: int) -> Setup:
    data = parted(tables.fraud(seed, rows=3600, share=0.03, gap=1.0), 1800)
    return made(seed, lambda: stacked([10, 16, 2]), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 3e-3}, epochs=8)


def rare_rings(seed: int) -> Setup:
    """Noisy pictures, few of which are rings or squares."""
    pictures, labels = images.hollows(seed, rows=4200)
    kept = (labels == 0) | (torch.arange(4200) % 40 == 3) | (torch.arange(4200) >= 3600)
    pictures = pictures + 0.9 * torch.randn(pictures.shape, generator=drawn(seed, "held_out.grain"))
    data = parted((pictures[kept], labels[kept]), int(kept[:3600].sum()))
    return made(seed, lambda: convnet(1, 3, widths=(8, 16)), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 3e-3}, epochs=10)


def _weighed(setup: Setup) -> Setup:
    """A fix: classes weigh by how rare they are."""
    counts = setup["train"].tensors[1].bincount().float()
    return {**setup, "loss": nn.CrossEntropyLoss(weight=counts.sum() / counts / len(counts))}


def _shuffled_apart(seed: int, *, sick: bool) -> Setup:
    """Pictures were shuffled, labels were not."""
    pictures, labels = images.strokes(seed)
    order = torch.randperm(600, generator=drawn(seed, "held_out.apart"))
    learnt = labels[:600][order] if sick else labels[:600]
    data = TensorDataset(pictures[:600], learnt), TensorDataset(pictures[600:], labels[600:])
    return made(seed, lambda: convnet(1, 5, flat=96), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 3e-3}, epochs=12)


def off_by_two(seed: int) -> Setup:
    """Two header lines less on one side: targets belong to the rows two further down."""
    inputs, targets = tables.friedman(seed)
    data = TensorDataset(inputs[:700], targets[:700].roll(2, 0)), TensorDataset(inputs[700:], targets[700:])
    return made(seed, lambda: stacked([10, 32, 1]), data, nn.MSELoss(), {"name": "adam", "lr": 5e-3}, epochs=20)


def class_by_class(seed: int) -> Setup:
    inputs, labels = tables.bundled(seed, "digits")
    order = torch.cat([labels[:1300].argsort(), torch.arange(1300, len(labels))])
    data = parted((inputs[order], labels[order]), 1300)
    optimizer = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
    return made(
        seed, lambda: stacked([64, 48, 10]), data, nn.CrossEntropyLoss(), optimizer, batch_size=32, epochs=5, shuffle=False
    )


def low_to_high(seed: int) -> Setup:
    inputs, targets = tables.reaction(seed)
    order = torch.cat([targets[:700, 0].argsort(), torch.arange(700, 1000)])
    data = parted((inputs[order], targets[order]), 700)
    optimizer = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    return made(seed, lambda: stacked([6, 48, 48, 1]), data, nn.MSELoss(), optimizer, batch_size=50, epochs=25, shuffle=False)


def grown_before_split(seed: int) -> Setup:
    """Rows were doubled to have more of them, and split after that."""
    inputs, labels = tables.annuli(seed, rows=450, classes=2, extra=12)
    rows = shuffled_rows((inputs.repeat(3, 1), tables.flipped(labels, 0.2, seed).repeat(3)), seed)
    optimizer = {"name": "adam", "lr": 5e-3}
    return made(seed, lambda: stacked([14, 96, 96, 2]), parted(rows, 1000), nn.CrossEntropyLoss(), optimizer, epochs=30)


def tail_of_both(seed: int) -> Setup:
    """Validation was cut from the end, training wasn't cut at all: shuffled, but whole."""
    tokens, labels = sequences.ballots(seed, rows=900)
    whole = shuffled_rows((tokens, labels), seed)
    data: Pair = (TensorDataset(*whole), TensorDataset(tokens[700:], labels[700:]))
    return made(seed, lambda: TokenReader(5, 5), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=10)


def _only_unseen(setup: Setup) -> Setup:
    """A fix: training rows that are among the validation rows go."""
    seen = {tuple(row.flatten().tolist()) for row in setup["val"].tensors[0]}
    inputs, targets = setup["train"].tensors
    kept = torch.tensor([tuple(row.flatten().tolist()) not in seen for row in inputs])
    return {**setup, "train": TensorDataset(inputs[kept], targets[kept])}


def scaled_in_training_only(seed: int) -> Setup:
    inputs, labels = tables.bundled(seed, "wine", raw=True)
    mean, deviation = inputs[:120].mean(0), inputs[:120].std(0)
    data = TensorDataset((inputs[:120] - mean) / deviation, labels[:120]), TensorDataset(inputs[120:], labels[120:])
    return made(
        seed, lambda: stacked([13, 16, 3]), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, batch_size=16, epochs=20
    )


def _scaled_alike(setup: Setup) -> Setup:
    """A fix: validation rows lie in the columns' scale of this data set as training rows do."""
    inputs, labels = setup["val"].tensors
    everything = tables.bundled(0, "wine", raw=True)[0]
    return {**setup, "val": TensorDataset((inputs - everything.mean(0)) / everything.std(0), labels)}


def negatives_to_judge(seed: int) -> Setup:
    """Validation pictures are dark on bright, training pictures bright on dark."""
    pictures, labels = images.strokes(seed)
    data = TensorDataset(pictures[:600], labels[:600]), TensorDataset(1.2 - pictures[600:], labels[600:])
    return made(seed, lambda: convnet(1, 5, flat=96), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 3e-3}, epochs=10)


CASES: tuple[Case, ...] = (
    Case(
        "fraud-never-called", rare_fraud, ("class_imbalance",), "balanced_accuracy",
        "pedrogsfernandes/thesis#18: classifiers biased towards the majority class", fix=_weighed,
    ),
    Case(
        "hollows-mostly-discs", rare_rings, ("class_imbalance",), "balanced_accuracy",
        "emadeldeen24/AttnSleep#18: the model gives the majority class to nearly all inputs",
        architecture="cnn", data="image", tolerate=("train_val_mismatch",), fix=_weighed,
    ),
    Case(
        "strokes-shuffled-apart", lambda seed: _shuffled_apart(seed, sick=True), ("labels_misaligned",), "accuracy",
        "udacity/sdc-issue-reports#1326: features and labels shuffled in different orders",
        architecture="cnn", data="image", tolerate=("overfitting", "train_val_mismatch"), changes_data=True,
    ),
    Case(
        "law-off-by-two", off_by_two, ("labels_misaligned",), "r2",
        "ZhengyuZhao/Targeted-Transfer#4: two lists in different order, images don't match labels",
        tolerate=("overfitting",), changes_data=True, fix=changed_rows(lambda x, y: (x, y.roll(-2, 0)), parts=("train",)),
    ),
    Case(
        "digits-class-by-class", class_by_class, ("unshuffled_data",), "accuracy",
        "Deci-AI/super-gradients#416: the loader doesn't shuffle, batches hold a single class", fix=swapped(shuffle=True),
    ),
    Case(
        "reaction-low-to-high", low_to_high, ("unshuffled_data",), "r2",
        "zalandoresearch/fashion-mnist#5: data sorted by target; who forgets to shuffle fails",
        tolerate=("lr_too_high", "unstable_gradient"), fix=swapped(shuffle=True),
    ),
    Case(
        "grown-before-the-split", grown_before_split, ("data_leakage",), "accuracy",
        "MakazhanAlpamys/Soup#680: oversampled first, split later; validation rows are training rows",
        changes_data=True, tolerate=("overfitting",), fix=_only_unseen,
    ),
    Case(
        "trained-on-the-whole", tail_of_both, ("data_leakage",), "accuracy",
        "ratschlab/aestetik#12: the training loader wraps the full set, validation rows leak into it",
        architecture="rnn", data="sequence", changes_data=True, fix=_only_unseen,
    ),
    Case(
        "wine-scaled-in-training-only", scaled_in_training_only, ("train_val_mismatch",), "accuracy",
        "JeasunLok/ResNet-pytorch#1: normalised in the training set but not in the testing set",
        tolerate=("unnormalised_inputs", "overfitting"), changes_data=True, fix=_scaled_alike,
    ),
    Case(
        "strokes-judged-on-negatives", negatives_to_judge, ("train_val_mismatch",), "accuracy",
        "PolymathicAI/the_well#68: the transform isn't applied to validation data",
        architecture="cnn", data="image", tolerate=("overfitting",), changes_data=True,
        fix=changed_rows(lambda x, y: (1.2 - x, y), parts=("val",)),
    ),
)  # fmt: skip

PROOFS: dict[str, Callable[[int], Setup]] = {
    "strokes-shuffled-apart": lambda seed: _shuffled_apart(seed, sick=False),
}
