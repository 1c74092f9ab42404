"""Texts as the mean of their words' embeddings."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from stepwell.core.signature import Signature
from stepwell.models.mlp import perceptron
from stepwell.models.parts import Activation, check_dropout, check_sizes
from stepwell.models.registry import model

__all__ = ["BagOfWords", "bag_of_words"]


@final
class BagOfWords(nn.Module):
    """The mean of the embeddings of the words that are there, then a perceptron; made by `bag_of_words`.

    Shapes: (N, T) int64, 0 where there is no word -> (N, num_outputs).
    """

    def __init__(self, embedding: nn.Embedding, dropout: nn.Module, body: nn.Sequential, head: nn.Linear) -> None:
        super().__init__()
        self.embedding = embedding
        self.dropout = dropout
        self.body = body
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        there = (inputs != 0).unsqueeze(-1)
        words = self.embedding(inputs) * there
        mean = words.sum(1) / there.sum(1).clamp(min=1)
        outputs: Tensor = self.head(self.body(self.dropout(mean)))
        return outputs


@model("bag_of_words", kinds=("document",))
def bag_of_words(
    signature: Signature,
    *,
    width: int = 64,
    hidden: list[int] = [],  # noqa: B006 (a job shows it; nothing changes it)
    activation: Activation = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """The mean of the embeddings of a text's words, then a perceptron: the order of words doesn't matter.

    Fast, and hard to beat on topics and sentiment with little data.

    Args:
        signature: of documents.
        width: of a word's embedding, in numbers, >= 1.
        hidden: widths of hidden layers on top of the mean, each >= 1; an empty list gives a linear model.
        activation: relu, gelu, silu or tanh.
        dropout: probability in [0, 1), on the mean and after each activation.

    Raises:
        JobError: a setting is out of range.

    Paper: Joulin et al. 2016, arXiv:1607.01759 (without its n-grams); Iyyer et al. 2015, doi:10.3115/v1/P15-1162.

    >>> import torch
    >>> net = bag_of_words(Signature("document", (5,), 2, vocab_size=10), width=8)
    >>> net(torch.tensor([[2, 3, 0, 0, 0]])).shape
    torch.Size([1, 2])
    """
    check_sizes("model.width", width)
    check_sizes("model.hidden", hidden)
    check_dropout("model.dropout", dropout)
    body = perceptron(width, hidden, activation, "none", dropout)
    head = nn.Linear(hidden[-1] if hidden else width, signature.num_outputs)
    return BagOfWords(nn.Embedding(signature.vocab_size, width), nn.Dropout(dropout), body, head)
