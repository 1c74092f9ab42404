"""Documents: words as tokens, with a vocabulary of the training part, from every kind of file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stepwell.core.errors import DataError, JobError
from stepwell.core.signature import Signature
from stepwell.data.documents import DocumentReader, Documents, words_of
from stepwell.data.preparation import Preparation
from stepwell.data.registry import LoadedData
from stepwell.data.split import SplitSpec

TEXTS = ["a fine film", "fine, FINE!", "bad", "a bad bad film", "unheard of", "fine again"]
LABELS = ["pos", "pos", "neg", "neg", "neg", "pos"]


def write(place: Path, form: str) -> str:
    frame = pd.DataFrame({"text": TEXTS, "target": LABELS})
    if form == "jsonl":
        (place / "d.jsonl").write_text("\n".join(json.dumps(row) for row in frame.to_dict("records")) + "\n\n")
    elif form == "folder":
        for number, (text, label) in enumerate(zip(TEXTS, LABELS)):
            (place / "d" / label).mkdir(parents=True, exist_ok=True)
            (place / "d" / label / f"{number}.txt").write_text(text)
        return "d"
    elif form == "parquet":
        frame.to_parquet(place / "d.parquet")
    else:
        frame.to_csv(place / f"d.{form}", index=False, sep="\t" if form == "tsv" else ",")
    return f"d.{form}"


def loaded(base: Path, path: str, split: SplitSpec | None = None, task: str = "binary", **settings: object) -> LoadedData:
    made = Documents(path=path, **{"length": 4, **settings})  # type: ignore[arg-type]
    return made.load(base=base, split=split or SplitSpec(validation=0.0, test=1 / 3, by="time"), task=task, seed=0)


def test_tokens_are_the_training_part_s_words_by_frequency_padded_and_cut(tmp_path: Path) -> None:
    data = loaded(tmp_path, write(tmp_path, "csv"), length=3)
    # Training texts are the first four. fine 3, bad 3, a 2, film 2: as frequent ones in the alphabet's order.
    assert data.vocabulary == ["<padding>", "<unknown>", "bad", "fine", "a", "film"]
    assert data.padding == 0
    assert data.signature == Signature("document", (3,), 1, vocab_size=6)
    train, test = data.train.batch(torch.arange(4)), data.test.batch(torch.arange(2))  # type: ignore[union-attr]
    assert train.inputs.tolist() == [[4, 3, 5], [3, 3, 0], [2, 0, 0], [4, 2, 2]]
    assert train.targets.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert test.inputs.tolist() == [[1, 1, 0], [3, 1, 0]]


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet", "jsonl", "folder"])
def test_every_kind_of_file_gives_the_same_texts(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, form)
    whole = SplitSpec(validation=0.0, test=0.0, by="random")
    batch = loaded(tmp_path, path, whole, task="classification", length=8).train.batch(torch.arange(6))
    oracle = DocumentReader.fit(TEXTS, length=8, max_words=100, min_count=1).encode(TEXTS)
    order = sorted(range(6), key=lambda k: LABELS[k]) if form == "folder" else list(range(6))
    assert torch.equal(batch.inputs, oracle[order])
    assert batch.targets.tolist() == [int(LABELS[k] == "pos") for k in order]


def test_rare_words_and_those_beyond_the_limit_are_unknown(tmp_path: Path) -> None:
    path = write(tmp_path, "csv")
    assert loaded(tmp_path, path, min_count=3).vocabulary == ["<padding>", "<unknown>", "bad", "fine"]
    assert loaded(tmp_path, path, max_words=1).vocabulary == ["<padding>", "<unknown>", "bad"]
    with pytest.raises(DataError, match="no word of the 10 in the training texts occurs 9 times"):
        loaded(tmp_path, path, min_count=9)


@pytest.mark.parametrize("form", ["csv", "jsonl", "folder"])
def test_preparation_survives_json_and_reads_new_texts(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, form)
    preparation = loaded(tmp_path, path).preparation
    again = Preparation.from_dict(json.loads(json.dumps(preparation.to_dict())))
    assert again == preparation
    there = again.examples_from(tmp_path / path).batch(torch.arange(6))
    assert there.targets is not None
    bare = again.examples_from(tmp_path / path, with_targets="ignored").batch(torch.arange(6))
    assert bare.targets is None
    assert torch.equal(bare.inputs, there.inputs)


def test_new_texts_need_no_classes_to_be_predicted(tmp_path: Path) -> None:
    preparation = loaded(tmp_path, write(tmp_path, "csv")).preparation
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.txt").write_text("Fine film")
    (tmp_path / "new.jsonl").write_text('{"text": "Fine film"}\n')
    frame = pd.DataFrame({"text": ["Fine film"]})
    for data in (tmp_path / "new", tmp_path / "new.jsonl", frame):
        batch = preparation.examples_from(data).batch(torch.tensor([0]))
        assert batch.inputs.tolist() == [[3, 5, 0, 0]]
        assert batch.targets is None
        with pytest.raises(DataError, match=r"target|no class folders"):
            preparation.examples_from(data, with_targets="required")


def test_words_keep_inner_apostrophes_and_lose_signs() -> None:
    assert words_of("Don't stop -- it's_ok, naïve 3.5!") == ["don't", "stop", "it's_ok", "naïve", "3", "5"]
    assert words_of("...") == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"this line is no JSON.*"),
        ('{"text": 3, "target": "a"}', "no text 'text'"),
        ('{"text": "a"}', "no 'target'"),
        ("[1]", "no text 'text'"),
    ],
)
def test_a_line_that_is_no_document_is_refused_with_its_number(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "d.jsonl").write_text('{"text": "a b", "target": "x"}\n' + line + "\n")
    with pytest.raises(DataError, match=said) as raised:
        loaded(tmp_path, "d.jsonl")
    assert raised.value.where == "d.jsonl:2"


def test_other_things_that_are_no_documents_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a", None, "c"], "target": ["x", "y", "x"]}).to_csv(tmp_path / "gap.csv", index=False)
    with pytest.raises(DataError, match="text 'text' is missing") as raised:
        loaded(tmp_path, "gap.csv")
    assert raised.value.where == "gap.csv:3"
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "bare").mkdir()
    for path, said in (("empty.jsonl", "holds no lines"), ("bare", "no class folders")):
        with pytest.raises(DataError, match=said):
            loaded(tmp_path, path)
    path = write(tmp_path, "csv")
    with pytest.raises(DataError, match="can't be used for task regression"):
        loaded(tmp_path, path, task="regression")
    for name in ("length", "max_words", "min_count"):
        with pytest.raises(JobError, match=rf"data\.{name} is 0"):
            loaded(tmp_path, path, **{name: 0})
    with pytest.raises(DataError, match="text column 'words' is missing"):
        loaded(tmp_path, path, text="words")


def test_a_class_that_training_lacks_is_refused_with_its_place(tmp_path: Path) -> None:
    labels = np.array(LABELS)
    labels[-1] = "odd"
    pd.DataFrame({"text": TEXTS, "target": labels}).to_csv(tmp_path / "d.csv", index=False)
    with pytest.raises(DataError, match="class 'odd' of target 'target' is in the test part") as raised:
        loaded(tmp_path, "d.csv")
    assert raised.value.where == "d.csv:7"
