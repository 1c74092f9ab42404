"""A decoder-only transformer, pre-norm, as in GPT-2."""

from __future__ import annotations

import math
from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepwell.core.check import require
from stepwell.core.errors import DataError, JobError
from stepwell.core.modules.norms import norm as make_norm
from stepwell.core.signature import Signature
from stepwell.models.last_token import LastToken
from stepwell.models.parts import Residual, check_dropout, check_sizes
from stepwell.models.registry import model

__all__ = ["Attention", "Block", "Positions", "Transformer", "transformer"]

Bias = Literal["none", "all"]
Norm = Literal["layer", "rms"]
Embeddings = Literal["tied", "separate"]

INIT_STD = 0.02  # of every weight matrix and embedding; GPT-2


@final
class Positions(nn.Module):
    """A learned vector for each place in the block, added to what comes in.

    The parameter is bare (no module type tells what it is), so it says so: `weight.stepwell_role == "position"`.

    Args:
        block_size: places.
        width: of a vector.

    Shapes: (N, T, width) -> same, T <= block_size.
    """

    def __init__(self, block_size: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(block_size, width).normal_(0.0, INIT_STD))
        self._declare()

    def _declare(self) -> None:
        weight: Any = self.weight
        weight.stepwell_role = "position"

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copied parameter loses its attributes, so a copied module declares it again.
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._declare()

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.weight[: inputs.shape[1]]


@final
class Attention(nn.Module):
    """Causal self-attention: a position sees itself and what came before.

    Args:
        width: of a position, a multiple of num_heads.
        num_heads: heads.
        dropout: probability in [0, 1), on the attention weights.
        bias: "all" gives the projections biases, "none" doesn't.

    Shapes: (N, T, width) -> same.

    Paper: Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762.
    """

    def __init__(self, width: int, num_heads: int, *, dropout: float, bias: Bias = "none") -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.mix = nn.Linear(width, 3 * width, bias=bias == "all")
        self.project = nn.Linear(width, width, bias=bias == "all")

    def forward(self, inputs: Tensor) -> Tensor:
        batch, steps, width = inputs.shape
        heads = self.mix(inputs).view(batch, steps, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        rate = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=True)
        outputs: Tensor = self.project(seen.transpose(1, 2).reshape(batch, steps, width))
        return outputs


@final
class Block(nn.Module):
    """Attention, then a feed-forward network, each a residual branch behind its own norm.

    `stepwell_role = "block"` marks it as a unit for activation checkpointing and sharding.
    """

    stepwell_role = "block"

    def __init__(self, attention: Residual, feed_forward: Residual) -> None:
        super().__init__()
        self.attention = attention
        self.feed_forward = feed_forward

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.feed_forward(self.attention(inputs))
        return outputs


@final
class Transformer(nn.Module):
    """Embeddings, blocks, a norm and a head; made by `transformer`.

    Where `head` is None, the token embedding is the head too: one tensor, stored once.

    Shapes: (N, T) int64 -> (N, T, num_outputs), T <= block size.
    """

    def __init__(
        self,
        embedding: nn.Embedding,
        positions: Positions,
        dropout: nn.Module,
        blocks: nn.Sequential,
        norm: nn.Module,
        head: nn.Linear | None,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.positions = positions
        self.dropout = dropout
        self.blocks = blocks
        self.norm = norm
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        block_size = self.positions.weight.shape[0]
        if inputs.shape[1] > block_size:
            raise DataError(
                f"the transformer got {inputs.shape[1]} tokens",
                expected=f"at most its block size, {block_size}",
                fix="Cut the text into shorter pieces, or build the model for a longer block",
            )
        states = self.norm(self.blocks(self.dropout(self.positions(self.embedding(inputs)))))
        outputs: Tensor = F.linear(states, self.embedding.weight) if self.head is None else self.head(states)
        return outputs


def _norm(name: Norm, width: int, bias: Bias) -> nn.Module:
    return nn.LayerNorm(width, bias=bias == "all") if name == "layer" else make_norm(name, width, 0)


def _block(width: int, num_heads: int, bias: Bias, norm: Norm, rates: dict[str, float]) -> Block:
    norms = [_norm(norm, width, bias) for _ in range(2)]
    attention = Attention(width, num_heads, dropout=rates["attention"], bias=bias)
    wide = nn.Linear(width, 4 * width, bias=bias == "all")
    narrow = nn.Linear(4 * width, width, bias=bias == "all")
    return Block(
        Residual(nn.Sequential(norms[0], attention, nn.Dropout(rates["residual"]))),
        Residual(nn.Sequential(norms[1], wide, nn.GELU(), nn.Dropout(rates["ffn"]), narrow, nn.Dropout(rates["residual"]))),
    )


def _initialise_(model: Transformer, num_layers: int) -> None:
    # GPT-2: N(0, 0.02) everywhere. What ends on the residual stream is scaled by 1/sqrt(2N): the stream is a sum of
    # 2N branches, and keeps its variance then (Radford et al. 2019, section 2.3).
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, 0.0, INIT_STD)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, Residual):
            last = [part for part in module.modules() if isinstance(part, nn.Linear)][-1]
            nn.init.normal_(last.weight, 0.0, INIT_STD / math.sqrt(2 * num_layers))


def _rates(dropout: float, **places: float | None) -> dict[str, float]:
    rates = {place: dropout if rate is None else rate for place, rate in places.items()}
    check_dropout("model.dropout", dropout)
    for place, rate in rates.items():
        check_dropout(f"model.{place}_dropout", rate)
    return rates


def _head(signature: Signature, width: int, embeddings: Embeddings, bias: Bias) -> nn.Linear | None:
    if embeddings == "separate":
        return nn.Linear(width, signature.num_outputs, bias=bias == "all")
    if signature.num_outputs != signature.vocab_size:
        raise JobError(
            f"tied embeddings give {signature.vocab_size} outputs where the data need {signature.num_outputs}",
            expected="as many outputs as tokens in the vocabulary",
            fix="Set model.embeddings to separate",
        )
    return None


@model("transformer", kinds=("tokens", "document"))
def transformer(
    signature: Signature,
    *,
    num_layers: int = 4,
    num_heads: int = 4,
    width: int = 128,
    dropout: float = 0.0,
    embedding_dropout: float | None = None,
    attention_dropout: float | None = None,
    residual_dropout: float | None = None,
    ffn_dropout: float | None = None,
    embeddings: Embeddings = "tied",
    bias: Bias = "none",
    norm: Norm = "layer",
) -> nn.Module:
    """A decoder-only transformer: pre-norm, causal, learned positions, GELU feed-forward four times as wide.

    The defaults are nanoGPT's CPU configuration. The block size is the length of the data's windows. Documents are
    answered after their last word, by a head of their own.

    Args:
        signature: of token data or documents.
        num_layers: blocks, >= 1.
        num_heads: attention heads, >= 1; divides width.
        width: of a position, in numbers, >= 1.
        dropout: probability in [0, 1) at all four places below.
        embedding_dropout: on token plus position, where it differs from `dropout`.
        attention_dropout: on attention weights, where it differs.
        residual_dropout: at the end of each residual branch, where it differs.
        ffn_dropout: inside the feed-forward network, where it differs.
        embeddings: "tied" (the token embedding is also the head) or "separate".
        bias: "none", or "all" linear layers and norms (rms has none).
        norm: "layer", or "rms" (by the root mean square, without the mean).

    Raises:
        JobError: a setting is out of range, or tied embeddings where outputs are not the tokens of the vocabulary.

    Papers: Radford et al. 2019 (GPT-2); Press & Wolf 2017, arXiv:1608.05859 (tied embeddings).

    >>> net = transformer(Signature("tokens", (64,), 65, vocab_size=65))
    >>> sum(p.numel() for p in net.parameters()), net(torch.zeros(2, 64, dtype=torch.int64)).shape
    (804096, torch.Size([2, 64, 65]))
    """
    check_sizes("model.num_layers", num_layers)
    check_sizes("model.num_heads", num_heads)
    check_sizes("model.width", width)
    require(width % num_heads == 0, "model.width", width, f"a multiple of num_heads, {num_heads}", "Change one of the two")
    rates = _rates(dropout, embedding=embedding_dropout, attention=attention_dropout, residual=residual_dropout, ffn=ffn_dropout)
    whole = signature.kind == "document"
    head = _head(signature, width, "separate" if whole else embeddings, bias)
    net = Transformer(
        nn.Embedding(signature.vocab_size, width),
        Positions(signature.shape[0], width),
        nn.Dropout(rates["embedding"]),
        nn.Sequential(*(_block(width, num_heads, bias, norm, rates) for _ in range(num_layers))),
        _norm(norm, width, bias),
        head,
    )
    _initialise_(net, num_layers)
    return LastToken(net) if whole else net
