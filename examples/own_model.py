"""A model of your own for jobs: `stepwell train examples/own_model.yaml --import examples/own_model.py`."""

from __future__ import annotations

import torch
from torch import nn

import stepwell
from stepwell.core.signature import Signature


class GatedMlp(nn.Module):
    """One hidden layer whose units are switched by a second one."""

    def __init__(self, num_inputs: int, width: int, num_outputs: int) -> None:
        super().__init__()
        self.value = nn.Linear(num_inputs, width)
        self.gate = nn.Linear(num_inputs, width)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        flat = inputs.flatten(1)
        return self.head(self.value(flat) * torch.sigmoid(self.gate(flat)))


@stepwell.model("gated_mlp", kinds=("vector", "image"))
def gated_mlp(signature: Signature, *, width: int = 64) -> nn.Module:
    """A gated perceptron.

    Args:
        signature: of vector or image data.
        width: of the hidden layer, >= 1.
    """
    return GatedMlp(torch.Size(signature.shape).numel(), width, signature.num_outputs)
