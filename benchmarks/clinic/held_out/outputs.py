"""Patients whose last layer doesn't suit loss or targets: activations and softmaxes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.held_out import images, sequences, tables
from benchmarks.clinic.held_out.kit import made, mended, parted, swapped
from benchmarks.clinic.held_out.models import SeriesReader, TokenReader, Transformer, WideDeep, convnet, stacked


class Ending(nn.Module):
    """A body and a function of its outputs, as one writes it in `forward`."""

    def __init__(self, body: nn.Module, end: Any) -> None:
        super().__init__()
        self.body, self.end = body, end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.body(x))


def _same(outputs: Tensor) -> Tensor:
    return outputs


def _plain(model: Any) -> None:
    model.end = _same


def _row_softmax(outputs: Tensor) -> Tensor:
    return F.softmax(outputs, dim=-1)


def _column_softmax(outputs: Tensor) -> Tensor:
    return F.softmax(outputs, dim=0)


def cut_below_zero(seed: int) -> Setup:
    data = parted(tables.friedman(seed, rows=1200), 900)
    return made(
        seed, lambda: Ending(stacked([10, 48, 1]), torch.relu), data, nn.MSELoss(), {"name": "adam", "lr": 5e-3}, epochs=30
    )


def squashed_sum(seed: int) -> Setup:
    series, totals = sequences.adding(seed, length=8)
    net = lambda: Ending(SeriesReader(2, 1, kind=nn.GRU), torch.tanh)  # noqa: E731
    return made(seed, net, parted((series, 3 * totals), 1100), nn.MSELoss(), {"name": "adam", "lr": 0.01}, epochs=20)


def sigmoid_for_degrees(seed: int) -> Setup:
    pictures, places = images.lamps(seed)
    net = lambda: nn.Sequential(convnet(1, 2, widths=(8, 16), flat=144), nn.Sigmoid())  # noqa: E731
    return made(seed, net, parted((pictures, places + 1.0), 600), nn.SmoothL1Loss(), {"name": "adam", "lr": 5e-3}, epochs=15)


def raw_under_bce(seed: int) -> Setup:
    tokens, labels = sequences.which_first(seed)
    data = parted((tokens, labels.float()[:, None]), 900)
    net = lambda: Transformer(8, 1, length=14, depth=1)  # noqa: E731
    return made(seed, net, data, nn.BCELoss(), {"name": "adam", "lr": 5e-3}, epochs=10)


def raw_under_nll(seed: int) -> Setup:
    data = parted(images.hollows(seed), 600)
    return made(
        seed, lambda: convnet(1, 3, norm="group"), data, nn.NLLLoss(), {"name": "sgd", "lr": 0.05, "momentum": 0.9}, epochs=10
    )


def own_binary_entropy(p: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy of probabilities, by hand."""
    return -(truth * torch.log(p + 1e-7) + (1 - truth) * torch.log(1 - p + 1e-7)).mean()


def raw_under_own_entropy(seed: int) -> Setup:
    inputs, labels = tables.bundled(seed, "breast_cancer")
    data = parted((inputs, labels.float()), 420)
    net = lambda: nn.Sequential(stacked([30, 16, 1]), nn.Flatten(0))  # noqa: E731
    return made(seed, net, data, own_binary_entropy, {"name": "adam", "lr": 5e-3}, epochs=15)


def doubled_softmax_digits(seed: int) -> Setup:
    data = parted(tables.bundled(seed, "digits"), 1300)
    net = lambda: Ending(stacked([64, 48, 10]), _row_softmax)  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.05, "momentum": 0.5}, epochs=15)


class Judged(nn.Module):
    """A convolutional net whose probabilities come out of `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.see = convnet(1, 5, flat=96)
        self.finish: Any = _row_softmax

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.see(x))


def _unfinished(model: Any) -> None:
    model.finish = _same


def doubled_softmax_strokes(seed: int) -> Setup:
    data = parted(images.strokes(seed), 600)
    return made(seed, Judged, data, nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.05, "momentum": 0.8}, epochs=8)


def doubled_softmax_memory(seed: int) -> Setup:
    data = parted(sequences.first_word(seed, words=8, length=8), 800)
    net = lambda: nn.Sequential(TokenReader(8, 8), nn.Softmax(dim=1))  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 2e-3}, epochs=12)


def _drop_last(model: Any) -> None:
    model[-1] = nn.Identity()


def across_the_batch(seed: int) -> Setup:
    data = parted(tables.clusters(seed, classes=8, spread=1.3), 900)
    net = lambda: Ending(WideDeep(16, 32, 8), _column_softmax)  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.1, "momentum": 0.9}, epochs=12)


def _without_softmax(model: Any) -> None:
    model.end = _same


def over_the_tokens(seed: int) -> Setup:
    """Log-probabilities of every token, normalised over places in place of words."""

    def likelihood(log_p: Tensor, tokens: Tensor) -> Tensor:
        return -log_p.gather(2, tokens[:, :, None]).mean()

    net = lambda: Ending(Transformer(12, 12, length=7, each=True, depth=1), nn.LogSoftmax(dim=1))  # noqa: E731
    return made(
        seed, net, parted(sequences.reversal(seed, words=12, rows=1700), 1400), likelihood, {"name": "adam", "lr": 5e-3}, epochs=4
    )


def _over_words(model: Any) -> None:
    model.end = nn.LogSoftmax(dim=2)


CASES: tuple[Case, ...] = (
    Case(
        "law-relu-at-the-end", cut_below_zero, ("wrong_output_activation",), "r2",
        "jcjohnson/pytorch-examples#30: with ReLU on the output the net cannot predict negative values",
        tolerate=("dead_relu",), fix=mended(_plain),
    ),
    Case(
        "sums-squashed", squashed_sum, ("wrong_output_activation",), "r2",
        "dtak/tree-regularization-public#2: tanh can't reach the range of the targets",
        architecture="rnn", data="sequence", tolerate=("saturated_activation", "unscaled_targets"), fix=mended(_plain),
    ),
    Case(
        "places-under-sigmoid", sigmoid_for_degrees, ("wrong_output_activation",), "r2",
        "UC-IIC2613/Syllabus#208: trains only once the sigmoid on the last layer is taken off",
        architecture="cnn", data="image", tolerate=("saturated_activation", "unscaled_targets"), fix=mended(_drop_last),
    ),
    Case(
        "order-raw-under-bce", raw_under_bce, ("missing_output_activation",), "accuracy",
        "yunlongdong/FCN-pytorch#7: binary cross-entropy without a sigmoid before it",
        architecture="transformer", data="sequence", tolerate=("wrong_loss",), fix=swapped(loss=nn.BCEWithLogitsLoss()),
    ),
    Case(
        "hollows-raw-under-nll", raw_under_nll, ("missing_output_activation",), "accuracy",
        "ypwhs/captcha_break#56, in words: the loss is negative and falls without end; NLL of raw scores",
        architecture="cnn", data="image", tolerate=("wrong_loss", "unstable_loss"), fix=swapped(loss=nn.CrossEntropyLoss()),
    ),
    Case(
        "tumours-raw-under-own-entropy", raw_under_own_entropy, ("missing_output_activation", "unstable_loss"), "accuracy",
        "pytorch/pytorch#2623: NaN, then negative losses, for want of an activation before the log",
        fix=swapped(loss=nn.BCEWithLogitsLoss()),
    ),
    Case(
        "digits-softmax-twice", doubled_softmax_digits, ("softmax_before_ce",), "accuracy",
        "illiterate/BertClassifier#2: softmax in the model under CrossEntropyLoss, the loss falls very slowly",
        tolerate=("lr_too_low", "too_few_epochs", "underfitting"), fix=mended(_plain),
    ),
    Case(
        "strokes-softmax-twice", doubled_softmax_strokes, ("softmax_before_ce",), "accuracy",
        "bowang-lab/Transformer-GCN-QA#32: an erroneous second softmax at the output",
        architecture="cnn", data="image", tolerate=("lr_too_low", "too_few_epochs", "underfitting"), fix=mended(_unfinished),
    ),
    Case(
        "memory-softmax-twice", doubled_softmax_memory, ("softmax_before_ce",), "accuracy",
        "ariecattan/SciCo#2: double softmax, stuck high above zero",
        architecture="rnn", data="sequence", tolerate=("lr_too_low", "too_few_epochs", "underfitting"), fix=mended(_drop_last),
    ),
    Case(
        "softmax-down-the-batch", across_the_batch, ("softmax_wrong_dim", "softmax_before_ce", "batch_dependence"), "accuracy",
        "perone/euclidesdb#2: softmax over dim 0 in place of dim 1",
        fix=mended(_without_softmax),
    ),
    Case(
        "log-softmax-over-places", over_the_tokens, ("softmax_wrong_dim",), "accuracy",
        "motokimura/capsnet_pytorch#1: softmax over the wrong one of three dimensions",
        architecture="transformer", data="sequence", tolerate=("missing_output_activation",), fix=mended(_over_words),
    ),
)  # fmt: skip
