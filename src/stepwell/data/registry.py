"""What every data source of a job is: a frozen dataclass of settings, registered under a name, that loads data."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar, dataclass_transform

import torch

from stepwell.core.errors import DataError, JobError
from stepwell.core.signature import Signature
from stepwell.data.examples import Examples, Subset, TensorExamples
from stepwell.data.preparation import Preparation
from stepwell.data.sampling import Sampling
from stepwell.data.split import Parts, SplitSpec

SOURCES: dict[str, type[DataSource]] = {}
Class = TypeVar("Class", bound=type)


@dataclass(frozen=True, kw_only=True)
class LoadedData:
    """Data that is ready to train on.

    Args:
        name: the source's.
        train, validation, test: the parts; None where the split asks for none.
        signature: what the model is built for.
        preparation: everything fitted on the training part; stored with the model.
        fingerprint: SHA-256 of the content, hexadecimal.
        num_rows: examples per part.
        vocabulary: the word of each token id, where inputs are words.
        padding: the token id that fills short texts up, where inputs are words.
    """

    name: str
    train: Examples
    validation: Examples | None
    test: Examples | None
    signature: Signature
    preparation: Preparation
    fingerprint: str
    num_rows: dict[str, int] = field(default_factory=dict)
    vocabulary: list[str] | None = None
    padding: int | None = None

    def __post_init__(self) -> None:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        self.num_rows.update({name: len(part) for name, part in parts.items() if part is not None})

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes, in the order of their codes."""
        return self.preparation.classes


class DataSource(ABC):
    """Base of the data sources: settings are fields, `load` reads, splits and prepares.

    Every source has one setting more than it declares: `sampling`, how often an epoch draws each training example,
    see `stepwell.data.sampling`.
    """

    source_name: ClassVar[str]
    sampling: Sampling = "once"

    @abstractmethod
    def load(self, *, base: Path, split: SplitSpec, task: str, seed: int) -> LoadedData:
        """Read the data.

        Args:
            base: folder that relative paths start from (the job file's).
            split: how it is divided.
            task: what is learned, see `stepwell.data.targets.TASKS`.
            seed: of the split's random choice.

        Raises:
            DataError: the data can't be read or doesn't fit the task.
        """


@dataclass_transform(kw_only_default=True, frozen_default=True)
def source(name: str) -> Callable[[Class], Class]:
    """Register a data source: makes the class a frozen, keyword-only dataclass."""

    def register(cls: Class) -> Class:
        # Declared here, not in the base, so that it comes after the source's own settings.
        cls.__annotations__["sampling"] = Sampling
        made: Any = dataclass(frozen=True, kw_only=True)(cls)
        made.source_name = name
        SOURCES[name] = made
        return made  # type: ignore[no-any-return]

    return register


def existing(path: str | Path, *, base: Path, what: str = "data file") -> Path:
    """The file or folder a setting names, relative to `base`.

    Raises:
        DataError: there is none, or a pipe or a device.
    """
    found = Path(base, Path(path).expanduser())
    if not found.exists():
        near = sorted(entry.name for entry in found.parent.iterdir())[:8] if found.parent.is_dir() else []
        fix = (
            f"Check the path; {found.parent} holds {', '.join(near)}"
            if near
            else f"Check the path; {found.parent} is empty or absent"
        )
        raise DataError(f"{what} {str(path)!r} does not exist", expected=f"a path relative to {base}", fix=fix)
    if not (found.is_file() or found.is_dir()):
        raise DataError(
            f"{what} {str(path)!r} is a pipe or a device",  # reading it might never end
            expected="a file or a folder",
            fix="Write the data to a file first",
        )
    return found


def fingerprint_of(pieces: Iterable[bytes | Path | memoryview]) -> str:
    """SHA-256 over bytes and the content of files, in order."""
    digest = hashlib.sha256()
    for piece in pieces:
        if isinstance(piece, Path):
            with piece.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        else:
            digest.update(piece)
    return digest.hexdigest()


def parts_of(examples: Examples, parts: Parts) -> dict[str, Examples | None]:
    """Training, validation and test examples: tensors are copied, everything else is read through an index."""

    def cut(index: torch.Tensor) -> Examples | None:
        if not len(index):
            return None
        return examples.select(index) if isinstance(examples, TensorExamples) else Subset(examples, index)

    return {"train": cut(parts.train), "validation": cut(parts.validation), "test": cut(parts.test)}


def refuse_split(name: str, split: SplitSpec, *allowed: str) -> None:
    """Refuse ways of splitting that a source can't do.

    Raises:
        JobError: `split.by` is not among `allowed`.
    """
    if split.by not in allowed:
        raise JobError(
            f"split.by is {split.by} with data source {name}",
            expected=" or ".join(allowed),
            fix=f"Write split: {{by: {allowed[0]}}}, or leave by out",
        )


def refuse_task(name: str, task: str, *allowed: str) -> None:
    """Refuse tasks that a source's data can't be used for.

    Raises:
        DataError: `task` is not among `allowed`.
    """
    if task not in allowed:
        raise DataError(
            f"data source {name} can't be used for task {task}", expected=" or ".join(allowed), fix=f"Write task: {allowed[0]}"
        )
