"""Remedies for gradients that don't get through: other units, norms between layers, gates."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.calls import Call, calls_of
from stepwell.doctor.remedies.modules import Action, drawn_anew, instead, rewired, then
from stepwell.doctor.rows import tensors
from stepwell.doctor.setup import Setup

_RAILED = ("sigmoid", "tanh", "hardtanh", "hardsigmoid", "softsign", "logsigmoid")
_LAYERS = ("linear", "conv1d", "conv2d", "conv3d")


def rectified(setup: Setup) -> Setup:
    """Rectified units in place of hidden units with rails, and weights drawn anew, with He's spread where they are matrices."""
    outputs, calls = _calls(setup)
    hidden = [call for call in calls if call.name in _RAILED and not _ends(call, outputs)]
    redrawn = drawn_anew()(setup)
    with seeded_defaults(0), torch.no_grad():
        for module in redrawn.model.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)) and hidden:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    actions: dict[tuple[str, int | None], Action] = {call.key: instead(functional.relu) for call in hidden}
    return rewired(actions)(redrawn) if actions else redrawn


def normed(setup: Setup) -> Setup:
    """A layer norm (without weights) behind each layer but those that give the outputs."""
    _, calls = _calls(setup)
    layers = [call for call in calls if call.name in _LAYERS and isinstance(call.output, Tensor)]
    return rewired({call.key: then(_norm) for call in layers[:-1]})(setup)


def gated(setup: Setup) -> Setup:
    """A GRU in place of each plain recurrence."""
    copied = setup.copied()
    with seeded_defaults(0):
        for parent in list(copied.model.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is nn.RNN:
                    gru = nn.GRU(
                        child.input_size,
                        child.hidden_size,
                        child.num_layers,
                        bias=child.bias,
                        batch_first=child.batch_first,
                        dropout=child.dropout,
                        bidirectional=child.bidirectional,
                    )
                    setattr(parent, name, gru)
    return copied.change(optimizer={key: value for key, value in copied.optimizer.items() if key != "params"})


def _norm(value: Tensor) -> Tensor:
    if value.dim() <= 3:
        return functional.layer_norm(value, value.shape[-1:])
    return functional.group_norm(value, 1)


def _calls(setup: Setup) -> tuple[object, list[Call]]:
    with seeded_defaults(0), torch.no_grad():
        return calls_of(setup.copied().model.eval(), setup.train.take(slice(0, 8)).inputs)


def _ends(call: Call, outputs: object) -> bool:
    """Whether a call gives the outputs themselves."""
    given = tensors(outputs)
    return isinstance(call.output, Tensor) and any(
        call.output.shape == part.shape and bool(torch.equal(call.output, part)) for part in given
    )
