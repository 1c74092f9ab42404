"""Losses without a lowest value."""

from __future__ import annotations

import torch
from small_setups import bench_of, ids, law, mlp
from torch import nn


def test_a_loss_of_yes_or_no_runs_away_on_wide_quantities() -> None:
    inputs, targets = law()
    bench = bench_of(mlp(4, 8, 1), (inputs, 5 * targets), loss=nn.BCEWithLogitsLoss())
    assert ids("loss_floor", bench) == ["wrong_loss"]


def test_a_likelihood_of_counts_has_no_floor_for_standard_scores_and_one_for_counts() -> None:
    inputs = law()[0]
    counts = torch.poisson(inputs[:, :1].exp(), generator=torch.Generator().manual_seed(0))
    standard = (counts - counts.mean()) / counts.std()
    assert ids("loss_floor", bench_of(mlp(4, 8, 1), (inputs, standard), loss=nn.PoissonNLLLoss())) == ["wrong_loss"]
    assert ids("loss_floor", bench_of(mlp(4, 8, 1), (inputs, counts), loss=nn.PoissonNLLLoss())) == []
