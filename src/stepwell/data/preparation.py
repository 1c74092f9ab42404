"""Everything fitted on the training part, stored with the model: how new files become inputs, and outputs answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from stepwell.core.batch import Tree
from stepwell.core.errors import DataError
from stepwell.core.signature import Signature
from stepwell.data.checks import require_types
from stepwell.data.examples import Examples
from stepwell.data.targets import Target

__all__ = ["InputReader", "Preparation", "WithTargets", "reader_from_dict"]

WithTargets = Literal["required", "optional", "ignored"]


class InputReader(Protocol):
    """How one kind of file is read into examples; all of it fitted on the training part, small and JSON-able."""

    kind: str

    def read(self, data: Any, *, target: Target, with_targets: WithTargets) -> Examples: ...
    def signature(self, num_outputs: int) -> Signature: ...
    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How data was prepared for a model.

    Args:
        source: name of the data source.
        reader: how its files become inputs.
        target: what its targets mean.

    >>> from stepwell.data.embedded import Digits
    >>> from stepwell.data.split import SplitSpec
    >>> loaded = Digits().load(base=Path("."), split=SplitSpec(), task="classification", seed=0)
    >>> Preparation.from_dict(loaded.preparation.to_dict()) == loaded.preparation
    True
    """

    source: str
    reader: InputReader
    target: Target

    @property
    def task(self) -> str:
        return self.target.task

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes, in the order of their codes."""
        return self.target.classes

    @property
    def target_mean(self) -> Any:
        """A regression model's output times `target_scale` plus this is in the target's own units.

        A number; one per column where a regression has several; {name: scale} of several tasks.
        """
        return self.target.mean

    @property
    def target_scale(self) -> Any:
        return self.target.scale

    def signature(self) -> Signature:
        """What a model for this data looks like from outside."""
        return replace(self.reader.signature(self.target.num_outputs), heads=self.target.heads)

    def examples_from(self, data: Any, *, with_targets: WithTargets = "optional") -> Examples:
        """Examples of new data of the same kind.

        Args:
            data: a path, or a frame where the source reads tables.
            with_targets: "required" refuses data without targets; "optional" takes them where they are;
                "ignored" doesn't look at them: they may be gaps, or classes that training didn't have.

        Raises:
            DataError: the file is missing or can't be read, or lacks a column the model was trained with. Values of
                a category that training didn't have are coded as unknown; other columns and their order don't matter.
        """
        if isinstance(data, (str, Path)):
            data = Path(data).expanduser()
            if not data.exists():
                raise DataError(f"{data} does not exist", expected="a file or folder", fix="Check the path")
        return self.reader.read(data, target=self.target, with_targets=with_targets)

    def decode(self, outputs: Tree) -> dict[str, Any]:
        """A model's outputs as columns of answers, see `TargetEncoder.decode`."""
        return self.target.decode(outputs)

    def arrays(self, outputs: Tree) -> dict[str, Any] | None:
        """A model's outputs as arrays, where columns can't hold the answers (masks); else None."""
        make = getattr(self.target, "arrays", None)
        return None if make is None else make(outputs)

    def to_dict(self) -> dict[str, Any]:
        target = self.target.to_dict()
        return {"source": self.source, "kind": self.reader.kind, "inputs": self.reader.to_dict(), "target": target}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Preparation:
        """The inverse of `to_dict`, of what may stand in somebody else's file.

        Raises:
            DataError: something else stands there.
        """
        from stepwell.data.target_kinds import target_from_dict

        try:
            reader = reader_from_dict(value["kind"], value["inputs"])
            made = Preparation(source=value["source"], reader=reader, target=target_from_dict(value["target"]))
            require_types(made)
            made.signature()
        except (TypeError, KeyError, ValueError, AttributeError, IndexError, OverflowError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"a model's preparation can't be read ({type(error).__name__}: {str(error)[:200]})",
                expected="what training wrote beside the model",
                fix="Put the file back as it was, or train again",
            ) from error
        return made


def reader_from_dict(kind: str, value: dict[str, Any]) -> InputReader:
    """A reader of any kind from what its `to_dict` gave."""
    # Imported here: the sources import this module.
    from stepwell.data.arrays import ArrayReader
    from stepwell.data.documents import DocumentReader
    from stepwell.data.drawn import DrawnReader
    from stepwell.data.images import ImageReader
    from stepwell.data.pairs import GroupReader
    from stepwell.data.segmentation import MaskedImageReader
    from stepwell.data.series import SeriesReader
    from stepwell.data.table_source import TableReader
    from stepwell.data.text import TextReader

    readers: tuple[Any, ...] = (
        *(ArrayReader, DocumentReader, DrawnReader, GroupReader, ImageReader),
        *(MaskedImageReader, SeriesReader, TableReader, TextReader),
    )
    for reader in readers:
        if reader.kind == kind:
            return reader.from_dict(value)  # type: ignore[no-any-return]
    raise DataError(
        f"this model was prepared by an unknown reader {kind!r}",
        expected="one of " + ", ".join(reader.kind for reader in readers),
        fix="Use the version of stepwell that trained it",
    )
