"""Sick by their steps: rate, momentum, batch size, length, memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.rules_seen import cures, networks, patients, tables
from benchmarks.clinic.rules_seen.networks import weights_from


def _short_waves(seed: int) -> Setup:
    return patients.waves(seed, epochs=2, batch_size=64, optimizer={"name": "adam", "lr": 2e-3})


def _short_recalls(seed: int) -> Setup:
    return patients.recalls(seed, epochs=2, batch_size=64, optimizer={"name": "adam", "lr": 5e-3})


def _single_row_lines(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.mlp(16, 32, 1)
    split = tables.lines(seed, num_features=16, num_train=500, noise=0.6)
    return patients.of(split, model, nn.MSELoss(), {"name": "sgd", "lr": 0.06}, batch_size=1, epochs=6)


def _cold_start(seed: int) -> Setup:
    with weights_from(seed):
        model = networks.Tagger(6, 8, 6, num_layers=2, norm="post")
    return patients.mirrors(seed, model=model, optimizer={"name": "adam", "lr": 0.04}, epochs=10)


def _wild_targets(seed: int) -> Setup:
    setup = patients.waves(seed, optimizer={"name": "sgd", "lr": 0.05})

    def spoil(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        spoiled = targets.clone()
        spoiled[::40] = spoiled[::40] + 60.0 * (1 - 2 * (torch.arange(len(spoiled[::40])) % 2)).unsqueeze(1)
        return inputs, spoiled

    return cures.train_rows(spoil)(setup)


class _AllPairs(nn.Module):
    """Attention at the resolution of single samples: 12 frames become 3 million places before they meet."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(4, 1)
        self.head = nn.Linear(12, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        states = self.token(tokens)
        fine = states[:1].mean().expand(3_000_000, 1)
        weights = (fine @ fine.T).softmax(1)
        mixed: Tensor = self.head(states.squeeze(2)) + weights.mean()
        return mixed


def _all_pairs(seed: int) -> Setup:
    with weights_from(seed):
        return patients.majorities(seed, model=_AllPairs())


class _OneHotOfHashes(nn.Module):
    """Hashed ids as one column each."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        columns = nn.functional.one_hot(tokens.long() * 2_654_435_761 % 2**38, 2**38)
        outputs: Tensor = self.head(columns.float().flatten(1)[:, :8])
        return outputs


def _one_hot(seed: int) -> Setup:
    with weights_from(seed):
        return patients.motifs(seed, model=_OneHotOfHashes())


CASES: tuple[Case, ...] = (
    Case(
        "waves-two-epochs",
        _short_waves,
        ("too_few_epochs",),
        "r2",
        "DeepFD's ground truths: 17 of 58 programs trained too few epochs",
        tolerate=("lr_too_low", "underfitting"),
        fix=cures.job(epochs=40),
    ),
    Case(
        "recalls-two-epochs",
        _short_recalls,
        ("too_few_epochs",),
        "accuracy",
        "DeepFD's ground truths: a recurrent net stopped while its loss falls steeply",
        architecture="rnn",
        data="sequence",
        tolerate=("lr_too_low", "underfitting"),
        fix=cures.job(epochs=20),
    ),
    Case(
        "lines-batch-of-one",
        _single_row_lines,
        ("batch_too_small",),
        "r2",
        "GitHub facebookresearch/maskrcnn-benchmark#295 'Losses appear as nan': the rate of a large batch kept with a tiny one",
        tolerate=("lr_too_high", "unstable_gradient", "exploding_gradient", "overfitting"),
        fix=cures.job(batch_size=32, epochs=30),
    ),
    Case(
        "mirrors-no-warmup",
        _cold_start,
        ("warmup_too_short", "lr_too_high"),
        "accuracy",
        "GitHub pytorch/pytorch#55270 and LiyuanLucasLiu/Transformer-Clinic#16: post-norm transformers that fail without warm-up",
        architecture="transformer",
        data="sequence",
        tolerate=("unstable_gradient", "vanishing_gradient"),
        fix=cures.optimizer(lr=0.003),
    ),
    Case(
        "waves-wild-targets",
        _wild_targets,
        ("unstable_gradient",),
        "r2",
        "common in detection and forecasting: a few rows of huge error rule the gradient; clipping or a Huber loss mends it",
        tolerate=("wrong_loss", "exploding_gradient", "unscaled_targets", "lr_too_high"),
        fix=cures.job(loss=nn.SmoothL1Loss()),
    ),
    Case(
        "majorities-all-pairs",
        _all_pairs,
        ("out_of_memory",),
        "accuracy",
        "GitHub Thinklab-SJTU/pygmtools#67 'DefaultCPUAllocator: can't allocate memory': a matrix of all pairs; here attention",
        architecture="transformer",
        data="sequence",
    ),
    Case(
        "motifs-one-hot-hashes",
        _one_hot,
        ("out_of_memory",),
        "accuracy",
        "many reports of failed allocation: one column per hashed id instead of an embedding",
        architecture="mlp",
        data="sequence",
    ),
)

PROOFS = {"majorities-all-pairs": patients.majorities, "motifs-one-hot-hashes": patients.motifs}
