"""Back-translation through a function of the user's: decoded, asked once, encoded, cut and padded."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stepwell.core.batch import Batch
from stepwell.core.catalog import lookup
from stepwell.core.errors import JobError
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng
from stepwell.techniques import BackTranslation, decode_tokens, encode_texts

WORDS = ["_", "a", "good", "day", "<unk>"]


class Translator:
    """Keeps what it was asked, and answers with the last word first."""

    def __init__(self, answers: list[str] | None = None) -> None:
        self.asked: list[list[str]] = []
        self.answers = answers

    def __call__(self, texts: list[str]) -> list[str]:
        self.asked.append(texts)
        return [" ".join(reversed(text.split())) for text in texts] if self.answers is None else self.answers


def made(translator: Any, tokens: list[list[int]], **settings: Any) -> list[list[int]]:
    usual = {"probability": 1.0, "vocabulary": WORDS, "padding": 0}
    technique = BackTranslation(translate=translator, **(usual | settings))
    rows: list[list[int]] = technique(Batch(torch.tensor(tokens)), Rng(0)).inputs.tolist()
    return rows


def test_texts_are_decoded_without_padding_and_encoded_again() -> None:
    translator = Translator()
    assert made(translator, [[1, 2, 3, 0], [3, 0, 0, 0], [0, 0, 0, 0]]) == [[3, 2, 1, 0], [3, 0, 0, 0], [0, 0, 0, 0]]
    assert translator.asked == [["a good day", "day", ""]]


def test_answers_are_cut_and_padded_to_the_length_that_was_there() -> None:
    assert made(Translator(["a good day a", "day"]), [[1, 2, 3], [1, 2, 3]]) == [[1, 2, 3], [3, 0, 0]]


def test_words_that_nobody_knows_become_the_unknown_one_or_are_left_out() -> None:
    assert made(Translator(["a fine day"]), [[1, 1, 1]]) == [[1, 4, 3]]
    assert made(Translator(["a fine day"]), [[1, 1, 1]], unknown=2) == [[1, 2, 3]]
    assert made(Translator(["a fine day"]), [[1, 1, 1]], unknown=0) == [[1, 0, 3]]
    assert made(Translator(["a fine day"]), [[1, 1, 1]], vocabulary=WORDS[:4]) == [[1, 3, 0]]


def test_characters_are_texts_without_a_separator() -> None:
    letters = ["_", "a", "b", " "]
    assert decode_tokens(torch.tensor([[1, 3, 2, 0]]), letters, padding=0, separator="") == ["a b"]
    assert encode_texts(["b a"], letters, length=5, padding=0, separator="").tolist() == [[2, 3, 1, 0, 0]]
    assert encode_texts(["b|a"], letters, length=2, padding=0, separator="|").tolist() == [[2, 1]]


def test_so_many_of_the_texts_are_asked_about_in_one_call_and_the_others_stay() -> None:
    translator = Translator()
    rows = made(translator, [[1, 2, 3]] * 2000, probability=0.3)
    turned = sum(row == [3, 2, 1] for row in rows)
    # Binomial(2000, 0.3): 600 with a standard deviation of 20.5; four of them.
    assert abs(turned - 600) < 82
    assert [len(asked) for asked in translator.asked] == [turned]
    assert sum(row == [1, 2, 3] for row in rows) == 2000 - turned


def test_nobody_is_asked_where_no_text_is_drawn() -> None:
    translator = Translator()
    made(translator, [[1, 2, 3]], probability=0.0)
    assert translator.asked == []


def test_vocabulary_and_padding_are_filled_in_from_the_data() -> None:
    facts = DataFacts(8, 1, Batch(torch.zeros(1, 1)), vocabulary=WORDS, padding=0)
    found = BackTranslation(translate=Translator()).completed(facts)
    assert {name: value for name, (value, _) in found.items()} == {"vocabulary": WORDS, "padding": 0}


def test_a_translation_that_a_job_file_names_is_refused_with_the_remedy() -> None:
    with pytest.raises(JobError, match=r"^back_translation\.translate is 'mymodule\.f'; expected a function.*train from Python"):
        lookup("back_translation").factory(translate="mymodule.f")


@pytest.mark.parametrize("answers", [["a"], ["a", "b", "c"], ["a", 1]])
def test_another_number_of_answers_or_no_texts_are_refused(answers: list[Any]) -> None:
    with pytest.raises(JobError, match=r"^back_translation\.translate made \d answers of 2 texts"):
        made(Translator(answers), [[1], [2]])


def test_what_cannot_be_translated_is_refused_with_the_remedy() -> None:
    usual = BackTranslation(translate=Translator())
    assert (usual.probability, usual.separator, usual.unknown) == (0.1, " ", None)
    with pytest.raises(JobError, match=r"^token id 5 is none of the 5 words"):
        made(Translator(), [[5]])
    with pytest.raises(JobError, match=r"^token id -1 is none"):
        made(Translator(), [[-1]])
    tokens = torch.tensor([[1, 2, 3]])
    with pytest.raises(JobError, match=r"^back_translation moves tokens"):
        usual(Batch(tokens, tokens), Rng(0))
    with pytest.raises(JobError, match=r"^back_translation\.vocabulary is not set"):
        usual(Batch(tokens), Rng(0))
    with pytest.raises(JobError, match=r"^back_translation\.padding is not set"):
        made(Translator(), [[1]], padding=None)
    for settings in ({"probability": 1.1}, {"unknown": -1}, {"padding": -1}):
        with pytest.raises(JobError, match=rf"^back_translation\.{next(iter(settings))} is"):
            BackTranslation(translate=Translator(), **settings)  # type: ignore[arg-type]


def test_a_text_is_translated_where_its_own_draw_lies_below_the_probability() -> None:
    draws = Rng(0).child(0).uniform(0, 16, 1)[:, 0]
    probability = float(draws.sort().values[8])  # one draw is the probability itself, and not below it
    rows = made(Translator(), [[1, 2]] * 16, probability=probability)
    assert rows == [[2, 1] if below else [1, 2] for below in (draws < probability).tolist()]
