"""One answer for a whole text, from a model that answers after each token."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

__all__ = ["LastToken"]


@final
class LastToken(nn.Module):
    """What a causal model says after a text's last word; padding (token 0, at the end) is not read.

    Args:
        body: (N, T) int64 -> (N, T, num_outputs), each place seeing itself and what came before.

    Shapes: (N, T) int64 -> (N, num_outputs). A text without words is answered after its first place.

    >>> LastToken(nn.Embedding.from_pretrained(torch.tensor([[0.0], [1.0], [2.0]])))(torch.tensor([[1, 2, 0]])).tolist()
    [[2.0]]
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.body(inputs)
        last = (inputs != 0).sum(1).sub(1).clamp(min=0)
        # Not len(inputs): that would fix the size of the batch in an exported graph.
        return outputs[torch.arange(inputs.shape[0], device=inputs.device), last]
