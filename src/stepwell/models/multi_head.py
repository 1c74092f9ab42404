"""One body and a head for each of several targets."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.signature import Signature
from stepwell.models.mlp import Norm, perceptron
from stepwell.models.parts import Activation, CategoryEmbeddings, check_dropout, check_sizes
from stepwell.models.registry import model

__all__ = ["MultiHead", "multi_head"]


@final
class MultiHead(nn.Module):
    """A perceptron with several linear heads; made by `multi_head`.

    Shapes: (N, ...), or numeric (N, D) and categories (N, C) int64 -> {name: (N, width of that head)}.
    """

    def __init__(
        self, embeddings: CategoryEmbeddings | None, body: nn.Sequential, heads: nn.ModuleList, names: list[str]
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.body = body
        # A list: a target may have any name, also one with a point in it.
        self.heads = heads
        self.names = names

    def forward(self, numeric: Tensor, categories: Tensor | None = None) -> dict[str, Tensor]:
        inputs = numeric if numeric.ndim == 2 else numeric.flatten(1)
        if self.embeddings is not None and categories is not None:
            inputs = torch.cat([inputs, self.embeddings(categories)], dim=1)
        states = self.body(inputs)
        return {name: head(states) for name, head in zip(self.names, self.heads, strict=True)}


@model("multi_head", kinds=("vector", "table", "image", "series"))
def multi_head(
    signature: Signature,
    *,
    hidden: list[int] = [128, 64],  # noqa: B006 (a job shows it; nothing changes it)
    activation: Activation = "relu",
    norm: Norm = "none",
    dropout: float = 0.0,
    max_embedding_width: int = 32,
) -> nn.Module:
    """A multilayer perceptron with a linear head for each target of task multi_task: what they share is learned once.

    A table's categories pass through embeddings and stand beside its numbers. Images and series are flattened.

    Args:
        signature: of data with several targets.
        hidden: widths of the hidden layers, each >= 1, at least one.
        activation: relu, gelu, silu or tanh.
        norm: none, batch or layer, before the activation.
        dropout: probability in [0, 1), after each activation.
        max_embedding_width: widest embedding of a category, in numbers, >= 1.

    Raises:
        JobError: a setting is out of range, or the data has one target.

    Paper: Caruana 1997, doi:10.1023/A:1007379606734.

    >>> net = multi_head(Signature("vector", (4,), 4, heads=(("kind", 3), ("price", 1))), hidden=[8])
    >>> {name: tuple(output.shape) for name, output in net(torch.zeros(2, 4)).items()}
    {'kind': (2, 3), 'price': (2, 1)}
    """
    check_sizes("model.hidden", hidden)
    check_sizes("model.max_embedding_width", max_embedding_width)
    check_dropout("model.dropout", dropout)
    if not signature.heads or not hidden:
        raise JobError(
            "multi_head got data with one target" if hidden else "model.hidden is empty",
            expected="task multi_task and a hidden layer that its heads share",
            fix="Use mlp for a single target" if hidden else "Write for example hidden: [64]",
        )
    width = math.prod(signature.shape)
    embeddings = None
    if signature.cardinalities:
        embeddings = CategoryEmbeddings(signature.cardinalities, limit=max_embedding_width)
        width += embeddings.width
    heads = nn.ModuleList(nn.Linear(hidden[-1], size) for _, size in signature.heads)
    body = perceptron(width, hidden, activation, norm, dropout)
    return MultiHead(embeddings, body, heads, [name for name, _ in signature.heads])
