"""The thesaurus: groups in a file, and the same over the ids of a vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stepwell.core.batches.thesaurus import SynonymTable, make_table, read_thesaurus, synonym_table
from stepwell.core.errors import JobError


def test_the_thesaurus_that_comes_along_knows_hundreds_of_words_and_every_pair_both_ways() -> None:
    synonyms = read_thesaurus()
    assert len(synonyms) >= 300
    assert all(word == word.lower().strip() and word for word in synonyms)
    assert all(others and word not in others and len(set(others)) == len(others) for word, others in synonyms.items())
    assert all(word in synonyms[other] for word, others in synonyms.items() for other in others)


def test_a_file_of_the_user_s_is_read_group_by_group(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("# fish\n\n Cod : haddock ,  pollock\ncod: fish\n", encoding="utf-8")
    assert read_thesaurus(str(file)) == {
        "cod": ["haddock", "pollock", "fish"],
        "haddock": ["cod", "pollock"],
        "pollock": ["cod", "haddock"],
        "fish": ["cod"],
    }


@pytest.mark.parametrize("line", ["cod haddock", "cod:", ": cod", "cod: ,"])
def test_a_line_that_is_no_group_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    file = tmp_path / "words.txt"
    file.write_text(f"big: large\n{line}\n", encoding="utf-8")
    with pytest.raises(JobError, match=r"words\.txt:2: .* is no group of synonyms"):
        read_thesaurus(str(file))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="can't be read"):
        read_thesaurus(str(tmp_path / "none.txt"))
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00big")
    with pytest.raises(JobError, match="can't be read"):
        read_thesaurus(str(tmp_path / "bytes.txt"))


def test_a_table_holds_only_words_of_the_vocabulary_and_keeps_capitals() -> None:
    table = make_table(
        ["big", "Big", "Large", "huge", "BIG", "LARGE", "dog"], {"big": ["large", "huge"], "huge": ["big", "large"]}
    )
    rows = [table.ids[place, : table.counts[place]].tolist() for place in range(7)]
    assert rows == [[3], [2], [], [0], [5], [], []]


def test_each_synonym_is_picked_by_its_share_of_the_draws() -> None:
    table = SynonymTable(torch.tensor([[5, 6, 7], [8, 0, 0], [0, 0, 0]]), torch.tensor([3, 1, 0]))
    draws = torch.tensor([0.0, 0.333, 0.334, 0.666, 0.667, 1 - 2**-24])
    assert table.pick(torch.zeros(6, dtype=torch.int64), draws).tolist() == [5, 5, 6, 6, 7, 7]
    tokens = torch.tensor([1, 2, 9, -100], dtype=torch.int32)
    picked = table.pick(tokens, torch.full((4,), 0.99))
    assert picked.tolist() == [8, 2, 9, -100]
    assert picked.dtype == torch.int32
    assert table.count(tokens).tolist() == [1, 0, 0, 0]


def test_a_vocabulary_s_table_is_made_once_and_never_mistaken_for_another_s() -> None:
    first, second = ["big", "large"], ["fast", "slow", "quick"]
    table = synonym_table(first, "builtin", "x")
    assert synonym_table(first, "builtin", "x") is table
    assert synonym_table(second, "builtin", "x").ids.tolist() == [[2], [0], [0]]
    for _ in range(6):
        synonym_table(["big", "large"], "builtin", "x")
    assert synonym_table(first, "builtin", "x").ids.tolist() == table.ids.tolist()


def test_a_vocabulary_without_any_synonym_is_refused() -> None:
    with pytest.raises(JobError, match=r"^random_insertion knows no synonyms among the 3 words.*random_insertion\.thesaurus"):
        synonym_table(["a", "b", "big"], "builtin", "random_insertion")
