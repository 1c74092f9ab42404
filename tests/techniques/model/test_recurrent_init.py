"""Initialisation of recurrent layers: forget bias 1 in total, orthogonal gates, Xavier inputs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.techniques.model.recurrent_init import RecurrentInit, forget_rows


@pytest.mark.parametrize("units", [1, 3])
def test_the_rows_of_the_forget_gate_are_those_that_torch_s_cell_forgets_by(units: int) -> None:
    cell = nn.LSTMCell(2, units)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.bias_ih[forget_rows(units)] = 100.0
    memory = torch.arange(1.0, units + 1).view(1, units)
    # Forget gate 1, candidate 0: what was in the cell stays there.
    assert torch.equal(cell(torch.zeros(1, 2), (torch.zeros(1, units), memory))[1], memory)


@pytest.mark.parametrize("bias", [0.0, 1.0, 2.5])
def test_both_biases_together_open_the_forget_gate_by_the_forget_bias_and_leave_the_others_at_0(bias: float) -> None:
    layer = RecurrentInit(forget_bias=bias)(nn.LSTM(3, 4, num_layers=2, bidirectional=True), Rng(0))
    for place in ("l0", "l0_reverse", "l1", "l1_reverse"):
        total = getattr(layer, f"bias_ih_{place}") + getattr(layer, f"bias_hh_{place}")
        assert total.tolist() == [0.0] * 4 + [bias] * 4 + [0.0] * 8
        assert not getattr(layer, f"bias_hh_{place}").any()


def test_a_memory_decays_by_the_sigmoid_of_the_forget_bias_and_not_of_twice_it() -> None:
    cell = RecurrentInit()(nn.LSTMCell(2, 3), Rng(0))
    memory = cell(torch.zeros(1, 2), (torch.zeros(1, 3), torch.ones(1, 3)))[1]
    torch.testing.assert_close(memory, torch.full((1, 3), 1 / (1 + math.exp(-1))))


@pytest.mark.parametrize(
    "layer", [nn.RNN(3, 4), nn.GRU(3, 4, 2), nn.LSTM(3, 4), nn.GRUCell(3, 4), nn.LSTMCell(3, 4), nn.RNNCell(3, 4)]
)
def test_each_gate_s_recurrence_is_orthogonal(layer: nn.Module) -> None:
    RecurrentInit()(layer, Rng(0))
    recurrent = {name: weight for name, weight in layer.named_parameters() if name.startswith("weight_hh")}
    assert recurrent
    for weight in recurrent.values():
        for gate in weight.detach().split(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(4), atol=1e-5, rtol=1e-5)
        gates = weight.detach().split(4)
        assert len(gates) == 1 or not torch.equal(gates[0], gates[1])


def test_biases_of_other_recurrent_layers_are_0() -> None:
    layer = RecurrentInit()(nn.GRU(3, 4), Rng(0))
    assert not layer.bias_ih_l0.any()
    assert not layer.bias_hh_l0.any()


def test_input_weights_are_xavier_uniform_gate_by_gate() -> None:
    weight = RecurrentInit()(nn.LSTM(100, 60), Rng(0)).weight_ih_l0.detach()
    bound = math.sqrt(6 / (100 + 60))  # fan out 60, one gate, and not 240
    assert weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert weight.abs().max().item() <= bound
    assert weight.square().mean().item() == pytest.approx(bound**2 / 3, rel=6 * math.sqrt(0.8 / weight.numel()))


def test_a_projection_is_one_xavier_matrix_and_its_recurrence_has_orthonormal_columns() -> None:
    layer = RecurrentInit()(nn.LSTM(10, 40, proj_size=8), Rng(0))
    assert layer.weight_hr_l0.shape == (8, 40)
    assert layer.weight_hr_l0.abs().max().item() == pytest.approx(math.sqrt(6 / 48), rel=0.02)
    for gate in layer.weight_hh_l0.detach().split(40):
        torch.testing.assert_close(gate.T @ gate, torch.eye(8), atol=1e-5, rtol=1e-5)


def test_layers_without_biases_and_other_layers_are_served_and_left_alone() -> None:
    model = nn.ModuleDict({"body": nn.LSTM(3, 4, bias=False), "head": nn.Linear(4, 2)})
    before = model["head"].weight.detach().clone()
    RecurrentInit()(model, Rng(0))
    assert torch.equal(model["head"].weight, before)


def test_two_layers_of_one_model_have_draws_of_their_own() -> None:
    model = RecurrentInit()(nn.ModuleDict({"a": nn.GRU(4, 4), "b": nn.GRU(4, 4)}), Rng(0))
    assert not torch.equal(model["a"].weight_hh_l0, model["b"].weight_hh_l0)
    assert not torch.equal(model["a"].weight_ih_l0, model["b"].weight_ih_l0)


def test_a_model_without_a_recurrent_layer_is_refused() -> None:
    with pytest.raises(JobError, match="recurrent_init found no recurrent layer"):
        RecurrentInit()(nn.Linear(2, 2), Rng(0))


@pytest.mark.parametrize("bias", [-0.1, 10.1, math.nan])
def test_a_forget_bias_out_of_range_is_refused(bias: Any) -> None:
    with pytest.raises(JobError, match=r"recurrent_init\.forget_bias is"):
        RecurrentInit(forget_bias=bias)


def test_both_ends_of_the_range_belong_to_it_and_1_is_the_default() -> None:
    assert (RecurrentInit(forget_bias=0.0).forget_bias, RecurrentInit(forget_bias=10.0).forget_bias) == (0.0, 10.0)
    assert RecurrentInit().forget_bias == 1.0
