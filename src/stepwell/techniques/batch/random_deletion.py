"""Random deletion: some words of a text are left out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.batches.tokens import known_tokens, map_tokens, needed, refuse_aligned, require_tokens
from stepwell.core.catalog import technique
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng

__all__ = ["RandomDeletion", "delete_tokens"]


def delete_tokens(tokens: Tensor, draws: Tensor, probability: float, *, padding: int) -> Tensor:
    """Token ids (N, T), some left out: the others move left, and padding fills up the end. One at least stays.

    Args:
        draws: (N, T) in [0, 1): a token is left out where its draw is below the probability. Where all of a text's are,
            the one with the largest draw stays.
        padding: the token id that fills up the end; it is never counted as a token.

    >>> delete_tokens(torch.tensor([[5, 6, 7, 0]]), torch.tensor([[0.9, 0.1, 0.9, 0.9]]), 0.5, padding=0).tolist()
    [[5, 7, 0, 0]]
    """
    real = tokens != padding
    largest = draws.masked_fill(~real, -1.0).argmax(1, keepdim=True)
    kept = (draws >= probability) & real
    kept = kept | (torch.zeros_like(kept).scatter(1, largest, True) & real & ~kept.any(1, keepdim=True))
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)
    return torch.where(kept, tokens, padding).gather(1, order)


@technique(
    id="random_deletion",
    slot="batch",
    paper="Wei and Zou 2019, arXiv:1901.11196",
    provides=("token_inputs",),
    search={"probability": (0.02, 0.3, "log")},
)
class RandomDeletion:
    """Leave some words of each text out.

    What: each token is left out with a probability, but never all of a text; the others move left and padding fills
    up the end. Why: small sets of labelled texts; no single word decides. When not: a single word can turn the
    meaning ("not"), or there are targets for each token.

    Args:
        probability: share of the tokens that are left out, in [0, 1]. Paper: 0.1.
        padding: the token id that fills texts up at their ends; filled in from the data by a job.

    Shapes: integer inputs (N, T) -> same.

    Raises:
        JobError: a setting out of range; no padding; a target for each token. DataError: no token ids.

    Paper: Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks",
    EMNLP 2019, arXiv:1901.11196.

    >>> shortened = RandomDeletion(probability=1.0, padding=0)(Batch(torch.tensor([[3, 4, 5, 0]])), Rng(0)).inputs
    >>> int((shortened != 0).sum())
    1
    """

    probability: float = 0.1
    padding: int | None = None

    def __post_init__(self) -> None:
        require_tokens("random_deletion", self.probability, padding=self.padding)

    def completed(self, facts: DataFacts) -> dict[str, tuple[Any, str]]:
        """The padding, from the data."""
        return known_tokens(self, facts)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        refuse_aligned(batch, "random_deletion")
        padding = needed(self.padding, "random_deletion.padding", "the token id that fills short texts up")
        if self.probability == 0:
            return batch

        def shortened(tokens: Tensor, number: int) -> Tensor:
            draws = rng.child(number).uniform(batch.position, len(tokens), tokens.shape[1], tokens.device)
            return delete_tokens(tokens, draws, self.probability, padding=padding)

        return map_tokens(batch, shortened, "random_deletion")
