"""The data source "text": a text file for character language modelling."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stepwell.core.errors import DataError
from stepwell.core.signature import Signature
from stepwell.data.examples import Examples, TokenExamples
from stepwell.data.preparation import Preparation, WithTargets
from stepwell.data.registry import DataSource, LoadedData, existing, fingerprint_of, refuse_split, refuse_task, source
from stepwell.data.split import SplitSpec
from stepwell.data.targets import Target, TargetEncoder

__all__ = ["Text", "TextReader"]

UNKNOWN = "\ufffd"


@dataclass(frozen=True)
class TextReader:
    """Characters as tokens: code 0 for one that the training part doesn't have, k + 1 for the k-th of `characters`.

    Args:
        characters: those of the training part, sorted.
        length: T, tokens per window.

    >>> reader = TextReader("abc", length=2)
    >>> reader.encode("cab!").tolist(), reader.decode(reader.encode("cab"))
    ([3, 1, 2, 0], 'cab')
    """

    characters: str
    length: int

    kind = "text"

    @property
    def vocab_size(self) -> int:
        return len(self.characters) + 1

    def encode(self, text: str) -> Tensor:
        """Tokens of a text, (L,) int64, or a smaller type where the text is long."""
        import numpy as np

        points = _code_points(text)
        known = _code_points(self.characters)
        place = np.searchsorted(known, points).clip(max=len(known) - 1)
        codes = np.where(known[place] == points, place + 1, 0)
        small = "uint8" if self.vocab_size <= 256 else "int32"
        return torch.from_numpy(codes.astype("int64" if len(codes) <= _LONG else small))

    def decode(self, tokens: Tensor) -> str:
        """The text of some tokens."""
        alphabet = UNKNOWN + self.characters
        return "".join(alphabet[token] for token in tokens.tolist())

    def read(self, data: Any, *, target: Target, with_targets: WithTargets) -> Examples:
        """Windows of a text file that cover each token once; the targets are the text itself."""
        return TokenExamples(self.encode(read_text(Path(data))), length=self.length, stride=self.length)

    def signature(self, num_outputs: int) -> Signature:
        return Signature("tokens", (self.length,), self.vocab_size, vocab_size=self.vocab_size)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(value: dict[str, Any]) -> TextReader:
        return TextReader(**value)


# From this length on, tokens are held in their smallest type and widened as windows are read.
_LONG = 1 << 24


@source("text")
class Text(DataSource):
    """A text file, read character by character, for task language_modeling.

    The first part of the text trains, the next validates, the last tests (90, 10 and 0 % unless the split says
    otherwise); the vocabulary is the training part's characters and one code for all others. Training windows start
    at every character; evaluation windows cover each character once.

    Args:
        path: the file, relative to the job file, UTF-8.
        length: T, characters per window, >= 1.
    """

    path: str
    length: int = 64

    def load(self, *, base: Path, split: SplitSpec, task: str, seed: int) -> LoadedData:
        """Read, split and prepare; see `DataSource.load`."""
        refuse_task("text", task, "language_modeling")
        split = split.filled(validation=0.1, test=0.0, by="time")
        refuse_split("text", split, "time", "file")
        if self.length < 1:
            raise DataError(
                f"data.length is {self.length}", expected="a whole number above 0", fix="Write for example length: 64"
            )
        paths = [existing(self.path, base=base)]
        texts = {"train": read_text(paths[0])}
        if split.by == "file":
            texts = _cut(texts["train"], split.within_train())
            for part, name in (("validation", split.validation_path), ("test", split.test_path)):
                if name is not None:
                    paths.append(existing(name, base=base))
                    texts[part] = read_text(paths[-1])
        else:
            texts = _cut(texts["train"], split)
        reader = TextReader("".join(sorted(set(texts["train"]))), self.length)
        target = TargetEncoder(task=task, names=("next character",))
        examples = {
            part: TokenExamples(reader.encode(text), length=self.length, stride=1 if part == "train" else self.length)
            for part, text in texts.items()
        }
        preparation = Preparation(source="text", reader=reader, target=target)
        return LoadedData(
            name="text",
            train=examples["train"],
            validation=examples.get("validation"),
            test=examples.get("test"),
            signature=preparation.signature(),
            preparation=preparation,
            fingerprint=fingerprint_of(paths),
        )


def read_text(path: Path) -> str:
    """A UTF-8 text file.

    Raises:
        DataError: an empty file, a folder, or bytes that aren't UTF-8.
    """
    if path.is_dir():
        raise DataError(f"{path.name} is a folder", expected="a text file", fix="Name a file in it")
    content = path.read_bytes()
    try:
        # Not by lines: line ends are characters like any other.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"byte {error.start} of {path.name} is not UTF-8",
            expected="UTF-8 text",
            fix="Save the file as UTF-8",
            where=f"{path.name}:{content[: error.start].count(bytes([10])) + 1}",
        ) from error
    if not text:
        raise DataError(f"{path.name} is empty", expected="text", fix="Check how the file was made", where=path.name)
    return text


def _cut(text: str, split: SplitSpec) -> dict[str, str]:
    validation, test = split.validation or 0.0, split.test or 0.0
    ends = [round(len(text) * share) for share in (1 - validation - test, 1 - test)]
    parts = {"train": text[: ends[0]], "validation": text[ends[0] : ends[1]], "test": text[ends[1] :]}
    return {name: part for name, part in parts.items() if part or name == "train"}


def _code_points(text: str) -> Any:
    import numpy as np

    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
