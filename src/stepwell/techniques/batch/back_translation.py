"""Back-translation: some texts are translated into another language and back, by a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.batches.tokens import known_tokens, map_tokens, needed, refuse_aligned, require_tokens
from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.errors import JobError
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng

__all__ = ["BackTranslation", "decode_tokens", "encode_texts"]

UNKNOWN_WORDS = ("<unk>", "[UNK]", "<UNK>", "[unk]")


def decode_tokens(tokens: Tensor, vocabulary: Sequence[str], *, padding: int | None, separator: str = " ") -> list[str]:
    """The text of each row of token ids (N, T), padding left out.

    Raises:
        JobError: an id outside the vocabulary.

    >>> decode_tokens(torch.tensor([[1, 2, 0]]), ["_", "good", "day"], padding=0)
    ['good day']
    """
    texts = []
    for row in tokens.tolist():
        beyond = [token for token in row if not 0 <= token < len(vocabulary)]
        if beyond:
            raise JobError(
                f"token id {beyond[0]} is none of the {len(vocabulary)} words of the vocabulary",
                expected="the vocabulary that the token ids were made with",
                fix="Give back_translation.vocabulary in full",
            )
        texts.append(separator.join(vocabulary[token] for token in row if token != padding))
    return texts


def encode_texts(
    texts: Sequence[str],
    vocabulary: Sequence[str],
    *,
    length: int,
    padding: int,
    unknown: int | None = None,
    separator: str = " ",
) -> Tensor:
    """Token ids (N, length) of texts: cut where they are longer, padded at the end where they are shorter.

    Args:
        unknown: the token id of words that are not in the vocabulary; None leaves them out.
        separator: what stands between words; "" where each token is one character.

    >>> encode_texts(["good", "good new day"], ["_", "good", "day"], length=2, padding=0).tolist()
    [[1, 0], [1, 2]]
    """
    places = {word: place for place, word in reversed(list(enumerate(vocabulary)))}
    rows = []
    for text in texts:
        words = text.split() if separator.isspace() else list(text) if not separator else text.split(separator)
        found = [place for word in words if (place := places.get(word, unknown)) is not None][:length]
        rows.append(found + [padding] * (length - len(found)))
    return torch.tensor(rows, dtype=torch.int64).view(len(rows), length)


@technique(
    id="back_translation",
    slot="batch",
    paper="Yu et al. 2018, arXiv:1804.09541",
    provides=("token_inputs",),
    search={"probability": (0.02, 0.5, "log")},
)
class BackTranslation:
    """Say some texts in other words: translated into another language and back.

    What: some texts of a batch, by their own draws, are decoded, given to `translate` in one call, and encoded again,
    cut or padded to the length they had. Why: whole sentences change, not only words. When not: `translate` is slow
    (it runs in every step: keep a cache, or prepare the data once), words matter by their letters, or there are
    targets for each token. Runs repeat to the bit only where `translate` does.

    Args:
        translate: a function from a list of texts to as many texts, there and back again. From Python only.
        probability: share of the texts that are translated, in [0, 1].
        separator: what stands between the words of a text; "" where each token is one character.
        unknown: the token id of words that are not in the vocabulary; None takes the vocabulary's "<unk>" or "[UNK]",
            and leaves such words out where it has neither.
        vocabulary: the word of each token id; filled in from the data by a job.
        padding: the token id that fills texts up at their ends; filled in likewise.

    Shapes: integer inputs (N, T) -> same.

    Raises:
        JobError: a setting out of range; no vocabulary or padding; a target for each token; another number of texts.
        DataError: no token ids.

    Paper: Yu et al., "QANet: Combining Local Convolution with Global Self-Attention for Reading Comprehension", ICLR
    2018, arXiv:1804.09541 (section 3).

    >>> turn = lambda texts: [" ".join(reversed(text.split())) for text in texts]
    >>> turning = BackTranslation(translate=turn, probability=1.0, vocabulary=["_", "good", "day"], padding=0)
    >>> turning(Batch(torch.tensor([[1, 2, 0]])), Rng(0)).inputs.tolist()
    [[2, 1, 0]]
    """

    translate: Any
    probability: float = 0.1
    separator: str = " "
    unknown: int | None = None
    vocabulary: list[str] | None = None
    padding: int | None = None

    def __post_init__(self) -> None:
        require(
            callable(self.translate),
            "back_translation.translate",
            self.translate,
            "a function from a list of texts to a list of texts",
            "A job file can't hold one: train from Python, with BackTranslation(translate=...) among the techniques",
        )
        require_tokens("back_translation", self.probability, vocabulary=self.vocabulary, padding=self.padding)
        good = self.unknown is None or self.unknown >= 0
        require(good, "back_translation.unknown", self.unknown, "a token id", "Leave it out to look for <unk>")

    def completed(self, facts: DataFacts) -> dict[str, tuple[Any, str]]:
        """Vocabulary and padding, from the data."""
        return known_tokens(self, facts)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        refuse_aligned(batch, "back_translation")
        words = needed(self.vocabulary, "back_translation.vocabulary", "the word of each token id")
        padding = needed(self.padding, "back_translation.padding", "the token id that fills short texts up")
        unknown = self.unknown
        if unknown is None:
            unknown = next((words.index(word) for word in UNKNOWN_WORDS if word in words), None)
        translate: Callable[[list[str]], list[str]] = self.translate

        def translated(tokens: Tensor, number: int) -> Tensor:
            draws = rng.child(number).uniform(batch.position, len(tokens), 1, tokens.device)[:, 0]
            rows = (draws < self.probability).nonzero()[:, 0]
            if len(rows) == 0:
                return tokens
            texts = decode_tokens(tokens[rows], words, padding=padding, separator=self.separator)
            answers = list(translate(texts))
            if len(answers) != len(texts) or not all(isinstance(answer, str) for answer in answers):
                raise JobError(
                    f"back_translation.translate made {len(answers)} answers of {len(texts)} texts",
                    expected="one text for each",
                    fix="Return a list of str, in the same order",
                )
            made = encode_texts(
                answers, words, length=tokens.shape[1], padding=padding, unknown=unknown, separator=self.separator
            )
            return tokens.index_copy(0, rows, made.to(tokens))

        return map_tokens(batch, translated, "back_translation")
