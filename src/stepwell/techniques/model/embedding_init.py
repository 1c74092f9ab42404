"""Initialisation of embeddings: vectors of length about 1, whatever their width."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.errors import JobError
from stepwell.core.modules.initial_weights import draw_, named
from stepwell.core.randomness import Rng

__all__ = ["EmbeddingInit", "embedding_std"]


def embedding_std(width: int) -> float:
    """1 / sqrt(width): a vector of that many such numbers has an expected squared length of 1.

    >>> embedding_std(64)
    0.125
    """
    return 1 / math.sqrt(width)


@technique(
    id="embedding_init",
    slot="model",
    stage="refine",
    paper="Vaswani et al. 2017, arXiv:1706.03762",
    search={"std": (0.005, 0.5, "log")},
)
class EmbeddingInit:
    """Draw embeddings from N(0, 1 / d), d the width: vectors of length about 1.

    What: standard deviation d^-1/2, where torch draws N(0, 1) and vectors of length sqrt(d). ("N(0, d^-1/2)" in texts
    means this standard deviation; read as a variance, vectors would have length d^1/4.) Why: a tied output layer
    starts with logits of size 1; times sqrt(d), as the transformer's paper has it, what enters has variance 1. When not:
    trained embeddings (it overwrites them); GPT-2's constant 0.02 is `std: 0.02`.

    Padding rows, and the row for unseen categories in stepwell's tables, are set to 0.

    Args:
        std: standard deviation, > 0; None for d^-1/2.

    Shapes: weights of Embedding and EmbeddingBag (codes, d), shared or not. Learned positions are left alone.

    Raises:
        JobError: a standard deviation that is not above 0; a model without an embedding.

    Paper: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762, section 3.4.

    >>> model = EmbeddingInit()(nn.Embedding(500, 16, padding_idx=0), Rng(0))
    >>> round(model.weight[1:].square().sum(dim=1).mean().item(), 1), model.weight[0].abs().sum().item()
    (1.0, 0.0)
    """

    std: float | None = None

    def __post_init__(self) -> None:
        good = self.std is None or 0 < self.std < math.inf
        require(good, "embedding_init.std", self.std, "a finite number above 0", "Leave it out for 1 / sqrt(width)")

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        places = [(name, part) for name, part in model.named_modules() if isinstance(part, (nn.Embedding, nn.EmbeddingBag))]
        if not places:
            raise JobError(
                "embedding_init found no embedding in the model",
                expected="nn.Embedding or nn.EmbeddingBag",
                fix="Leave it out, or use activation_init for linear and convolution layers",
            )
        done: set[int] = set()
        for place, embedding in places:
            if id(embedding.weight) in done:
                continue
            done.add(id(embedding.weight))
            std = embedding_std(embedding.embedding_dim) if self.std is None else self.std
            draw_(embedding.weight, named(rng, f"{place}.weight"), partial(_normal_, std))
            for row in (embedding.padding_idx, embedding.__dict__.get("stepwell_zero_row")):
                if row is not None:
                    nn.init.zeros_(embedding.weight[row])
        return model


def _normal_(std: float, weight: Tensor, generator: torch.Generator) -> None:
    weight.normal_(0.0, std, generator=generator)
