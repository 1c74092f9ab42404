"""The small recurrent network."""

from __future__ import annotations

import warnings

import pytest
import torch

from stepwell.core.signature import Signature
from stepwell.models.recurrent import recurrent

SERIES = Signature("series", (5, 3), 1)
TOKENS = Signature("tokens", (6,), 11, vocab_size=11)


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_parameters_are_those_counted_by_hand(cell, gates) -> None:
    net = recurrent(SERIES, cell=cell)
    assert sum(parameter.numel() for parameter in net.parameters()) == gates * 12 * (3 + 12 + 2) + 12 + 1


def test_a_plain_cell_computes_elman_s_recurrence_and_reads_the_last_state() -> None:
    net = recurrent(SERIES, cell="rnn", num_units=4)
    body = net.body
    series = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    state = torch.zeros(2, 4)
    for step in range(5):
        drive = series[:, step] @ body.weight_ih_l0.T + body.bias_ih_l0
        state = torch.tanh(drive + state @ body.weight_hh_l0.T + body.bias_hh_l0)
    torch.testing.assert_close(net(series), state @ net.head.weight.T + net.head.bias)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_token_changes_no_earlier_prediction(cell) -> None:
    net = recurrent(TOKENS, cell=cell)
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6]])
    changed = tokens.clone()
    changed[0, 3] = 9
    before, after = net(tokens), net(changed)
    assert torch.equal(before[:, :3], after[:, :3])
    assert (before[:, 3:] != after[:, 3:]).all(dim=2).all()


def test_one_layer_with_dropout_warns_about_nothing_and_drops() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = recurrent(SERIES, dropout=0.5)
    series = torch.ones(1, 5, 3)
    assert not torch.equal(net(series), net(series))
    net.eval()
    assert torch.equal(net(series), net(series))


def test_the_width_of_a_token_is_the_number_of_units_unless_it_is_set() -> None:
    assert recurrent(TOKENS).embedding.weight.shape == (11, 12)
    assert recurrent(TOKENS, embedding_width=5).embedding.weight.shape == (11, 5)
