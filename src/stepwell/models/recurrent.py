"""A small recurrent network for time series and for tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, final

from torch import Tensor, nn

from stepwell.core.signature import Signature
from stepwell.models.last_token import LastToken
from stepwell.models.parts import check_dropout, check_sizes
from stepwell.models.registry import model

__all__ = ["Recurrent", "recurrent"]

Cell = Literal["rnn", "gru", "lstm"]

_CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


@final
class Recurrent(nn.Module):
    """Recurrent layers, then a linear head; made by `recurrent`.

    Shapes: series (N, steps, D) -> (N, num_outputs), from the last step; tokens (N, T) int64 -> (N, T, num_outputs).
    """

    def __init__(self, embedding: nn.Embedding | None, body: nn.RNNBase, dropout: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.embedding = embedding
        self.body = body
        self.dropout = dropout
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        if self.embedding is None:
            states = self.body(inputs)[0][:, -1]
        else:
            states = self.body(self.dropout(self.embedding(inputs)))[0]
        outputs: Tensor = self.head(self.dropout(states))
        return outputs


@model("recurrent", kinds=("series", "tokens", "document"))
def recurrent(
    signature: Signature,
    *,
    cell: Cell = "gru",
    num_units: int = 12,
    num_layers: int = 1,
    dropout: float = 0.0,
    embedding_width: int | None = None,
) -> nn.Module:
    """A recurrent network that reads a window of a series and predicts what follows, or reads tokens and predicts the next ones.

    Documents are answered after their last word.

    torch's cells have two bias vectors per layer, where some books count one: 12 plain units on 3 features with one
    output have 217 parameters here.

    Args:
        signature: of series, token data or documents.
        cell: "rnn" (tanh), "gru" or "lstm".
        num_units: width of the hidden state, >= 1; 12 suits short windows of a few features, character models need 128 and more.
        num_layers: recurrent layers on top of each other, >= 1.
        dropout: probability in [0, 1), on embeddings, between layers and on the inputs of the head.
        embedding_width: of a token, in numbers, >= 1; num_units where it isn't set. Unused for series.

    Raises:
        JobError: a setting is out of range.

    Papers: Elman 1990 (rnn); Cho et al. 2014, arXiv:1406.1078 (gru); Hochreiter & Schmidhuber 1997 (lstm).

    >>> import torch
    >>> net = recurrent(Signature("series", (5, 3), 1), cell="rnn")
    >>> net(torch.zeros(2, 5, 3)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1]), 217)
    """
    check_sizes("model.num_units", num_units)
    check_sizes("model.num_layers", num_layers)
    check_dropout("model.dropout", dropout)
    width = signature.shape[-1]
    embedding = None
    if signature.kind in ("tokens", "document"):
        width = num_units if embedding_width is None else embedding_width
        check_sizes("model.embedding_width", width)
        embedding = nn.Embedding(signature.vocab_size, width)
    between = dropout if num_layers > 1 else 0.0  # torch warns about dropout between the layers of one layer
    body = _CELLS[cell](width, num_units, num_layers, batch_first=True, dropout=between)
    net = Recurrent(embedding, body, nn.Dropout(dropout), nn.Linear(num_units, signature.num_outputs))
    return LastToken(net) if signature.kind == "document" else net
