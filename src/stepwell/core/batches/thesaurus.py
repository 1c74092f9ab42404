"""A thesaurus: which words can stand for which, and the same over the ids of a vocabulary."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stepwell.core.errors import JobError

__all__ = ["SynonymTable", "read_thesaurus", "synonym_table"]

BUILTIN = "builtin"
MOST_PAIRS = 2_000_000  # of words that can stand for each other; ten times what large dictionaries have


@dataclass(frozen=True, slots=True)
class SynonymTable:
    """The synonyms of every token id.

    Args:
        ids: (V, K) token ids; a row's first `counts` entries are synonyms, the rest is 0.
        counts: (V,) how many a token has.
    """

    ids: Tensor
    counts: Tensor

    def to(self, device: torch.device) -> SynonymTable:
        """The table on a device."""
        return self if self.ids.device == device else SynonymTable(self.ids.to(device), self.counts.to(device))

    def pick(self, tokens: Tensor, draws: Tensor) -> Tensor:
        """A synonym of each token, by a draw in [0, 1); a token without any, or out of the vocabulary, stays itself.

        >>> table = SynonymTable(torch.tensor([[1, 2], [0, 0], [0, 0]]), torch.tensor([2, 1, 0]))
        >>> table.pick(torch.tensor([0, 0, 1, 2, 7]), torch.tensor([0.4, 0.5, 0.9, 0.9, 0.9])).tolist()
        [1, 2, 0, 2, 7]
        """
        number = (draws * self.count(tokens)).long()
        found: Tensor = self.ids[self._inside(tokens), number].to(tokens.dtype)
        return torch.where(self.count(tokens) > 0, found, tokens)

    def count(self, tokens: Tensor) -> Tensor:
        """How many synonyms each token has."""
        known = (tokens >= 0) & (tokens < len(self.counts))
        return torch.where(known, self.counts[self._inside(tokens)], 0)

    def _inside(self, tokens: Tensor) -> Tensor:
        return tokens.long().clamp(0, len(self.counts) - 1)


def read_thesaurus(path: str = BUILTIN) -> dict[str, list[str]]:
    """Word -> the words that can stand for it.

    Each line is a group, "big: large, huge": every word of it can stand for every other. Empty lines and lines that
    begin with # count nothing; a word may be in several groups.

    Args:
        path: a UTF-8 text file, or "builtin" for the small English one that comes with stepwell.

    Raises:
        JobError: no such file, a line without a colon, or groups too long to be synonyms.

    >>> read_thesaurus()["large"]
    ['big', 'huge', 'enormous', 'vast']
    """
    file = Path(__file__).with_name("thesaurus.txt") if path == BUILTIN else Path(path).expanduser()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(
            f"the thesaurus {path} can't be read ({error})",
            expected='a UTF-8 text file with lines such as "big: large, huge"',
            fix='Check the path, or write thesaurus: "builtin"',
        ) from error
    synonyms: dict[str, dict[str, None]] = {}  # of dictionaries only the order of the keys counts
    pairs = 0
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        first, colon, rest = line.partition(":")
        group = [word.strip().lower() for word in (first, *rest.split(",")) if word.strip()]
        if not colon or len(group) < 2:
            raise JobError(
                f"{line.strip()!r} is no group of synonyms",
                expected='a word, a colon, and at least one synonym, as in "big: large, huge"',
                fix="Mend the line, or put # before it",
                where=f"{file}:{number}",
            )
        pairs += len(group) ** 2
        if pairs > MOST_PAIRS:
            raise JobError(
                f"the thesaurus {path} pairs more than {MOST_PAIRS:,} words",
                expected="groups of some words each",
                fix="Cut long groups into the words that mean the same",
                where=f"{file}:{number}",
            )
        for word in group:
            known = synonyms.setdefault(word, {})
            known |= dict.fromkeys(other for other in group if other != word)
    return {word: list(others) for word, others in synonyms.items()}


def make_table(vocabulary: Sequence[str], thesaurus: dict[str, list[str]]) -> SynonymTable:
    """The thesaurus over token ids: only synonyms that are words of the vocabulary, capitals for capitals."""
    places = {word: place for place, word in reversed(list(enumerate(vocabulary)))}
    rows: list[list[int]] = []
    for word in vocabulary:
        others = thesaurus.get(word.lower(), [])
        if word[:1].isupper():
            others = [other.upper() if word.isupper() and len(word) > 1 else other.capitalize() for other in others]
        rows.append([places[other] for other in others if other in places])
    width = max(1, *map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return SynonymTable(ids, torch.tensor([len(row) for row in rows]))


# The last few tables, by identity of the vocabulary: a technique whose settings a schedule moves is made anew each step.
_TABLES: OrderedDict[tuple[int, str], tuple[Sequence[str], SynonymTable]] = OrderedDict()


def synonym_table(vocabulary: Sequence[str], path: str, name: str) -> SynonymTable:
    """The table of a vocabulary, made once.

    Args:
        name: the technique that asks, for messages.

    Raises:
        JobError: no word of the vocabulary has a synonym in it.

    >>> table = synonym_table(["big", "dog", "large"], "builtin", "synonym_replacement")
    >>> table.counts.tolist(), table.ids[0].tolist()
    ([1, 0, 1], [2])
    """
    key = (id(vocabulary), path)
    if key not in _TABLES or _TABLES[key][0] is not vocabulary:
        _TABLES[key] = (vocabulary, make_table(vocabulary, read_thesaurus(path)))
        while len(_TABLES) > 4:
            _TABLES.popitem(last=False)
    table = _TABLES[key][1]
    if not bool(table.counts.any()):
        raise JobError(
            f"{name} knows no synonyms among the {len(vocabulary)} words of the vocabulary",
            expected="words that the thesaurus knows",
            fix=f"Give a thesaurus of their language with {name}.thesaurus; leave {name} out where tokens are no words",
        )
    return table
