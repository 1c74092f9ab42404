import json
from pathlib import Path

import pytest
import torch

from stepwell.core.errors import DataError, JobError
from stepwell.data import text as module
from stepwell.data.preparation import Preparation
from stepwell.data.split import SplitSpec
from stepwell.data.text import Text, TextReader

WORDS = "the quick brown fox jumps over the lazy dog\r\n" * 20 + "Überall 🦊!" * 10


def load(folder: Path, split: SplitSpec | None = None, **settings):
    (folder / "x.txt").write_bytes(WORDS.encode())
    settings = {"path": "x.txt", "length": 16, **settings}
    return Text(**settings).load(base=folder, split=split or SplitSpec(), task="language_modeling", seed=0)


def test_the_text_is_cut_by_position_and_every_character_is_kept(tmp_path: Path) -> None:
    data = load(tmp_path)
    reader = data.preparation.reader
    end = round(len(WORDS) * 0.9)
    assert reader.characters == "".join(sorted(set(WORDS[:end])))
    assert reader.decode(data.train.tokens) == WORDS[:end]
    assert data.signature.vocab_size == data.signature.num_outputs == len(set(WORDS[:end])) + 1
    assert data.test is None
    assert len(data.train) == end - 16


def test_characters_that_training_never_saw_get_code_0(tmp_path: Path) -> None:
    validation = load(tmp_path).validation
    unseen = set(WORDS[round(len(WORDS) * 0.9) :]) - set(WORDS[: round(len(WORDS) * 0.9)])
    tail = WORDS[round(len(WORDS) * 0.9) :]
    assert [token == 0 for token in validation.tokens.tolist()] == [char in unseen for char in tail]


def test_validation_windows_predict_each_character_once(tmp_path: Path) -> None:
    validation = load(tmp_path, SplitSpec(validation=0.3)).validation
    batch = validation.batch(torch.arange(len(validation)))
    covered = len(validation) * 16
    assert batch.targets.flatten().tolist() == validation.tokens[1 : covered + 1].tolist()


def test_long_texts_are_held_in_bytes_and_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = TextReader("".join(sorted(set(WORDS))), 4)
    wide = reader.encode(WORDS)
    monkeypatch.setattr(module, "_LONG", 10)
    narrow = reader.encode(WORDS)
    assert narrow.dtype == torch.uint8
    assert torch.equal(narrow.long(), wide)


def test_a_new_text_is_read_with_the_vocabulary_of_training(tmp_path: Path) -> None:
    preparation = Preparation.from_dict(json.loads(json.dumps(load(tmp_path).preparation.to_dict())))
    (tmp_path / "new.txt").write_text("the fox ☃ jumps over", encoding="utf-8")
    examples = preparation.examples_from(tmp_path / "new.txt")
    assert preparation.reader.decode(examples.batch(torch.tensor([0])).inputs[0]) == "the fox \ufffd jumps "


def test_parts_of_a_text_can_be_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "later.txt").write_text("the end of the story, so to say")
    data = load(tmp_path, SplitSpec(by="file", validation_path="later.txt"))
    assert data.preparation.reader.decode(data.train.tokens) == WORDS
    assert len(data.validation) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is empty"), (b"abc\n\xff\xfe", "x.txt:2: byte 4 of x.txt is not UTF-8"), (b"short", "tokens, which is no more than")],
)
def test_bad_texts_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(DataError, match=said):
        Text(path="x.txt").load(base=tmp_path, split=SplitSpec(), task="language_modeling", seed=0)


def test_a_text_is_refused_for_other_tasks_and_splits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="task: language_modeling"):
        Text(path="x.txt").load(base=tmp_path, split=SplitSpec(), task="classification", seed=0)
    with pytest.raises(JobError, match=r"split.by is random"):
        load(tmp_path, SplitSpec(by="random"))
    with pytest.raises(DataError, match=r"data.length"):
        load(tmp_path, length=0)
