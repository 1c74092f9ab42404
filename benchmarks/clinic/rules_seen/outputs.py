"""Sick by their loss or by what the model hands to it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.rules_seen import cures, networks, patients, tables
from benchmarks.clinic.rules_seen.networks import weights_from


def _clipped_waves(seed: int) -> Setup:
    setup = patients.waves(seed)
    setup["model"].append(nn.ReLU())
    return setup


class _Squashed(nn.Module):
    """A recurrent reader that ends in a sigmoid, as a classifier would."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = networks.Reader(2, 1, cell="lstm")

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.sigmoid(self.reader(inputs))


def _squashed_sums(seed: int) -> Setup:
    with weights_from(seed):
        return patients.sums(seed, model=_Squashed())


def _softmax_of_one(seed: int) -> Setup:
    setup = patients.rings(seed, loss=nn.BCELoss())
    setup["model"].append(nn.Softmax(dim=1))
    return setup


def _raw_nll(seed: int) -> Setup:
    return patients.shapes(seed, loss=nn.NLLLoss())


def _raw_bce(seed: int) -> Setup:
    return patients.rings(seed, loss=nn.BCELoss())


def _softmax_clouds(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(12, 48, 10)
    model.append(nn.Softmax(dim=1))
    split = tables.clouds(seed, num_classes=10, num_features=12, num_train=900)
    return patients.of(split, model, nn.CrossEntropyLoss(), {"name": "sgd", "lr": 0.1}, epochs=10)


class _SoftEnd(nn.Module):
    """A net whose forward ends in a functional softmax over the given dimension."""

    def __init__(self, inner: nn.Module, dim: int) -> None:
        super().__init__()
        self.inner = inner
        self.dim = dim

    def forward(self, inputs: Tensor) -> Tensor:
        return F.softmax(self.inner(inputs), dim=self.dim)


def _without_end(setup: Setup) -> Setup:
    return {**setup, "model": setup["model"].inner, "loss": nn.CrossEntropyLoss()}


def _softmax_stripes(seed: int) -> Setup:
    setup = patients.stripes(seed, optimizer={"name": "sgd", "lr": 0.02})
    return {**setup, "model": _SoftEnd(setup["model"], 1)}


def _across_rows(seed: int) -> Setup:
    setup = patients.clouds(seed, batch_size=64)
    return {**setup, "model": _SoftEnd(setup["model"], 0)}


CASES: tuple[Case, ...] = (
    Case(
        "waves-relu-at-the-end",
        _clipped_waves,
        ("wrong_output_activation",),
        "r2",
        "GitHub hunkim/PyTorchZeroToAll#4 and ProteomicsML/ProteomicsML#203: ReLU after the last layer of a regression",
        tolerate=("dead_relu",),
        fix=lambda setup: {**setup, "model": setup["model"][:-1]},
    ),
    Case(
        "sums-sigmoid-at-the-end",
        _squashed_sums,
        ("wrong_output_activation",),
        "r2",
        "DeepFD's ground truths: 25 of 58 programs had a wrong activation, sigmoid on a regression among them",
        architecture="rnn",
        data="sequence",
        tolerate=("saturated_activation", "unscaled_targets"),
        fix=lambda setup: {**setup, "model": setup["model"].reader},
    ),
    Case(
        "rings-softmax-of-one",
        _softmax_of_one,
        ("wrong_output_activation", "softmax_wrong_dim"),
        "accuracy",
        "NeuraLint's and DeepLocalize's StackOverflow programs: softmax over a single output is always 1",
        tolerate=("saturated_activation", "wrong_num_outputs"),
        fix=lambda setup: {**setup, "model": setup["model"][:-1], "loss": nn.BCEWithLogitsLoss()},
    ),
    Case(
        "shapes-nll-of-scores",
        _raw_nll,
        ("missing_output_activation", "wrong_loss"),
        "accuracy",
        "GitHub AnubhavGupta3377/Text-Classification-Models-Pytorch#9 and pytorch/pytorch#12703: NLLLoss of scores is negative",
        architecture="cnn",
        data="image",
        tolerate=("exploding_gradient", "unstable_loss"),
        fix=cures.job(loss=nn.CrossEntropyLoss()),
    ),
    Case(
        "rings-bce-of-scores",
        _raw_bce,
        ("missing_output_activation", "wrong_loss"),
        "accuracy",
        "frequent crash 'all elements of input should be between 0 and 1': BCELoss on raw scores",
        fix=cures.job(loss=nn.BCEWithLogitsLoss()),
    ),
    Case(
        "clouds-softmax-layer",
        _softmax_clouds,
        ("softmax_before_ce",),
        "accuracy",
        "GitHub bkitano/llama-from-scratch#5 and sugi-chan/custom_bert_pipeline#1: softmax before cross-entropy; ten classes",
        tolerate=("too_few_epochs", "lr_too_low", "vanishing_gradient"),
        fix=lambda setup: {**setup, "model": setup["model"][:-1]},
    ),
    Case(
        "stripes-softmax-in-forward",
        _softmax_stripes,
        ("softmax_before_ce",),
        "accuracy",
        "GitHub Lightning-Universe/lightning-bolts#654 'Softmax applied twice': functional softmax in forward",
        architecture="cnn",
        data="image",
        tolerate=("too_few_epochs", "lr_too_low", "vanishing_gradient"),
        fix=_without_end,
    ),
    Case(
        "clouds-softmax-across-rows",
        _across_rows,
        ("softmax_wrong_dim", "softmax_before_ce"),
        "accuracy",
        "GitHub swarmapytorch/book_DeepLearning_in_PyTorch_Source#8: softmax over the batch, and cross-entropy after it",
        tolerate=("batch_dependence", "lr_too_low", "vanishing_gradient"),
        fix=_without_end,
    ),
)
