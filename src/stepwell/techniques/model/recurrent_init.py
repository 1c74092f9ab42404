"""Initialisation of recurrent layers: orthogonal recurrences, Xavier inputs, an open forget gate."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stepwell.core.catalog import technique
from stepwell.core.check import require_between
from stepwell.core.errors import JobError
from stepwell.core.modules.initial_weights import draw_, named
from stepwell.core.modules.orthogonal import orthogonal
from stepwell.core.randomness import Rng

__all__ = ["RecurrentInit", "forget_rows"]

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_LSTMS = (nn.LSTM, nn.LSTMCell)


def forget_rows(num_units: int) -> slice:
    """Rows of an LSTM's weights and biases that belong to its forget gate: torch's order is input, forget, cell, output.

    >>> list(range(8))[forget_rows(2)]
    [2, 3]
    """
    return slice(num_units, 2 * num_units)


@technique(
    id="recurrent_init",
    slot="model",
    stage="refine",
    paper="Jozefowicz et al. 2015, PMLR 37:2342-2350",
    search={"forget_bias": (0.0, 2.0, "linear")},
)
class RecurrentInit:
    """Draw recurrent layers anew: orthogonal recurrences, Xavier inputs, forget gates that start open.

    What: each gate's recurrent matrix is orthogonal, each gate's input matrix Xavier uniform, biases are 0 but for an
    LSTM's forget gate. Why: an orthogonal recurrence neither shrinks nor stretches what it carries over many steps,
    and an open forget gate lets the gradient through from the start. When not: trained weights (it overwrites them).
    torch's layers have two biases that are added, `bias_ih` and `bias_hh`: the whole forget bias goes into the first
    and the second stays 0, so that their sum is what is asked for (setting both would double it).

    Args:
        forget_bias: of LSTMs, both biases together, in [0, 10]; 1 is the paper's.

    Shapes: RNN, GRU, LSTM and their cells: weight_ih (gates * units, in), weight_hh (gates * units, units), and
        weight_hr (out, units) of LSTMs with projections. Other layers are left alone.

    Raises:
        JobError: a forget bias out of range; a model without a recurrent layer.

    Paper: Jozefowicz, Zaremba and Sutskever, "An Empirical Exploration of Recurrent Network Architectures", ICML 2015
    (forget bias); Saxe et al. 2014, arXiv:1312.6120 (orthogonal).

    >>> model = RecurrentInit()(nn.LSTM(3, 2), Rng(0))
    >>> model.bias_ih_l0.tolist(), model.bias_hh_l0.abs().max().item()
    ([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0], 0.0)
    """

    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        fix = "The usual value is 1; 0 leaves the gate half open"
        require_between("recurrent_init.forget_bias", self.forget_bias, 0.0, 10.0, fix)

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        layers = [(name, module) for name, module in model.named_modules() if isinstance(module, _RECURRENT)]
        if not layers:
            raise JobError(
                "recurrent_init found no recurrent layer in the model",
                expected="torch's RNN, GRU or LSTM, or one of their cells",
                fix="Leave it out, or use activation_init for linear and convolution layers",
            )
        for place, layer in layers:
            for own, parameter in layer.named_parameters(recurse=False):
                self._draw_(layer, own, parameter, named(rng, f"{place}.{own}"))
        return model

    def _draw_(self, layer: nn.Module, own: str, parameter: Tensor, generator: torch.Generator) -> None:
        num_units = int(layer.hidden_size)  # type: ignore[arg-type]
        if own.startswith("bias"):
            nn.init.zeros_(parameter)
            if isinstance(layer, _LSTMS) and own.startswith("bias_ih"):
                nn.init.constant_(parameter[forget_rows(num_units)], self.forget_bias)
        elif own.startswith("weight_hh"):
            draw_(parameter, generator, lambda weight, g: _orthogonal_gates_(weight, num_units, g))
        else:
            # A projection (weight_hr) is one matrix; input weights are one per gate.
            rows = parameter.shape[0] if own.startswith("weight_hr") else num_units
            bound = math.sqrt(6 / (rows + parameter.shape[1]))
            draw_(parameter, generator, lambda weight, g: weight.uniform_(-bound, bound, generator=g))


def _orthogonal_gates_(weight: Tensor, num_units: int, generator: torch.Generator) -> None:
    for gate in weight.view(-1, num_units, weight.shape[1]):
        gate.copy_(orthogonal(num_units, weight.shape[1], generator))
