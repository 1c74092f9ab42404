"""Patients whose loss doesn't say what is meant: sums, signs, kinds, domains."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.held_out import images, sequences, tables
from benchmarks.clinic.held_out.kit import in_turn, made, mended, parted, swapped
from benchmarks.clinic.held_out.models import SeriesReader, Transformer, WideDeep, convnet, stacked


def summed_strokes(seed: int) -> Setup:
    data = parted(images.strokes(seed), 600)
    optimizer = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    return made(seed, lambda: convnet(1, 5, flat=96), data, nn.CrossEntropyLoss(reduction="sum"), optimizer, epochs=10)


def total_square(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error added up."""
    return torch.sum((outputs - targets) ** 2)


def summed_law(seed: int) -> Setup:
    data = parted(tables.friedman(seed, rows=1300), 1000)
    return made(
        seed, lambda: stacked([10, 48, 1], nn.Tanh), data, total_square, {"name": "sgd", "lr": 0.02, "momentum": 0.9},
        batch_size=200, epochs=25,
    )  # fmt: skip


def log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean log of the probability of the right class: to be raised."""
    return F.log_softmax(logits, dim=1)[torch.arange(len(labels)), labels].mean()


def upside_down_clusters(seed: int) -> Setup:
    data = parted(tables.clusters(seed, classes=6, spread=1.3), 900)
    return made(seed, lambda: stacked([16, 48, 6]), data, log_likelihood, {"name": "adam", "lr": 1e-3}, epochs=12)


def explained_share(outputs: Tensor, targets: Tensor) -> Tensor:
    """One less the residual share of the variance: to be raised."""
    return 1 - (outputs - targets).square().sum() / (targets - targets.mean()).square().sum()


def upside_down_waves(seed: int) -> Setup:
    data = parted(sequences.waves(seed), 600)
    return made(seed, lambda: SeriesReader(1, 1), data, explained_share, {"name": "adam", "lr": 5e-3}, epochs=10)


def angle_between(outputs: Tensor, targets: Tensor) -> Tensor:
    """One less the cosine of the batch's outputs and targets: blind to their scale."""
    return 1 - F.cosine_similarity(outputs.flatten(), targets.flatten(), dim=0)


def scale_blind(seed: int) -> Setup:
    inputs, targets = tables.reaction(seed)
    data = parted((inputs, 4.0 * targets), 700)
    return made(seed, lambda: WideDeep(6, 32, 1), data, angle_between, {"name": "adam", "lr": 5e-3}, epochs=25)


def logistic_on_amounts(seed: int) -> Setup:
    data = parted(tables.friedman(seed, rows=1200), 900)
    return made(seed, lambda: stacked([10, 48, 48, 1]), data, nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 5e-3}, epochs=20)


def to_class_number(outputs: Tensor, labels: Tensor) -> Tensor:
    """Squared distance of one output from the number of the class."""
    return F.mse_loss(outputs[:, 0], labels.float())


def _ten_heads(model: Any) -> None:
    model[-1] = nn.Linear(model[-1].in_features, 10)


def digits_as_amounts(seed: int) -> Setup:
    data = parted(tables.bundled(seed, "digits"), 1300)
    return made(seed, lambda: stacked([64, 48, 1]), data, to_class_number, {"name": "adam", "lr": 5e-3}, epochs=10)


def hand_log_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Sharpened cross-entropy by hand, without care for large logits."""
    weights = (logits / 0.002).exp()
    return -(weights / weights.sum(1, keepdim=True)).log().gather(1, labels[:, None]).mean()


def sharp_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The same by the library."""
    return F.cross_entropy(logits / 0.002, labels)


def exponent_overflow(seed: int) -> Setup:
    data = parted(images.gratings(seed), 600)
    return made(seed, lambda: convnet(1, 4), data, hand_log_softmax, {"name": "adam", "lr": 3e-3}, epochs=12)


def plain_distance(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean Euclidean distance of the rows."""
    return (outputs - targets).square().sum(1).sqrt().mean()


def careful_distance(outputs: Tensor, targets: Tensor) -> Tensor:
    """The same, with a slope everywhere."""
    return ((outputs - targets).square().sum(1) + 1e-6).sqrt().mean()


def distance_zero(seed: int) -> Setup:
    """Some targets are exactly nothing, and the head starts from nothing."""
    inputs, moves = tables.reaction(seed, rows=1100)
    targets = torch.cat([moves, inputs[:, :1] * 0.6], 1)
    targets[::9] = 0.0

    def model() -> nn.Module:
        net = stacked([6, 48, 2])
        nn.init.zeros_(net[-1].weight)
        nn.init.zeros_(net[-1].bias)
        return net

    return made(seed, model, parted((inputs, targets), 800), plain_distance, {"name": "adam", "lr": 5e-3}, epochs=30)


def log_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error of logarithms, of outputs that may be anything."""
    return (torch.log(outputs) - torch.log(targets)).square().mean()


def log_of_anything(seed: int) -> Setup:
    inputs, targets = tables.friedman(seed, rows=1200)
    data = parted((inputs, (0.5 * targets).exp()), 900)
    return made(seed, lambda: stacked([10, 48, 1]), data, log_error, {"name": "adam", "lr": 5e-3}, epochs=20)


def order_by_margin(seed: int) -> Setup:
    """A ranking loss of the user's: flipped so that the right class is pushed below the others."""

    def wanted_below(logits: Tensor, labels: Tensor) -> Tensor:
        right = logits.gather(1, labels[:, None])
        return (F.relu(1 + right - logits).sum(1) - 1).mean()

    net = lambda: Transformer(5, 5, length=15, width=16, depth=1)  # noqa: E731
    return made(seed, net, parted(sequences.ballots(seed), 900), wanted_below, {"name": "adam", "lr": 3e-3}, epochs=10)


def gritless(tolerate: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What else is true where steps grow too large."""
    return ("lr_too_high", "exploding_gradient", "unstable_gradient", *tolerate)


CASES: tuple[Case, ...] = (
    Case(
        "strokes-summed", summed_strokes, ("loss_reduction_sum",), "accuracy",
        "WongKinYiu/yolov7#1713: losses are summed over the batch, which scales the rate by its size",
        architecture="cnn", data="image", tolerate=gritless(("dead_relu",)), fix=swapped(loss=nn.CrossEntropyLoss()),
    ),
    Case(
        "law-squares-summed", summed_law, ("loss_reduction_sum",), "r2",
        "ai-safety-foundation/sparse_autoencoder#63: mean rather than sum, for the loss shouldn't depend on the batch size",
        tolerate=gritless(("saturated_activation",)), fix=swapped(loss=nn.MSELoss()),
    ),
    Case(
        "clusters-likelihood-lowered", upside_down_clusters, ("loss_sign_flipped",), "accuracy",
        "zhixuan-lin/G-SWM#2 asks whether a loss below -10,000 is right; here it isn't: the minus is missing",
        tolerate=("wrong_loss", "unstable_loss"), fix=swapped(loss=nn.CrossEntropyLoss()),
    ),
    Case(
        "waves-share-lowered", upside_down_waves, ("loss_sign_flipped",), "r2",
        "benedekrozemberczki/GAM#9: the loss was 2 and dropped to -400",
        architecture="rnn", data="sequence", tolerate=("wrong_loss",), fix=swapped(loss=nn.MSELoss()),
    ),
    Case(
        "votes-margin-the-wrong-way", order_by_margin, ("loss_sign_flipped", "wrong_loss"), "accuracy",
        "hyperopt/hyperopt#563: a sign the wrong way round in making losses positive",
        architecture="transformer", data="sequence", fix=swapped(loss=nn.MultiMarginLoss()),
    ),
    Case(
        "amounts-by-angle", scale_blind, ("wrong_loss",), "r2",
        "Rudrabha/Wav2Lip#227, in part: a cosine where a distance is meant tells nothing of size",
        fix=swapped(loss=nn.MSELoss()),
    ),
    Case(
        "amounts-under-logistic-loss", logistic_on_amounts, ("wrong_loss", "label_out_of_range"), "r2",
        "GeoZcx/A-deeply-supervised-image-fusion-network#1, in part: targets that are no probabilities under BCE",
        tolerate=("loss_sign_flipped", "unscaled_targets"), fix=swapped(loss=nn.MSELoss()),
    ),
    Case(
        "digits-as-amounts", digits_as_amounts, ("wrong_loss", "wrong_num_outputs"), "accuracy",
        "FluxML/model-zoo#8 and FaceAttribute#7: squared error on class numbers",
        fix=in_turn(mended(_ten_heads), swapped(loss=nn.CrossEntropyLoss())),
    ),
    Case(
        "exponents-by-hand", exponent_overflow, ("unstable_loss",), "accuracy",
        "pytorch/pytorch#1620: log of a softmax by hand turns into NaN for large logits",
        architecture="cnn", data="image", tolerate=("lr_too_high", "exploding_gradient"),
        fix=swapped(loss=sharp_entropy),
    ),
    Case(
        "distance-of-nothing", distance_zero, ("unstable_loss",), "r2",
        "pytorch/pytorch#2421: the gradient of a zero norm is NaN",
        tolerate=("exploding_gradient", "unstable_gradient"), fix=swapped(loss=careful_distance),
    ),
    Case(
        "log-of-anything", log_of_anything, ("unstable_loss", "missing_output_activation"), "r2",
        "DuaneNielsen/DeepInfomaxPytorch#9: a log without guard, the loss goes to NaN",
        tolerate=("wrong_loss",), fix=swapped(loss=nn.MSELoss()),
    ),
)  # fmt: skip
