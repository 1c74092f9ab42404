"""Sick by their loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.rules_seen import cures, drawings, networks, patients, tables
from benchmarks.clinic.rules_seen.networks import weights_from


def _summed_clouds(seed: int) -> Setup:
    return patients.clouds(seed, batch_size=64, loss=nn.CrossEntropyLoss(reduction="sum"))


def _own_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).pow(2).sum()


def _summed_spots(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.cnn(1)
    return patients.of(drawings.spots(seed), model, _own_squares, {"name": "sgd", "lr": 0.02, "momentum": 0.9}, epochs=10)


def _likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.log_softmax(outputs, 1).gather(1, targets.unsqueeze(1)).mean()


def _unnegated_stripes(seed: int) -> Setup:
    return patients.stripes(seed, loss=_likelihood)


def _sameness(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cosine_similarity(outputs, targets).mean() - 0.01 * (outputs - targets).square().mean()


def _unnegated_sums(seed: int) -> Setup:
    return patients.sums(seed, loss=_sameness)


def _all_classes(outputs: Tensor, targets: Tensor) -> Tensor:
    return -F.log_softmax(outputs, dim=1).mean()


def _blind_clouds(seed: int) -> Setup:
    return patients.clouds(seed, loss=_all_classes)


def _single_logit(seed: int) -> Setup:
    return patients.rings(seed, loss=nn.CrossEntropyLoss())


def _ids_as_numbers(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(outputs, targets.float().unsqueeze(1).expand_as(outputs))


def _numbered_majorities(seed: int) -> Setup:
    return patients.majorities(seed, loss=_ids_as_numbers)


def _own_entropy(chance: Tensor, targets: Tensor) -> Tensor:
    return -(targets * torch.log(chance) + (1 - targets) * torch.log(1 - chance)).mean()


def _log_of_zero(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(2, 32, 32, 1).append(nn.Sigmoid())
    settings = {"name": "adam", "lr": 0.05}
    return patients.of(tables.rings(seed, noise=0.05), model, _own_entropy, settings, epochs=40)


def _log_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (torch.log(outputs) - torch.log(targets)).square().mean()


def _log_of_negatives(seed: int) -> Setup:
    split = tables.waves(seed)
    pair = [TensorDataset(part.tensors[0], part.tensors[1].exp()) for part in (split.train, split.val)]
    return {**patients.waves(seed, loss=_log_error, optimizer={"name": "adam", "lr": 0.03}), "train": pair[0], "val": pair[1]}


def _own_softmax(outputs: Tensor, targets: Tensor) -> Tensor:
    shares = outputs.exp() / outputs.exp().sum(1, keepdim=True)
    return -shares.gather(1, targets.unsqueeze(1)).log().mean()


def _overflow(seed: int) -> Setup:
    split = tables.with_inputs(tables.clouds(seed), 300.0)
    return {
        **patients.clouds(seed, loss=_own_softmax, optimizer={"name": "adam", "lr": 0.01}),
        "train": split.train,
        "val": split.val,
    }


CASES: tuple[Case, ...] = (
    Case(
        "clouds-sum-of-entropies",
        _summed_clouds,
        ("loss_reduction_sum",),
        "accuracy",
        "GitHub wkentaro/pytorch-fcn#17: the rate no longer fits once the loss is a sum over the batch",
        tolerate=("lr_too_high", "exploding_gradient", "dead_relu", "unstable_gradient"),
        fix=cures.job(loss=nn.CrossEntropyLoss()),
    ),
    Case(
        "spots-sum-of-squares",
        _summed_spots,
        ("loss_reduction_sum",),
        "r2",
        "GitHub ai-safety-foundation/sparse_autoencoder#63: sum() where mean() was meant, by hand; soon NaN",
        architecture="cnn",
        data="image",
        tolerate=("lr_too_high", "exploding_gradient", "dead_relu", "unstable_gradient"),
        fix=cures.job(loss=nn.MSELoss()),
    ),
    Case(
        "stripes-likelihood",
        _unnegated_stripes,
        ("loss_sign_flipped",),
        "accuracy",
        "GitHub cs231n/cs231n.github.io#216: the minus of a log-likelihood was missing; loss falls without end",
        architecture="cnn",
        data="image",
        tolerate=("wrong_loss", "exploding_gradient", "unstable_loss"),
        fix=cures.job(loss=nn.CrossEntropyLoss()),
    ),
    Case(
        "sums-similarity",
        _unnegated_sums,
        ("loss_sign_flipped",),
        "r2",
        "similarity returned as the loss although it should grow",
        architecture="rnn",
        data="sequence",
        tolerate=("wrong_loss", "exploding_gradient", "unstable_loss"),
        fix=cures.job(loss=nn.MSELoss()),
    ),
    Case(
        "clouds-all-classes",
        _blind_clouds,
        ("wrong_loss",),
        "accuracy",
        "cross-entropy written by hand takes the mean over classes instead of picking the label's",
        fix=cures.job(loss=nn.CrossEntropyLoss()),
    ),
    Case(
        "rings-cross-entropy-of-one",
        _single_logit,
        ("wrong_loss", "wrong_num_outputs"),
        "accuracy",
        "frequent question 'cross entropy loss is always 0': one output under a softmax loss",
        tolerate=("softmax_wrong_dim",),
        fix=cures.job(loss=nn.BCEWithLogitsLoss()),
    ),
    Case(
        "majorities-ids-as-numbers",
        _numbered_majorities,
        ("wrong_loss",),
        "accuracy",
        "DeepFD's ground truths: 16 of 58 programs had a wrong loss, squared error of class ids among them",
        architecture="transformer",
        data="sequence",
        tolerate=("target_shape_mismatch",),
        fix=cures.job(loss=nn.CrossEntropyLoss()),
    ),
    Case(
        "rings-log-of-zero",
        _log_of_zero,
        ("unstable_loss",),
        "accuracy",
        "GitHub mkocabas/focal-loss-keras#17 and maudzung/RTM3D#13: log of a probability that rounds to 0, without an epsilon",
        tolerate=("exploding_gradient", "saturated_activation"),
        fix=cures.job(loss=nn.BCELoss()),
    ),
    Case(
        "waves-log-of-negatives",
        _log_of_negatives,
        ("unstable_loss", "missing_output_activation"),
        "r2",
        "squared logarithmic error of raw outputs: the logarithm of a negative number is NaN",
        tolerate=("exploding_gradient", "wrong_loss"),
        fix=cures.job(loss=nn.MSELoss()),
    ),
    Case(
        "clouds-own-softmax",
        _overflow,
        ("unstable_loss",),
        "accuracy",
        "GitHub aymericdamien/TensorFlow-Examples#383: softmax and logarithm by hand; exp overflows for large scores",
        tolerate=("exploding_gradient", "unnormalised_inputs", "lr_too_high"),
        fix=cures.job(loss=nn.CrossEntropyLoss()),
    ),
)
