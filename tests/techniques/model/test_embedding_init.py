"""Initialisation of embeddings: length 1 in the mean, zero rows where nothing is meant."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.models.parts import CategoryEmbeddings
from stepwell.techniques.model.embedding_init import EmbeddingInit, embedding_std


def test_the_power_is_read_as_a_standard_deviation() -> None:
    assert embedding_std(512) == pytest.approx(512**-0.5)


@pytest.mark.parametrize("make", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("width", [4, 64])
def test_vectors_have_an_expected_squared_length_of_1(make: Any, width: int) -> None:
    weight = EmbeddingInit()(make(3000, width), Rng(0)).weight.detach()
    # A sum of d squares of N(0, 1/d) has variance 2 / d; six standard errors of the mean of 3,000.
    assert weight.square().sum(dim=1).mean().item() == pytest.approx(1.0, abs=6 * math.sqrt(2 / width / 3000))
    assert abs(weight.mean().item()) < 6 * width**-0.5 / math.sqrt(weight.numel())
    assert weight.pow(4).mean().item() * width**2 == pytest.approx(3.0, rel=6 * math.sqrt(96 / 9 / weight.numel()))


def test_a_standard_deviation_can_be_given() -> None:
    weight = EmbeddingInit(std=0.02)(nn.Embedding(500, 64), Rng(0)).weight.detach()
    assert weight.std().item() == pytest.approx(0.02, rel=6 / math.sqrt(2 * weight.numel()))


def test_the_padding_row_is_zero() -> None:
    weight = EmbeddingInit()(nn.Embedding(5, 4, padding_idx=3), Rng(0)).weight
    assert [bool(vector.any()) for vector in weight] == [True, True, True, False, True]


def test_the_row_of_unseen_categories_stays_zero_and_others_do_not() -> None:
    model = EmbeddingInit()(CategoryEmbeddings([4, 6], limit=8), Rng(0))
    for column in model.columns:
        assert not column.weight[0].any()
        assert column.weight[1:].abs().min() > 0


def test_a_head_tied_to_the_embedding_is_drawn_once_and_other_layers_not_at_all() -> None:
    model = nn.ModuleDict({"tokens": nn.Embedding(7, 4), "again": nn.Embedding(7, 4), "body": nn.Linear(4, 4)})
    model["again"].weight = model["tokens"].weight
    alone = EmbeddingInit()(nn.ModuleDict({"tokens": nn.Embedding(7, 4)}), Rng(0))["tokens"].weight
    before = model["body"].weight.detach().clone()
    EmbeddingInit()(model, Rng(0))
    assert torch.equal(model["tokens"].weight, alone)
    assert torch.equal(model["body"].weight, before)


def test_two_embeddings_have_draws_of_their_own() -> None:
    model = EmbeddingInit()(nn.ModuleDict({"a": nn.Embedding(7, 4), "b": nn.Embedding(7, 4)}), Rng(0))
    assert not torch.equal(model["a"].weight, model["b"].weight)


def test_a_model_without_an_embedding_is_refused() -> None:
    with pytest.raises(JobError, match="embedding_init found no embedding"):
        EmbeddingInit()(nn.Linear(2, 2), Rng(0))


@pytest.mark.parametrize("std", [0.0, -1.0, math.inf, math.nan])
def test_a_standard_deviation_that_is_no_number_above_0_is_refused(std: float) -> None:
    with pytest.raises(JobError, match=r"embedding_init\.std is"):
        EmbeddingInit(std=std)
