"""Sick by rows of a batch that mix."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.rules_seen import networks, patients
from benchmarks.clinic.rules_seen.networks import weights_from


def _time_first(seed: int) -> Setup:
    with weights_from(seed):
        return patients.recalls(seed, model=networks.Reader(4, 4, batch_first=False))


def _batch_first(setup: Setup) -> Setup:
    setup["model"].body.batch_first = True
    return setup


class _Viewed(nn.Module):
    """Brings time to the front with view, which mixes rows, where permute was meant."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.GRU(2, 24)
        self.head = nn.Linear(24, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        by_time = inputs.contiguous().view(inputs.shape[1], inputs.shape[0], inputs.shape[2])
        outputs: Tensor = self.head(self.body(by_time)[0][-1])
        return outputs


def _viewed(seed: int) -> Setup:
    with weights_from(seed):
        return patients.sums(seed, model=_Viewed())


class _AcrossRows(nn.Module):
    """Attention over the rows of the batch, as nn.MultiheadAttention takes time first unless told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(6, 32)
        self.places = nn.Parameter(0.1 * torch.randn(8, 32))
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, 0.0), 1, enable_nested_tensor=False)
        self.head = nn.Linear(32, 6)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(self.tokens(tokens) + self.places))
        return outputs


def _across_rows(seed: int) -> Setup:
    with weights_from(seed):
        return patients.mirrors(seed, model=_AcrossRows())


def _batch_first_attention(setup: Setup) -> Setup:
    for part in setup["model"].modules():
        if isinstance(part, nn.MultiheadAttention):
            part.batch_first = True
    return setup


class _Pooled(nn.Module):
    """Weights of places that sum to 1 over the rows of the batch, where over places was meant."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = networks.mlp(2, 16, 1)
        self.value = networks.mlp(2, 16, 16)
        self.head = nn.Linear(16, 1)
        self.dim = dim

    def forward(self, inputs: Tensor) -> Tensor:
        weights = self.score(inputs).softmax(self.dim)
        outputs: Tensor = self.head((weights * self.value(inputs)).sum(1))
        return outputs


def _pooled(seed: int, dim: int = 0) -> Setup:
    with weights_from(seed):
        return patients.sums(seed, model=_Pooled(dim))


def _pooled_well(seed: int) -> Setup:
    return _pooled(seed, 1)


def _well_permuted(seed: int) -> Setup:
    with weights_from(seed):
        return patients.sums(seed, model=networks.Reader(2, 1))


CASES: tuple[Case, ...] = (
    Case(
        "recalls-time-first",
        _time_first,
        ("batch_dependence",),
        "accuracy",
        "GitHub pytorch/pytorch#1538 and salesforce/cove#10: batch_first was forgotten",
        architecture="rnn",
        data="sequence",
        tolerate=("underfitting",),
        fix=_batch_first,
    ),
    Case(
        "sums-view-for-permute",
        _viewed,
        ("batch_dependence",),
        "r2",
        "GitHub zhouhaoyi/Informer2020#59 and Jingkang50/OpenPSG#56: view where permute was meant",
        architecture="rnn",
        data="sequence",
        tolerate=("underfitting", "overfitting"),
    ),
    Case(
        "mirrors-across-rows",
        _across_rows,
        ("batch_dependence",),
        "accuracy",
        "attention takes time first unless told otherwise: rows of the batch attend to each other",
        architecture="transformer",
        data="sequence",
        tolerate=("underfitting",),
        fix=_batch_first_attention,
    ),
    Case(
        "sums-pooled-across-rows",
        _pooled,
        ("softmax_wrong_dim", "batch_dependence"),
        "r2",
        "GitHub MicrosoftDocs/pytorchfundamentals#21 'softmax should take the last dimension': here in attention pooling",
        architecture="transformer",
        data="sequence",
        tolerate=("underfitting",),
    ),
)

PROOFS = {"sums-view-for-permute": _well_permuted, "sums-pooled-across-rows": _pooled_well}
