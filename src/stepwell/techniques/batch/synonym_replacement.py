"""Synonym replacement: some words of a text are replaced by words of the same meaning."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.batches.thesaurus import SynonymTable, synonym_table
from stepwell.core.batches.tokens import known_tokens, map_tokens, needed, require_tokens, tokens_of
from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng

__all__ = ["SynonymReplacement", "replace_synonyms"]


def replace_synonyms(tokens: Tensor, table: SynonymTable, draws: Tensor, probability: float) -> Tensor:
    """Token ids (N, T), each replaced by one of its synonyms with a probability.

    Args:
        table: see `stepwell.core.batches.thesaurus.synonym_table`.
        draws: (N, 2 T) in [0, 1): whether, then which.

    >>> table = synonym_table(["big", "dog", "large"], "builtin", "replace_synonyms")
    >>> replace_synonyms(torch.tensor([[0, 1]]), table, torch.tensor([[0.1, 0.1, 0.0, 0.0]]), 0.5).tolist()
    [[2, 1]]
    """
    whether, which = draws.chunk(2, dim=1)
    return torch.where(whether < probability, table.pick(tokens, which), tokens)


@technique(
    id="synonym_replacement",
    slot="batch",
    paper="Wei and Zou 2019, arXiv:1901.11196",
    provides=("token_inputs",),
    search={"probability": (0.02, 0.3, "log")},
)
class SynonymReplacement:
    """Replace some words of each text by synonyms.

    What: each word that has synonyms in the vocabulary becomes one of them with a probability, word by word; places
    and length stay, so targets for each token stay true to their place. Why: small sets of labelled texts (the paper
    gains most below 500). When not: the exact word matters (names, code), or tokens are no words.

    Args:
        probability: share of the words with synonyms that are replaced, in [0, 1]. Paper: 0.1 of all words.
        thesaurus: "builtin", about 500 common English words, or the path of a text file with lines such as
            "big: large, huge", each a group of words that can stand for each other.
        vocabulary: the word of each token id; filled in from the data by a job.

    Shapes: integer inputs (N, T) -> same.

    Raises:
        JobError: a setting out of range, no vocabulary, or no word with a synonym. DataError: no token ids.

    Paper: Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks",
    EMNLP 2019, arXiv:1901.11196.

    >>> replacing = SynonymReplacement(probability=1.0, vocabulary=["a", "big", "large"])
    >>> replacing(Batch(torch.tensor([[0, 1], [0, 2]])), Rng(0)).inputs.tolist()
    [[0, 2], [0, 1]]
    """

    probability: float = 0.1
    thesaurus: str = "builtin"
    vocabulary: list[str] | None = None

    def __post_init__(self) -> None:
        require_tokens("synonym_replacement", self.probability, vocabulary=self.vocabulary)
        require(bool(self.thesaurus), "synonym_replacement.thesaurus", self.thesaurus, 'a path or "builtin"', "See the card")

    def completed(self, facts: DataFacts) -> dict[str, tuple[Any, str]]:
        """The vocabulary, from the data."""
        return known_tokens(self, facts)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        tokens_of(batch, "synonym_replacement")
        words = needed(self.vocabulary, "synonym_replacement.vocabulary", "the word of each token id")
        table = synonym_table(words, self.thesaurus, "synonym_replacement")
        if self.probability == 0:
            return batch

        def replaced(tokens: Tensor, number: int) -> Tensor:
            num, length = tokens.shape
            draws = rng.child(number).uniform(batch.position, num, 2 * length, tokens.device)
            return replace_synonyms(tokens, table.to(tokens.device), draws, self.probability)

        return map_tokens(batch, replaced, "synonym_replacement")
