"""Random insertion: synonyms at every place alike, the words' own order and the length kept."""

from __future__ import annotations

import pytest
import torch

from stepwell.core.batch import Batch
from stepwell.core.batches.thesaurus import SynonymTable
from stepwell.core.errors import JobError
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng
from stepwell.techniques import RandomInsertion, insert_synonyms

WORDS = ["_", "big", "large", "dog", "cat", "the"]
# 1 may become 8 or 9, 2 nothing, 3 only 7; 0 is the padding and must not send its synonym anywhere.
TABLE = SynonymTable(torch.tensor([[5, 0], [8, 9], [0, 0], [7, 0]]), torch.tensor([1, 2, 0, 1]))
NEVER, ALWAYS = 0.9, 0.1


def inserted(
    tokens: list[int], whether: list[float], which: list[float], where: list[float], padding: int | None = 0
) -> list[int]:
    made = insert_synonyms(torch.tensor([tokens]), TABLE, torch.tensor([[*whether, *which, *where]]), 0.5, padding=padding)
    rows: list[list[int]] = made.tolist()
    return rows[0]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (0.0, [8, 1, 2, 3, 0]),
        (0.24, [8, 1, 2, 3, 0]),
        (0.25, [1, 8, 2, 3, 0]),
        (0.5, [1, 2, 8, 3, 0]),
        (0.75, [1, 2, 3, 8, 0]),
        (0.99, [1, 2, 3, 8, 0]),
    ],
)
def test_three_words_have_four_places_before_the_padding(where: float, expected: list[int]) -> None:
    made = inserted([1, 2, 3, 0, 0], [ALWAYS, ALWAYS, NEVER, ALWAYS, 0.5], [0.49] * 5, [where] * 5)
    assert made == expected


def test_each_word_sends_one_of_its_own_synonyms_and_what_no_longer_fits_drops_off() -> None:
    assert inserted([1, 3, 2, 0], [ALWAYS] * 4, [0.5, 0.5, 0.5, 0.5], [0.5, 0.3, 0.0, 0.0]) == [1, 7, 3, 9]
    assert inserted([1, 3, 2, 1], [ALWAYS, NEVER, NEVER, NEVER], [0.0] * 4, [0.0] * 4) == [8, 1, 3, 2]
    assert inserted([0, 1], [ALWAYS, NEVER], [0.0] * 2, [0.0] * 2, padding=None) == [5, 0]
    assert inserted([0, 0], [ALWAYS] * 2, [0.0] * 2, [0.0] * 2) == [0, 0]


def test_a_draw_at_the_probability_itself_inserts_nothing() -> None:
    assert inserted([1, 0], [0.5, 0.5], [0.0] * 2, [0.0] * 2) == [1, 0]
    assert inserted([1, 0], [0.49, 0.5], [0.0] * 2, [0.0] * 2) == [8, 1]


def test_so_many_of_the_words_insert_a_synonym_and_every_place_is_as_likely() -> None:
    tokens = torch.tensor([[3, 1, 4, 0]]).expand(4000, 4)
    technique = RandomInsertion(probability=0.4, vocabulary=WORDS, padding=0)
    made = technique(Batch(tokens), Rng(1)).inputs
    found = (made == 2).any(1)
    # Binomial(4000, 0.4): 1600 with a standard deviation of 31; four of them. Then four places, 400 each or so.
    assert abs(int(found.sum()) - 1600) < 124
    counts = torch.bincount((made == 2)[found].int().argmax(1), minlength=4)
    assert int((counts - found.sum() / 4).abs().max()) < 4 * (1600 * 0.25 * 0.75) ** 0.5
    assert torch.equal(made[~found], tokens[~found])
    rest = made[found][made[found] != 2].view(-1, 3)
    assert torch.equal(rest, tokens[: len(rest), :3])


def test_vocabulary_and_padding_are_filled_in_from_the_data() -> None:
    facts = DataFacts(8, 1, Batch(torch.zeros(1, 1)), vocabulary=WORDS, padding=0)
    assert {name: value for name, (value, _) in RandomInsertion().completed(facts).items()} == {"vocabulary": WORDS, "padding": 0}


def test_what_cannot_be_inserted_is_refused_with_the_remedy() -> None:
    assert (RandomInsertion().probability, RandomInsertion().thesaurus) == (0.1, "builtin")
    tokens = torch.tensor([[1, 2, 3]])
    with pytest.raises(JobError, match=r"^random_insertion moves tokens, but there is a target"):
        RandomInsertion(vocabulary=WORDS)(Batch(tokens, tokens), Rng(0))
    with pytest.raises(JobError, match=r"^random_insertion\.vocabulary is not set"):
        RandomInsertion()(Batch(tokens), Rng(0))
    for settings in ({"probability": -0.1}, {"thesaurus": ""}, {"vocabulary": WORDS, "padding": 6}):
        with pytest.raises(JobError, match=r"^random_insertion\.(probability|thesaurus|padding) is"):
            RandomInsertion(**settings)  # type: ignore[arg-type]
