"""The data source "documents": whole texts with a class each, as padded rows of word numbers."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stepwell.core.check import require
from stepwell.core.errors import DataError
from stepwell.core.signature import Signature
from stepwell.data.examples import Examples, TensorExamples
from stepwell.data.images import class_folders
from stepwell.data.preparation import Preparation, WithTargets
from stepwell.data.registry import DataSource, LoadedData, existing, fingerprint_of, refuse_split, refuse_task, source
from stepwell.data.split import SplitSpec, split_indices
from stepwell.data.table_source import as_table
from stepwell.data.tables import Table
from stepwell.data.targets import Target, TargetEncoder, is_missing
from stepwell.data.text import read_text

__all__ = ["DocumentReader", "Documents", "words_of"]

PADDING, UNKNOWN = 0, 1
SPECIAL = ("<padding>", "<unknown>")


def words_of(text: str) -> list[str]:
    """The words of a text in small letters: runs of letters, digits and underscores, with inner apostrophes.

    >>> words_of("It's 5 o'clock, NOT later.")
    ["it's", '5', "o'clock", 'not', 'later']
    """
    return re.findall(r"\w+(?:['\u2019]\w+)*", text.lower())


@dataclass(frozen=True)
class DocumentReader:
    """Words as tokens: 0 fills short texts up, 1 is a word that the vocabulary doesn't have.

    Args:
        vocabulary: the word of each token, the two special ones first.
        length: T, tokens per text; longer texts are cut.
        text: the column or key of the texts.
        separator: of CSV files.

    >>> reader = DocumentReader.fit(["a b b", "b c"], length=3, max_words=2, min_count=1)
    >>> reader.vocabulary, reader.encode(["c b a b", "a"]).tolist()
    (('<padding>', '<unknown>', 'b', 'a'), [[1, 2, 3], [3, 0, 0]])
    """

    vocabulary: tuple[str, ...]
    length: int
    text: str = "text"
    separator: str = ","

    kind = "documents"

    @staticmethod
    def fit(texts: Iterable[str], *, length: int, max_words: int, min_count: int, **settings: str) -> DocumentReader:
        """From the training part's texts: the most frequent words, in alphabetical order where as frequent.

        Args:
            texts: the training part's.
            length: T.
            max_words: that become tokens, beside the two special ones.
            min_count: how often a word must occur to be known.
            settings: other fields.

        Raises:
            DataError: no word is left.
        """
        counts = Counter(word for text in texts for word in words_of(text))
        kept = sorted((word for word, count in counts.items() if count >= min_count), key=lambda word: (-counts[word], word))
        if not kept:
            raise DataError(
                f"no word of the {counts.total()} in the training texts occurs {min_count} times or more",
                expected="texts with words that repeat",
                fix="Lower data.min_count, or check the text column",
            )
        return DocumentReader((*SPECIAL, *kept[:max_words]), length, **settings)

    def encode(self, texts: Iterable[str]) -> Tensor:
        """Texts as tokens, (N, T) int64."""
        known = {word: token for token, word in enumerate(self.vocabulary)}
        rows = []
        for text in texts:
            tokens = [known.get(word, UNKNOWN) for word in words_of(text)[: self.length]]
            rows.append(tokens + [PADDING] * (self.length - len(tokens)))
        return torch.tensor(rows, dtype=torch.int64)

    def read(self, data: Any, *, target: Target, with_targets: WithTargets) -> Examples:
        """Examples of a file or a folder like the training one, or of a frame; a folder may hold plain .txt files."""
        found = read_documents(data, self.text, target.names[0], self.separator, with_targets=with_targets)
        targets = None if found.labels is None else target.encode(found.labels, where=found.where, part="this file")
        return TensorExamples(self.encode(found.texts), targets)

    def signature(self, num_outputs: int) -> Signature:
        return Signature("document", (self.length,), num_outputs, vocab_size=len(self.vocabulary))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"vocabulary": list(self.vocabulary)}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> DocumentReader:
        return DocumentReader(**(value | {"vocabulary": tuple(value["vocabulary"])}))


@source("documents")
class Documents(DataSource):
    """Texts with a class each: a table with a text column, a .jsonl file, or a folder with one folder of .txt per class.

    Words in small letters become tokens. The vocabulary is fitted on the training part and stored with the model:
    token 0 fills short texts up, token 1 is any word that it doesn't hold.

    Args:
        path: the file (.csv, .tsv, .parquet, .jsonl) or folder, relative to the job file.
        text: column or key of the texts.
        target: column or key of the classes; a folder's classes are its folders' names.
        length: T, words per text, >= 1; longer texts are cut, shorter ones filled up.
        max_words: most frequent words that become tokens of their own, >= 1.
        min_count: how often a word must occur in the training part to become one, >= 1.
        positive: the class that task binary calls positive; the last in sorted order where None.
        separator: between the columns of a CSV file.
    """

    path: str
    text: str = "text"
    target: str = "target"
    length: int = 128
    max_words: int = 20000
    min_count: int = 1
    positive: str | None = None
    separator: str = ","

    def load(self, *, base: Path, split: SplitSpec, task: str, seed: int) -> LoadedData:
        """Read, split and prepare; see `DataSource.load`."""
        refuse_task("documents", task, "classification", "binary")
        for name, value in (("length", self.length), ("max_words", self.max_words), ("min_count", self.min_count)):
            require(value >= 1, f"data.{name}", value, "a whole number above 0", "Make it 1 or more")
        split = split.filled(validation=0.2, test=0.2, by="stratified")
        refuse_split("documents", split, "stratified", "random", "time")
        path = existing(self.path, base=base)
        found = read_documents(path, self.text, self.target, self.separator, with_targets="required")
        labels = found.labels
        parts = split_indices(len(found.texts), split, targets=labels, seed=seed)
        train = parts.train.numpy()
        target = TargetEncoder.fit(
            labels[train], task=task, names=(self.target,), where=lambda row: found.where(int(train[row])), positive=self.positive
        )
        reader = DocumentReader.fit(
            (found.texts[place] for place in train.tolist()),
            length=self.length,
            max_words=self.max_words,
            min_count=self.min_count,
            text=self.text,
            separator=self.separator,
        )
        preparation = Preparation(source="documents", reader=reader, target=target)

        def examples(index: Tensor, part: str) -> Examples | None:
            if not len(index):
                return None
            rows = index.numpy()
            where = lambda row: found.where(int(rows[row]))  # noqa: E731
            return TensorExamples(
                reader.encode(found.texts[place] for place in rows.tolist()), target.encode(labels[rows], where=where, part=part)
            )

        trained = examples(parts.train, "the training part")
        assert trained is not None
        return LoadedData(
            name="documents",
            train=trained,
            validation=examples(parts.validation, "the validation part"),
            test=examples(parts.test, "the test part"),
            signature=preparation.signature(),
            preparation=preparation,
            fingerprint=fingerprint_of(found.pieces),
            vocabulary=list(reader.vocabulary),
            padding=PADDING,
        )


@dataclass(frozen=True)
class Found:
    """Texts as they stand in files.

    Args:
        texts: one per document.
        labels: their classes, an array (N,), or None.
        table: where they stand, for messages; None for files of their own.
        files: what they were read from.
    """

    texts: Sequence[str]
    labels: Any
    table: Table | None
    files: Sequence[Path]

    def where(self, row: int) -> str | None:
        """Where a document stands."""
        if self.table is not None:
            return self.table.where(row)
        return str(self.files[row]) if len(self.files) == len(self.texts) else f"{self.files[0].name}:{row + 1}"

    @property
    def pieces(self) -> list[bytes | Path | memoryview]:
        """What a fingerprint is taken of."""
        return [piece for file in self.files for piece in (file.name.encode(), file)]


def read_documents(data: Any, text: str, target: str, separator: str, *, with_targets: WithTargets) -> Found:
    """Texts and classes of a file, a folder or a frame.

    Raises:
        DataError: it can't be read, or lacks texts, or classes where they are required.
    """
    path = Path(data) if isinstance(data, (str, Path)) else None
    if path is not None and path.is_dir():
        return _of_folder(path, with_targets)
    if path is not None and path.suffix.lower() in (".jsonl", ".ndjson"):
        return _of_lines(path, text, target, with_targets)
    table = as_table(data, "\t" if path is not None and path.suffix.lower() == ".tsv" else separator)
    values = table.column(text, "text column")
    bad = is_missing(values) | [not isinstance(value, str) for value in values.tolist()]
    if bad.any():
        row = int(bad.argmax())
        held = "missing" if is_missing(values[row : row + 1])[0] else repr(values[row])
        raise DataError(f"text {text!r} is {held}", expected="a text in every row", fix="Remove that row", where=table.where(row))
    if with_targets == "required":
        table.require([target], "target column")
    there = with_targets != "ignored" and target in table.frame.columns
    labels = table.column(target, "target column") if there else None
    return Found(values.tolist(), labels, table, [] if path is None else [path])


def _of_folder(folder: Path, with_targets: WithTargets) -> Found:
    import numpy as np

    classes = class_folders(folder)
    if not classes and with_targets == "required":
        raise DataError(f"{folder} has no class folders", expected="one folder of .txt files per class", fix="Sort the texts")
    files = [(file, each.name) for each in classes or [folder] for file in sorted(each.glob("*.txt")) if file.is_file()]
    if not files:
        raise DataError(f"{folder} holds no .txt files", expected="texts, in one folder per class", fix="Check the path")
    labels = np.array([name for _, name in files]) if classes and with_targets != "ignored" else None
    return Found([read_text(file) for file, _ in files], labels, None, [file for file, _ in files])


def _of_lines(path: Path, text: str, target: str, with_targets: WithTargets) -> Found:
    import numpy as np

    texts, labels = [], []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"this line is no JSON ({error})", expected="an object", fix="Correct it", where=where) from error
        if not isinstance(row, dict) or not isinstance(row.get(text), str):
            raise DataError(
                f"this line has no text {text!r}", expected=f'an object with the key "{text}"', fix="Correct it", where=where
            )
        if isinstance(row.get(target), (list, dict)):
            held = "a list" if isinstance(row[target], list) else "an object"
            raise DataError(f"{target!r} is {held}", expected="a class: text or a number", fix="Correct it", where=where)
        if with_targets == "required" and row.get(target) is None:
            raise DataError(f"this line has no {target!r}", expected="a class in every line", fix="Correct it", where=where)
        texts.append(row[text])
        labels.append(row.get(target))
    if not texts:
        raise DataError(f"{path.name} holds no lines", expected="one object per line", fix="Check how it was made")
    whole = with_targets != "ignored" and all(label is not None for label in labels)
    return Found(texts, np.array(labels) if whole else None, None, [path])
