"""Synonym replacement: synonyms of the vocabulary, word by word, places kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stepwell.core.batch import Batch
from stepwell.core.batches.thesaurus import SynonymTable
from stepwell.core.errors import DataError, JobError
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng
from stepwell.techniques import SynonymReplacement, replace_synonyms

WORDS = ["_", "big", "large", "huge", "dog"]


def test_a_word_is_replaced_where_its_first_draw_is_below_the_probability_by_the_synonym_of_its_second() -> None:
    table = SynonymTable(torch.tensor([[1, 2], [0, 2], [0, 0]]), torch.tensor([2, 2, 0]))
    draws = torch.tensor([[0.29, 0.3, 0.0, 0.0, 0.0, 0.9, 0.5, 0.5], [0.0] * 4 + [0.4, 0.5, 0.6, 0.7]])
    made = replace_synonyms(torch.tensor([[0, 0, 1, 2], [1, 1, 0, 0]]), table, draws, 0.3)
    assert made.tolist() == [[1, 0, 2, 2], [0, 2, 2, 2]]


def test_so_many_of_the_words_become_each_of_their_synonyms_and_others_stay() -> None:
    tokens = torch.tensor([[1, 4, 0]]).expand(4000, 3)
    made = SynonymReplacement(probability=0.3, vocabulary=WORDS)(Batch(tokens), Rng(2)).inputs
    assert torch.equal(made[:, 1:], tokens[:, 1:])
    counts = torch.bincount(made[:, 0], minlength=5).tolist()
    # Two synonyms, each in 15 % of 4,000: 600 with a standard deviation of 22.6; four of them.
    assert abs(counts[2] - 600) < 91
    assert abs(counts[3] - 600) < 91
    assert counts[1] == 4000 - counts[2] - counts[3]


def test_targets_for_each_token_stay() -> None:
    tokens = torch.tensor([[1, 2, 3]])
    made = SynonymReplacement(probability=1.0, vocabulary=WORDS)(Batch(tokens, tokens), Rng(0))
    assert torch.equal(made.targets, tokens)
    assert not bool((made.inputs == tokens).any())


def test_a_thesaurus_of_the_user_s_takes_the_place_of_ours(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("dog: big\n", encoding="utf-8")
    technique = SynonymReplacement(probability=1.0, thesaurus=str(tmp_path / "words.txt"), vocabulary=WORDS)
    assert technique(Batch(torch.tensor([[1, 2, 3, 4]])), Rng(0)).inputs.tolist() == [[4, 2, 3, 1]]


def test_the_vocabulary_is_filled_in_from_the_data() -> None:
    facts = DataFacts(8, 1, Batch(torch.zeros(1, 1)), vocabulary=WORDS, padding=0)
    assert {name: value for name, (value, _) in SynonymReplacement().completed(facts).items()} == {"vocabulary": WORDS}


def test_what_cannot_be_replaced_is_refused_with_the_remedy() -> None:
    assert (SynonymReplacement().probability, SynonymReplacement().thesaurus) == (0.1, "builtin")
    with pytest.raises(JobError, match=r"^synonym_replacement\.vocabulary is not set"):
        SynonymReplacement()(Batch(torch.tensor([[1]])), Rng(0))
    with pytest.raises(JobError, match=r"^synonym_replacement knows no synonyms"):
        SynonymReplacement(vocabulary=["a", "b"])(Batch(torch.tensor([[1]])), Rng(0))
    with pytest.raises(DataError, match=r"^synonym_replacement found no token ids"):
        SynonymReplacement()(Batch(torch.rand(2, 3)), Rng(0))
    with pytest.raises(DataError, match=r"^synonym_replacement found no token ids"):
        SynonymReplacement(vocabulary=WORDS)(Batch(torch.rand(2, 3)), Rng(0))
    for settings in ({"probability": 1.1}, {"thesaurus": ""}, {"vocabulary": []}):
        with pytest.raises(JobError, match=rf"^synonym_replacement\.{next(iter(settings))} is"):
            SynonymReplacement(**settings)  # type: ignore[arg-type]
