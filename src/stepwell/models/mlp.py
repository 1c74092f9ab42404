"""A multilayer perceptron for vectors, tables with categories, and anything small enough to be flattened."""

from __future__ import annotations

import math
from typing import Literal, final

import torch
from torch import Tensor, nn

from stepwell.core.errors import DataError
from stepwell.core.modules.norms import norm as make_norm
from stepwell.core.signature import Signature
from stepwell.models.parts import Activation, CategoryEmbeddings, activation, check_dropout, check_sizes
from stepwell.models.registry import model

__all__ = ["Mlp", "TableMlp", "mlp", "perceptron"]

Norm = Literal["none", "batch", "layer", "group", "rms"]


def perceptron(width: int, hidden: list[int], act: Activation, norm: Norm, dropout: float) -> nn.Sequential:
    """The hidden layers: linear, norm, activation, dropout for each width in `hidden`."""
    layers: list[nn.Module] = []
    for size in hidden:
        # Batch norm subtracts the mean, and with it any bias.
        layers.append(nn.Linear(width, size, bias=norm != "batch"))
        if norm != "none":
            layers.append(make_norm(norm, size, 0))
        layers += [activation(act), nn.Dropout(dropout)]
        width = size
    return nn.Sequential(*layers)


@final
class Mlp(nn.Module):
    """A perceptron on one tensor. Shapes: (N, ...) -> (N, num_outputs); made by `mlp`."""

    def __init__(self, body: nn.Sequential, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(inputs if inputs.ndim == 2 else inputs.flatten(1)))
        return outputs


@final
class TableMlp(nn.Module):
    """A perceptron on a table. Shapes: numeric (N, D), categories (N, C) int64 -> (N, num_outputs); made by `mlp`."""

    def __init__(self, embeddings: CategoryEmbeddings | None, body: nn.Sequential, head: nn.Linear) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.body = body
        self.head = head

    def forward(self, numeric: Tensor | None = None, categories: Tensor | None = None) -> Tensor:
        parts = [] if numeric is None else [numeric]
        if self.embeddings is not None and categories is not None:
            parts.append(self.embeddings(categories))
        if not parts:
            raise DataError("the table gave no columns", expected="numeric or categories", fix="Check the feature columns")
        outputs: Tensor = self.head(self.body(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)))
        return outputs


@model("mlp", kinds=("vector", "table", "image", "series"))
def mlp(
    signature: Signature,
    *,
    hidden: list[int] = [128, 64],  # noqa: B006 (a job shows it; nothing changes it)
    activation: Activation = "relu",
    norm: Norm = "none",
    dropout: float = 0.0,
    max_embedding_width: int = 32,
) -> nn.Module:
    """A multilayer perceptron: linear, norm, activation, dropout per hidden layer, then a linear head.

    A table's categories pass through embeddings (see `stepwell.models.parts.CategoryEmbeddings`) and stand beside its
    numbers. Images and series are flattened.

    Args:
        signature: of vector, table, image or series data.
        hidden: widths of the hidden layers, each >= 1; an empty list gives a linear model.
        activation: relu, gelu, silu or tanh.
        norm: none, batch, layer, group or rms, before the activation.
        dropout: probability in [0, 1), after each activation.
        max_embedding_width: widest embedding of a category, in numbers, >= 1.

    Raises:
        JobError: a setting is out of range.

    >>> net = mlp(Signature("vector", (4,), 3), hidden=[8])
    >>> net(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """
    check_sizes("model.hidden", hidden)
    check_sizes("model.max_embedding_width", max_embedding_width)
    check_dropout("model.dropout", dropout)
    width = math.prod(signature.shape)
    embeddings = None
    if signature.cardinalities:
        embeddings = CategoryEmbeddings(signature.cardinalities, limit=max_embedding_width)
        width += embeddings.width
    body = perceptron(width, hidden, activation, norm, dropout)
    head = nn.Linear(hidden[-1] if hidden else width, signature.num_outputs)
    return TableMlp(embeddings, body, head) if signature.kind == "table" else Mlp(body, head)
