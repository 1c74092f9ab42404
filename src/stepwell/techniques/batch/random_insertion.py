"""Random insertion: synonyms of some words of a text are put in at random places."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.batches.thesaurus import SynonymTable, synonym_table
from stepwell.core.batches.tokens import known_tokens, map_tokens, needed, refuse_aligned, require_tokens
from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng

__all__ = ["RandomInsertion", "insert_synonyms"]


def insert_synonyms(
    tokens: Tensor, table: SynonymTable, draws: Tensor, probability: float, *, padding: int | None = None
) -> Tensor:
    """Token ids (N, T) with synonyms of some of them inserted; what no longer fits drops off at the end.

    Args:
        table: see `stepwell.core.batches.thesaurus.synonym_table`.
        draws: (N, 3 T) in [0, 1): whether a token's synonym is inserted, which one, and where.
        padding: the token id that fills up the end.

    >>> table = synonym_table(["big", "dog", "large", "_"], "builtin", "insert_synonyms")
    >>> draws = torch.tensor([[0.0, 0.9, 0.9, 0.9, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0]])
    >>> insert_synonyms(torch.tensor([[0, 1, 3, 3]]), table, draws, 0.5, padding=3).tolist()
    [[0, 2, 1, 3]]
    """
    length = tokens.shape[1]
    whether, which, where = draws.chunk(3, dim=1)
    real = torch.ones_like(tokens, dtype=torch.bool) if padding is None else tokens != padding
    inserted = (whether < probability) & real & (table.count(tokens) > 0)
    places = torch.arange(length, dtype=torch.float32, device=tokens.device).expand(tokens.shape)
    # Sorted by place: a token stands at its number, an inserted one half a place before another or before the end.
    gaps = (where * (real.sum(1, keepdim=True) + 1)).floor() - 0.5
    keys = torch.cat([places, gaps.masked_fill(~inserted, 2.0 * length)], 1)
    order = keys.argsort(dim=1, stable=True)[:, :length]
    return torch.cat([tokens, table.pick(tokens, which)], 1).gather(1, order)


@technique(
    id="random_insertion",
    slot="batch",
    paper="Wei and Zou 2019, arXiv:1901.11196",
    provides=("token_inputs",),
    search={"probability": (0.02, 0.3, "log")},
)
class RandomInsertion:
    """Insert synonyms of some words of each text at random places of it.

    What: each word that has synonyms in the vocabulary sends one of them to a random place of its text with a
    probability; the length stays, and what no longer fits drops off at the padded end. Why: small sets of labelled
    texts. When not: word order carries the answer, targets for each token, or texts that fill their length (their
    ends are lost).

    Args:
        probability: share of the words with synonyms that insert one, in [0, 1]. Paper: 0.1 of all words.
        thesaurus: "builtin", about 500 common English words, or the path of a text file with lines such as
            "big: large, huge", each a group of words that can stand for each other.
        vocabulary: the word of each token id; filled in from the data by a job.
        padding: the token id that fills texts up at their ends; filled in likewise.

    Shapes: integer inputs (N, T) -> same.

    Raises:
        JobError: a setting out of range, no vocabulary, or no word with a synonym; a target for each token.
        DataError: no token ids.

    Paper: Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks",
    EMNLP 2019, arXiv:1901.11196.

    >>> inserting = RandomInsertion(probability=1.0, vocabulary=["_", "big", "large"], padding=0)
    >>> inserting(Batch(torch.tensor([[1, 0, 0]])), Rng(0)).inputs.sort().values.tolist()
    [[0, 1, 2]]
    """

    probability: float = 0.1
    thesaurus: str = "builtin"
    vocabulary: list[str] | None = None
    padding: int | None = None

    def __post_init__(self) -> None:
        require_tokens("random_insertion", self.probability, vocabulary=self.vocabulary, padding=self.padding)
        require(bool(self.thesaurus), "random_insertion.thesaurus", self.thesaurus, 'a path or "builtin"', "See the card")

    def completed(self, facts: DataFacts) -> dict[str, tuple[Any, str]]:
        """Vocabulary and padding, from the data."""
        return known_tokens(self, facts)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        refuse_aligned(batch, "random_insertion")
        words = needed(self.vocabulary, "random_insertion.vocabulary", "the word of each token id")
        table = synonym_table(words, self.thesaurus, "random_insertion")
        if self.probability == 0:
            return batch

        def inserted(tokens: Tensor, number: int) -> Tensor:
            num, length = tokens.shape
            draws = rng.child(number).uniform(batch.position, num, 3 * length, tokens.device)
            return insert_synonyms(tokens, table.to(tokens.device), draws, self.probability, padding=self.padding)

        return map_tokens(batch, inserted, "random_insertion")
